# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of Segment Anything: the official checkpoints, brought in once, loaded by name.

A checkpoint, downloaded or the user's, is taken for hostile like any other (see
`dehaze_core.models.importer`): its tensors are known and must be exactly those of a network of
Segment Anything before a process of its own reads the pickle. What is kept is safetensors and a
card, in the user's folder of models.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.request import urlopen

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dehaze_core.errors import ModelError, SettingsError
from dehaze_core.models.architectures import Outline, check_finite, check_layout
from dehaze_core.models.cards import ModelCard, read_card
from dehaze_core.models.importer import HEAD_BYTES, refuse_kind, unpickle_elsewhere
from dehaze_core.models.importer_archive import plain_names, read_archive_outline
from dehaze_core.models.registry import delete_model, refusals_of, unwritable_folder, write_card
from dehaze_core.models.safetensors_header import read_outline
from dehaze_core.places import segmenters_folder
from dehaze_core.segmentation.sam.networks import outline_network, sam_package
from dehaze_core.segmentation.sam.tiny_vit import without_extras
from dehaze_core.segmentation.segmenter import SAM_SEGMENTERS, SamName

_META = "https://dl.fbaipublicfiles.com/segment_anything"
_MOBILE_SAM = "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM"
# pragma: allowlist nextline secret
_MOBILE_SAM_VERSION = "f706ad9c4eb7f219c00d9050e46328518ffb65d2"
_CHUNK_BYTES = 1 << 20
_SECONDS = 60.0
_SLACK_BYTES = 16 << 20
_ENCODER = "image_encoder."
_FIRST_OF_MOBILE = _ENCODER + "patch_embed.seq.0.c.weight"
_FIRST_OF_OTHERS = _ENCODER + "patch_embed.proj.bias"
_WIDTHS: Mapping[tuple[int, ...], SamName] = {
    (768,): "small",
    (1024,): "middle",
    (1280,): "large",
}

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An official checkpoint; all are licensed under Apache 2.0.

    Attributes:
        url: Where it is published.
        sha256: Digest of the file.
        size: Bytes of the file.
    """

    url: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


CHECKPOINTS: dict[SamName, Checkpoint] = {
    "mobile": Checkpoint(
        f"{_MOBILE_SAM}/{_MOBILE_SAM_VERSION}/weights/mobile_sam.pt",
        # pragma: allowlist nextline secret
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        40_728_226,
    ),
    "small": Checkpoint(
        f"{_META}/sam_vit_b_01ec64.pth",
        # pragma: allowlist nextline secret
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
    ),
    "middle": Checkpoint(
        f"{_META}/sam_vit_l_0b3195.pth",
        # pragma: allowlist nextline secret
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_249_524_607,
    ),
    "large": Checkpoint(
        f"{_META}/sam_vit_h_4b8939.pth",
        # pragma: allowlist nextline secret
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
    ),
}


def find_checkpoint(name: str) -> Checkpoint:
    """Return the official checkpoint of a size.

    Raises:
        SettingsError: There is no such size.
    """
    if name not in CHECKPOINTS:
        raise SettingsError(
            f"There is no Segment Anything '{name}'; known are {', '.join(CHECKPOINTS)}."
        )
    return CHECKPOINTS[name]


def list_cards() -> list[ModelCard]:
    """Return the cards of all weights that were brought in; a damaged one is warned of."""
    cards = []
    for name in SAM_SEGMENTERS:
        try:
            card = find_card(name)
        except ModelError as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        if card is not None:
            cards.append(card)
    return cards


def find_card(name: str) -> ModelCard | None:
    """Return the card of the weights of a size, or None where they were never brought in.

    Raises:
        ModelError: The card is damaged (MODEL_CARD).
    """
    path = segmenters_folder() / f"{name}.json"
    return read_card(path) if os.path.isfile(path) else None


def load_weights(name: SamName) -> tuple[ModelCard, dict[str, Tensor]]:
    """Return the weights of a size and their card.

    Raises:
        ModelError: They were never brought in or are gone (MODEL_WEIGHTS_MISSING), are not those of
            the card (MODEL_DIGEST), are malformed (MODEL_FORMAT) or do not fit the network
            (MODEL_SHAPE), or the packages are not installed (MODEL_PACKAGE).
    """
    card = find_card(name)
    if card is None:
        raise _missing(name)
    path = segmenters_folder() / f"{name}.safetensors"
    with refusals_of(name):
        try:
            digest = _digest(path)
        except OSError as error:
            raise _missing(name) from error
        if digest != card.sha256:
            raise ModelError(
                f"Its weights have SHA-256 {digest[:12]}..., its card says {card.sha256[:12]}...",
                hint=f"The file is damaged or was exchanged. Run 'dehaze models fetch-sam {name} "
                "--overwrite'.",
                code="MODEL_DIGEST",
            )
        with path.open("rb") as file:
            outline = read_outline(file, path.stat().st_size)
        check_layout(outline, outline_network(name))
        return card, load_file(path)


def fetch_checkpoint(
    name: str, *, overwrite: bool = False, advance: Callable[[float], None] = lambda share: None
) -> ModelCard:
    """Download an official checkpoint and import it; one that is there already is left.

    Args:
        name: Size of the network.
        overwrite: Replace other weights of this size, and download what is there again.
        advance: Told how much of the file has come, 0 to 1.

    Raises:
        ModelError: There are other weights of this size (MODEL_EXISTS), the file cannot be had
            (MODEL_DOWNLOAD) or is not the official one (MODEL_DIGEST), or what `import_checkpoint`
            raises.
        SettingsError: There is no such size.
    """
    wanted = find_checkpoint(name)
    sam_package()  # before the download of what would be of no use
    if not overwrite and (known := find_card(name)) is not None:
        if known.training.get("imported_sha256") == wanted.sha256:
            return known
        raise _taken(name)
    with _working_folder(segmenters_folder()) as work:
        path = work / wanted.file
        _download(wanted, path, advance)
        return import_checkpoint(path, overwrite=overwrite)


def import_checkpoint(path: Path, *, overwrite: bool = False) -> ModelCard:
    """Import a checkpoint of Segment Anything; its size is told by its tensors.

    Weights that were trained further are taken as well; their card says so.

    Args:
        path: A checkpoint as published, or a safetensors file with the same tensors.
        overwrite: Replace weights of this size that are there.

    Returns:
        The card; its name is the size.

    Raises:
        ModelError: There are weights of this size (MODEL_EXISTS), the packages are not installed
            (MODEL_PACKAGE), the folder cannot be written (MODEL_FOLDER), or the file is refused:
            MODEL_FILE, MODEL_SIZE, MODEL_FORMAT, MODEL_UNSAFE, MODEL_SHAPE, MODEL_VALUES,
            MODEL_TORCH, MODEL_IMPORT.
    """
    sam_package()
    folder = segmenters_folder()
    with _working_folder(folder) as work:
        try:
            name, tensors = _read(path, work / "unpickled.safetensors")
            if not overwrite and find_card(name) is not None:
                raise _taken(name)
            check_finite(tensors)
            digest = _digest(path)
        except ModelError as error:
            raise ModelError(
                f"{path} is not imported. {error.message}", hint=error.hint, code=error.code
            ) from error
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read: {error}.", code="MODEL_FILE") from error
        return _keep(name, tensors, folder, work, path.name, digest)


def remove_checkpoint(name: str) -> None:
    """Delete the weights of a size, and their card.

    Raises:
        ModelError: There are none (MODEL_UNKNOWN), or the folder cannot be written (MODEL_FOLDER).
        SettingsError: There is no such size.
    """
    find_checkpoint(name)
    folder = segmenters_folder()
    if not os.path.isfile(folder / f"{name}.json"):  # also a damaged card goes
        raise ModelError(
            f"There are no weights of the segmenter '{name}' in {folder}.",
            hint="See 'dehaze models'.",
            code="MODEL_UNKNOWN",
        )
    delete_model(folder, name)


def _keep(
    name: SamName, tensors: dict[str, Tensor], folder: Path, work: Path, source: str, digest: str
) -> ModelCard:
    """Write weights and then their card, each complete or not at all."""
    is_official = digest == CHECKPOINTS[name].sha256
    try:
        ours = work / "weights.safetensors"
        save_file(tensors, ours)
        card = ModelCard(
            name=name,
            architecture=f"segment-anything-{name}",
            config={},
            sha256=_digest(ours),
            parameters=sum(value.numel() for value in tensors.values()),
            licence="Apache-2.0" if is_official else "unknown",
            training={"official": is_official, "imported_from": source, "imported_sha256": digest},
        )
        os.replace(ours, folder / f"{name}.safetensors")
        write_card(card, folder)
    except OSError as error:
        raise unwritable_folder(folder, error) from error
    return card


def _read(path: Path, unpickled: Path) -> tuple[SamName, dict[str, Tensor]]:
    """Return the size and the tensors of a checkpoint, which fit the network of that size."""
    if not path.is_file():
        raise ModelError("It is not a file.", hint="Check the path.", code="MODEL_FILE")
    with path.open("rb") as file:
        size = _reasonable_size(os.fstat(file.fileno()).st_size)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if head.startswith(b"PK\x03\x04"):
            name, network = _checked(read_archive_outline(file, size))
            # No more trust in the process that unpickles than in the file it has read.
            again, _ = _checked(unpickle_elsewhere(path, unpickled), network)
            if again != name:
                raise _no_sam()
            source = unpickled
        elif path.suffix.lower() == ".safetensors" or head[8:9] == b"{":
            name, _ = _checked(read_outline(file, size))
            source = path
        else:
            refuse_kind(head)
    tensors = _wanted(plain_names(load_file(source)))
    return name, {key: value.contiguous() for key, value in tensors.items()}


def _checked(outline: Outline, network: nn.Module | None = None) -> tuple[SamName, nn.Module]:
    """Return the size that tensors are for, and its network without values; they must fit it."""
    found = _wanted(plain_names(outline))
    if _FIRST_OF_MOBILE in found:
        name: SamName = "mobile"
    elif _FIRST_OF_OTHERS in found and found[_FIRST_OF_OTHERS].shape in _WIDTHS:
        name = _WIDTHS[found[_FIRST_OF_OTHERS].shape]
    else:
        raise _no_sam()
    network = network or outline_network(name)
    check_layout(found, network)
    return name, network


def _wanted(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    return {name: entries[name] for name in without_extras(entries, _ENCODER)}


def _reasonable_size(size: int) -> int:
    most = max(checkpoint.size for checkpoint in CHECKPOINTS.values()) + _SLACK_BYTES
    if not 0 < size <= most:
        raise ModelError(
            f"It has {size:,} bytes, expected at most {most:,} for Segment Anything.",
            hint="Give a checkpoint as published.",
            code="MODEL_SIZE",
        )
    return size


def _download(wanted: Checkpoint, path: Path, advance: Callable[[float], None]) -> None:
    digest, done = hashlib.sha256(), 0
    try:
        # The addresses are those above, none is the user's.
        with urlopen(wanted.url, timeout=_SECONDS) as answer, path.open("wb") as file:  # nosec B310
            while done <= wanted.size and (chunk := answer.read(_CHUNK_BYTES)):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                advance(min(done / wanted.size, 1.0))
    except (OSError, HTTPException) as error:
        raise ModelError(
            f"{wanted.url} cannot be downloaded: {error}.",
            hint="Try again, or get it in another way and run 'dehaze models import-sam "
            f"{wanted.file}'.",
            code="MODEL_DOWNLOAD",
        ) from error
    if digest.hexdigest() != wanted.sha256:
        raise ModelError(
            f"{wanted.url} gave {done:,} bytes with SHA-256 {digest.hexdigest()[:12]}..., expected "
            f"{wanted.size:,} bytes with {wanted.sha256[:12]}...",
            hint="Something between here and there has changed or cut the file. Try again.",
            code="MODEL_DIGEST",
        )


@contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """Make a folder within another, on its file system, and remove it with all in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=".import-", dir=folder)
    except OSError as error:
        raise unwritable_folder(folder, error) from error
    with work as path:
        yield Path(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _taken(name: str) -> ModelError:
    return ModelError(
        f"There are weights for the segmenter '{name}' in {segmenters_folder()} already.",
        hint="Say --overwrite to replace them.",
        code="MODEL_EXISTS",
    )


def _missing(name: SamName) -> ModelError:
    size = CHECKPOINTS[name].size / 1e6
    return ModelError(
        f"The weights of the segmenter '{name}' are not here.",
        hint=f"Run 'dehaze models fetch-sam {name}' to download {size:,.0f} MB, or 'dehaze models "
        f"import-sam {CHECKPOINTS[name].file}' if you have the file; or choose the segmenter "
        "'slic' or 'felzenszwalb', which need none.",
        code="MODEL_WEIGHTS_MISSING",
    )


def _no_sam() -> ModelError:
    return ModelError(
        f"It holds no weights of Segment Anything of a known size ({', '.join(SAM_SEGMENTERS)}).",
        hint="Give a checkpoint of Segment Anything (vit_b, vit_l, vit_h) or of MobileSAM.",
        code="MODEL_SHAPE",
    )
