# SPDX-License-Identifier: GPL-3.0-or-later
"""Outputs are written aside, and given their name in one step when they are complete."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dehaze_core.engine.disk import write_failure
from dehaze_core.errors import DehazeError, OutputError
from dehaze_core.scene.gdal_source import GDAL_ERRORS

SIDECAR = ".aux.xml"
"""Added to a file's name, the file in which GDAL keeps what the format cannot hold."""

_TRIES, _PAUSE = 10, 0.1


@contextmanager
def temporary_folder(destination: Path, parent: Path | None) -> Iterator[Path]:
    """Make a folder on the disk of the destination that is gone in the end.

    Args:
        destination: The output.
        parent: Where to make it; beside the destination if None.

    Raises:
        OutputError: It can't be made (OUTPUT_FOLDER, OUTPUT_PERMISSION, OUTPUT_DISK_FULL).
    """
    try:
        made = tempfile.mkdtemp(
            prefix=f".{destination.stem[:40]}-", suffix=".part", dir=parent or destination.parent
        )
    except FileNotFoundError as error:
        raise OutputError(
            f"The folder {parent or destination.parent} does not exist.",
            hint="Create it, or choose another output.",
            code="OUTPUT_FOLDER",
        ) from error
    except OSError as error:
        raise write_failure(destination, 0, error) from error
    try:
        yield Path(made)
    finally:
        _remove(Path(made))


def _remove(folder: Path) -> None:
    """Remove a folder into which threads of zarr may still be writing, after one has failed."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_PAUSE)


@contextmanager
def write_errors(destination: Path, needed: int) -> Iterator[None]:
    """Explain errors while the temporary files are still there, so that free space is as it was.

    Args:
        destination: The output.
        needed: Bytes that writing it takes, about.
    """
    try:
        yield
    except DehazeError:
        raise
    except GDAL_ERRORS as error:
        raise write_failure(destination, needed, error) from error


def put_file(made: Path, destination: Path, *, overwrite: bool = True) -> None:
    """Give a verified file its name in one step that survives a power failure.

    Where there are sidecars the old file goes first, so that at no moment a file of that name lies
    beside the sidecar of another.

    Raises:
        OutputError: There is a file of that name, and it is not to be replaced (OUTPUT_EXISTS).
    """
    _sync(made)
    if not overwrite:
        _refuse_existing(destination)
    # Those of the old file (statistics, overviews) would be taken for the new one's.
    pairs = [(Path(f"{made}{s}"), Path(f"{destination}{s}")) for s in (SIDECAR, ".ovr", ".msk")]
    if overwrite and any(path.exists() for pair in pairs for path in pair):
        destination.unlink(missing_ok=True)
    for new, old in pairs:
        if new.exists():
            _sync(new)
            os.replace(new, old)
        else:
            old.unlink(missing_ok=True)
    if overwrite:
        os.replace(made, destination)
    else:
        _put_in_free_place(made, destination)
    _sync_folder(destination.parent)


def put_folder(made: Path, destination: Path, *, overwrite: bool = True) -> None:
    """Give a verified folder its name; an old one of that name is moved aside before.

    No system replaces a folder that is not empty in one step, so there is a moment without any
    folder of that name, but none with half a folder.

    Raises:
        OutputError: There is a folder of that name, and it is not to be replaced (OUTPUT_EXISTS).
    """
    for folder, _, names in os.walk(made):
        for name in names:
            _sync(Path(folder) / name)
        _sync_folder(Path(folder))
    old = made.with_name(f"{made.name}.old")
    if not overwrite:
        _refuse_existing(destination)
    elif destination.exists():
        os.replace(destination, old)
    try:
        os.replace(made, destination)
    except OSError:
        if old.exists():
            os.replace(old, destination)
        elif not overwrite:
            # One that has appeared at this very moment is in the way.
            _refuse_existing(destination)
        raise
    _sync_folder(destination.parent)


def _put_in_free_place(made: Path, destination: Path) -> None:
    """Give a file a name that another program may take at any moment."""
    try:
        # Unlike a renaming, this never replaces a file.
        os.link(made, destination)
    except FileExistsError:
        # Ours, put there a moment ago.
        Path(f"{destination}{SIDECAR}").unlink(missing_ok=True)
        _refuse_existing(destination)
        raise
    except OSError:
        # Some disks, those of memory cards for one, have no links.
        _refuse_existing(destination)
        os.replace(made, destination)
    else:
        made.unlink()


def _refuse_existing(destination: Path) -> None:
    if os.path.lexists(destination):
        raise OutputError(
            f"{destination} has appeared during the work; it is not replaced.",
            hint="Move it away and run again, or allow overwriting; finished blocks are kept.",
            code="OUTPUT_EXISTS",
        )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(path: Path) -> None:
    if os.name == "posix":
        _sync(path)
