# SPDX-License-Identifier: GPL-3.0-or-later
"""The zip archive around a PyTorch checkpoint, checked entry by entry.

`torch.save` stores its entries without compression: `NAME/data.pkl`, the values of each storage as
`NAME/data/KEY`, and a few small notes. Anything else in the archive is no checkpoint.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, TypeVar

from dehaze_core.errors import ModelError
from dehaze_core.models.architectures import Slot
from dehaze_core.models.importer_pickle import follow_pickle

MOST_PICKLE_BYTES = 1 << 20
_MOST_DIRECTORY_BYTES = 1 << 20
_NOTE_BYTES = 64
_NOTES = {"version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"}
_STORAGE = re.compile(r"data/([0-9]{1,6})")
_ENCRYPTED = 0x1
# All that zipfile raises, besides OSError, where an archive contradicts itself.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
# Where a state dictionary lies in what training programs save.
_WRAPPERS = ("state_dict", "model")
_PARALLEL = "module."

Leaf = TypeVar("Leaf")


def read_archive_outline(file: BinaryIO, size: int) -> dict[str, Slot]:
    """Read the names, types and shapes of the tensors in a PyTorch checkpoint; nothing is run.

    Args:
        file: The checkpoint.
        size: Its size in bytes.

    Raises:
        ModelError: It is not as `torch.save` writes it (MODEL_FORMAT), its pickle does more than
            tensors need (MODEL_UNSAFE), or it holds no state dictionary (MODEL_SHAPE).
    """
    try:
        with zipfile.ZipFile(_ShortReads(file)) as archive:
            entries = _entries(archive, size)
            storages = {
                found[1]: entry.file_size
                for name, entry in entries.items()
                if (found := _STORAGE.fullmatch(name))
            }
            order = archive.read(entries["byteorder"]) if "byteorder" in entries else b"little"
            program = archive.read(entries["data.pkl"])
    except _ZIP_ERRORS as error:
        raise _malformed(f"is damaged: {error or 'it ends too early'}") from error
    if order != b"little":
        raise _malformed("was written on a big-endian machine")
    return state_dict_in(follow_pickle(program, storages), Slot)


def state_dict_in(content: object, leaf: type[Leaf]) -> dict[str, Leaf]:
    """Return the state dictionary that a checkpoint is or contains, by the network's own names.

    Args:
        content: What the checkpoint holds.
        leaf: Type that all entries of a state dictionary are of.

    Raises:
        ModelError: There is none (MODEL_SHAPE).
    """
    inner = [content.get(name) for name in _WRAPPERS] if isinstance(content, dict) else []
    for candidate in (content, *inner):
        if (
            isinstance(candidate, dict)
            and candidate
            and all(isinstance(key, str) for key in candidate)
            and all(isinstance(value, leaf) for value in candidate.values())
        ):
            return plain_names(candidate)
    raise ModelError(
        "No dictionary of tensors was found in it, neither at its top nor under "
        f"{' or '.join(map(repr, _WRAPPERS))}.",
        hint="Save model.state_dict(), not the model.",
        code="MODEL_SHAPE",
    )


def plain_names(tensors: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return tensors without the prefix that `torch.nn.DataParallel` gives all their names."""
    if all(name.startswith(_PARALLEL) for name in tensors):
        return {name.removeprefix(_PARALLEL): value for name, value in tensors.items()}
    return dict(tensors)


class _ShortReads:
    """A file that hands out no more at once than the directory of a checkpoint may take.

    `zipfile` makes an object of every entry before anyone can count them; a directory of millions
    would take all memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        wanted = size if 0 <= size <= _MOST_DIRECTORY_BYTES else _MOST_DIRECTORY_BYTES + 1
        data = self._file.read(wanted)
        if len(data) > _MOST_DIRECTORY_BYTES:
            raise ValueError(f"its directory takes more than {_MOST_DIRECTORY_BYTES:,} bytes")
        return data


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name below the archive's one folder."""
    listed = archive.infolist()
    folders = {entry.filename.split("/", 1)[0] for entry in listed}
    entries = {entry.filename.partition("/")[2]: entry for entry in listed}
    if archive.comment or len(folders) != 1 or len(entries) != len(listed):
        raise _malformed("has several top folders, entries of one name, or a comment")
    if "data.pkl" not in entries:
        raise _malformed(f"has no data.pkl ({_first(listed)})")
    for name, entry in entries.items():
        if not (name == "data.pkl" or name in _NOTES or _STORAGE.fullmatch(name)):
            raise _malformed(f"holds {entry.filename[:120]!r}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            raise _malformed(f"holds {entry.filename[:120]!r}, compressed or encrypted")
        if entry.compress_size != entry.file_size or (
            name in _NOTES and entry.file_size > _NOTE_BYTES
        ):
            raise _malformed(f"holds {entry.filename[:120]!r} of contradictory or absurd size")
    if sum(entry.file_size for entry in listed) > size:
        raise _malformed("holds more bytes than the file has: its entries overlap")
    if entries["data.pkl"].file_size > MOST_PICKLE_BYTES:
        raise _malformed(f"has a data.pkl of more than {MOST_PICKLE_BYTES:,} bytes")
    return entries


def _first(listed: list[Any]) -> str:
    names = [repr(entry.filename[:60]) for entry in listed[:3]]
    return f"it holds {', '.join(names)}" if names else "it is empty"


def _malformed(what: str) -> ModelError:
    return ModelError(
        f"As an archive of torch.save, the file {what}.",
        hint="Expected is a file that torch.save of PyTorch 1.6 or later wrote, unchanged.",
        code="MODEL_FORMAT",
    )
