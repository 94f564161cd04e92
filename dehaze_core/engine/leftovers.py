# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs have left on the disk: found, described and removed, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

from dehaze_core.engine.disk import bytes_on_disk
from dehaze_core.engine.journal import read_journal
from dehaze_core.engine.sealed import read_sealed
from dehaze_core.engine.segments.mask_cache import MaskCache
from dehaze_core.engine.workspace import IDENTITY, JOURNAL, Workspace, is_in_use, output_name
from dehaze_core.errors import InputError, OutputError, ResourceError

_TEMPORARY = re.compile(r"\.(?P<stem>.{1,40})-[a-z0-9_]{8}\.part", re.DOTALL)
_TEMPORARY_FILES = ("pixels.", "result.")
# Nothing locks a temporary folder: one that is being written is younger than this, in seconds.
_STILL_WRITTEN = 3600.0
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """State of an unfinished run, a temporary folder that nobody took away, or kept masks.

    Attributes:
        folder: Where it is.
        kind: `unfinished` run that can be resumed, `temporary` files of no further use, or `masks`
            of rasters that were segmented, which save time when these are segmented again.
        output: Name of the file that was to be written; of temporary files only its beginning, of
            masks nothing.
        modified: When something in it was last written, seconds since the epoch.
        size: Bytes on the disk.
        in_use: A run is working with it right now.
        finished_blocks: Number of blocks whose results are stored.
        blocks: Number of all blocks; None where the records do not say.
    """

    folder: Path
    kind: Literal["unfinished", "temporary", "masks"]
    output: str
    modified: float
    size: int
    in_use: bool
    finished_blocks: int = 0
    blocks: int | None = None

    @property
    def age_days(self) -> float:
        """Days since something was last written."""
        return max(time.time() - self.modified, 0.0) / _DAY

    def as_dict(self) -> dict[str, Any]:
        """Return the leftover as JSON-able data."""
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "output": self.output,
            "age_days": round(self.age_days, 3),
            "bytes": self.size,
            "in_use": self.in_use,
            "finished_blocks": self.finished_blocks,
            "blocks": self.blocks,
        }


def find_leftovers(folders: Sequence[Path], *, recursive: bool = False) -> list[Leftover]:
    """Return what runs have left in folders, links not followed, in order of their paths.

    Args:
        folders: Where to look.
        recursive: Look in all folders below, too.

    Raises:
        InputError: One of the folders does not exist (INPUT_MISSING).
    """
    found: dict[Path, Leftover] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"There is no folder {folder}.", hint="Check the path.", code="INPUT_MISSING"
            )
        for candidate in _hidden_folders(folder, recursive):
            leftover = _describe(candidate)
            if leftover is not None:
                found[candidate.resolve()] = leftover
    return [found[path] for path in sorted(found)]


def find_masks() -> list[Leftover]:
    """Return the user's cache of masks, or nothing where it is empty."""
    cache = MaskCache.of_user()
    if not cache.files():
        return []
    size, modified = _size_and_time(cache.folder)
    return [Leftover(cache.folder, "masks", "", modified, size, in_use=False)]


def remove_leftover(leftover: Leftover) -> bool:
    """Delete a leftover unless a run works with it; return whether it is gone."""
    if leftover.kind == "masks":
        return MaskCache(leftover.folder).clear()
    now = _describe(leftover.folder)
    if now is None or now.in_use:
        return False
    if now.kind == "temporary":
        shutil.rmtree(now.folder, ignore_errors=True)
    else:
        try:
            Workspace(now.folder.parent / now.output).delete()
        except (ResourceError, OutputError):
            return False
    return not now.folder.exists()


def _hidden_folders(folder: Path, recursive: bool) -> Iterator[Path]:
    for path, names, _ in os.walk(folder):
        for name in names:
            if name.startswith("."):
                yield Path(path, name)
        if not recursive:
            return
        # Nothing else is to be found in a leftover itself.
        names[:] = [name for name in names if _describe_name(Path(path, name)) is None]


def _describe_name(folder: Path) -> tuple[Literal["unfinished", "temporary"], str] | None:
    """Return kind and output of a leftover, None for any other folder."""
    output = output_name(folder)
    if output is not None:
        return "unfinished", output
    match = _TEMPORARY.fullmatch(folder.name)
    if match is None or folder.is_symlink():
        return None
    try:
        ours = all(name.startswith(_TEMPORARY_FILES) for name in os.listdir(folder))
    except OSError:
        # What cannot be looked into, or is gone by now, is not ours to judge.
        return None
    return ("temporary", match["stem"]) if ours else None


def _describe(folder: Path) -> Leftover | None:
    known = _describe_name(folder)
    if known is None:
        return None
    kind, output = known
    try:
        size, modified = _size_and_time(folder)
    except FileNotFoundError:
        # A run has ended meanwhile.
        return None
    if kind == "temporary":
        in_use = time.time() - modified < _STILL_WRITTEN
        return Leftover(folder, kind, output, modified, size, in_use)
    finished, blocks = _finished(folder)
    return Leftover(folder, kind, output, modified, size, is_in_use(folder), finished, blocks)


def _size_and_time(folder: Path) -> tuple[int, float]:
    """Return the bytes on the disk and the time of the last change of all files in a folder."""
    size, modified = 0, folder.lstat().st_mtime
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                state = os.lstat(os.path.join(path, name))
            except FileNotFoundError:
                # A run is at work in there.
                continue
            size += bytes_on_disk(state)
            modified = max(modified, state.st_mtime)
    return size, modified


def _finished(folder: Path) -> tuple[int, int | None]:
    """Return how many blocks are finished, and of how many, as far as the records tell."""
    finished = sum(1 for _ in read_journal(folder / JOURNAL))
    identity = read_sealed(folder / IDENTITY) or {}
    size = identity.get("block_size")
    try:
        shape = json.loads((folder / "result" / "zarr.json").read_bytes())["shape"]
        _, height, width = shape
    except (OSError, ValueError, KeyError, TypeError):
        return finished, None
    if not isinstance(size, int):
        return finished, None
    return finished, ceil(height / size) * ceil(width / size)
