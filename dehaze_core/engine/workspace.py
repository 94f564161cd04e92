# SPDX-License-Identifier: GPL-3.0-or-later
"""The hidden folder beside an output in which a run keeps what it needs to resume."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dehaze_core.engine.disk import write_failure
from dehaze_core.engine.sealed import read_sealed, write_sealed
from dehaze_core.errors import OutputError, ResourceError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

STATE_VERSION = 2
"""Raised whenever the meaning of stored state changes."""

LOCK, IDENTITY, JOURNAL = "lock", "job.json", "blocks.jsonl"
"""Names of files in the folder: its lock, what the run is, which blocks are finished."""

_LAYERS = "layers.json"

_PREFIX, _SUFFIX = ".", ".dehaze"
# What the systems say of a lock that another process holds.
_HELD = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}
# Whoever lists unfinished runs holds a lock for an instant.
_TRIES, _BETWEEN_TRIES = 3, 0.1


class Workspace:
    """State of one run, locked against a second run on the same output.

    Args:
        destination: The output; the folder is named after it and lies beside it.

    Raises:
        OutputError: The folder cannot be made or locked (OUTPUT_FOLDER, OUTPUT_NAME).
        ResourceError: Another run holds it (OUTPUT_BUSY).
    """

    def __init__(self, destination: Path) -> None:
        self.folder = _folder_of(destination)
        _check_name(destination)
        try:
            lock = _lock(self.folder)
        except OSError as error:
            raise _no_folder(destination, error) from error
        if lock is None:
            raise ResourceError(
                f"Another run is writing {destination} right now.",
                hint="Wait for it to end, or choose another output.",
                code="OUTPUT_BUSY",
            )
        self._lock = lock

    def prepare(self, identity: dict[str, Any]) -> str | None:
        """Keep the state of an earlier run if it was the same job, else start clean.

        Args:
            identity: Everything that decides the result.

        Returns:
            Why earlier state was thrown away, or None.

        Raises:
            OutputError: The folder cannot be written.
        """
        identity = {"state_version": STATE_VERSION, **identity}
        stored = self.read_identity()
        if stored == identity:
            return None
        reason = None
        if stored is not None:
            changed = sorted(k for k in identity if stored.get(k) != identity[k])
            reason = (
                f"An unfinished run was found, but it differs in {', '.join(changed)}; "
                "starting over."
            )
        elif any((self.folder / name).exists() for name in (IDENTITY, JOURNAL)):
            reason = "An unfinished run was found, but its records are damaged; starting over."
        with self._writing():
            self._clear()
        write_sealed(self.folder / IDENTITY, identity)
        return reason

    def read_identity(self) -> dict[str, Any] | None:
        """Return the identity of the run whose state is here, or None."""
        return read_sealed(self.folder / IDENTITY)

    def claim(self, layers: Sequence[str]) -> None:
        """Note which files the run writes before its destination, so that it may go on with them.

        Raises:
            OutputError: The folder cannot be written.
        """
        write_sealed(self.folder / _LAYERS, {"layers": [os.path.abspath(path) for path in layers]})

    def empty_folder(self, name: str) -> Path:
        """Return a folder in here, without what a killed run may have left in it.

        Raises:
            OutputError: The folder cannot be made.
        """
        folder = self.folder / name
        with self._writing():
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
        return folder

    def folder_for(self, output: Path) -> Path | None:
        """Return an empty folder for temporary files on an output's disk; None for beside it."""
        if output.parent.stat().st_dev != self.folder.stat().st_dev:
            return None
        return self.empty_folder("output")

    def delete(self) -> None:
        """Remove the folder as far as it can be, and release the lock."""
        with suppress(OSError):
            self._clear()
            if sys.platform == "win32":
                # An open file cannot be removed there.
                self._lock.close()
            # Still locked: a run that starts now finds this lock, or makes a folder of its own.
            (self.folder / LOCK).unlink(missing_ok=True)
            self.folder.rmdir()
        self._lock.close()

    def close(self) -> None:
        """Release the lock; keep the state, or nothing at all where a run came to none."""
        if self._lock.closed:
            # Deleted before: by now the folder may be another run's.
            return
        if not (self.folder / IDENTITY).exists():
            self.delete()
        self._lock.close()

    def __enter__(self) -> Workspace:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        self.close()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name == LOCK:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_failure(self.folder, 0, error) from error


def claimed_layers(destination: Path) -> frozenset[str]:
    """Return absolute paths of the files that an unfinished run writes before its destination."""
    record = read_sealed(_folder_of(destination) / _LAYERS) or {}
    return frozenset(record.get("layers", ()))


def output_name(folder: Path) -> str | None:
    """Return the name of the output whose workspace a folder is, or None if it is none.

    A workspace is a real folder of the right name that holds a lock.
    """
    name = folder.name
    fits = name.startswith(_PREFIX) and name.endswith(_SUFFIX) and len(name) > len(_SUFFIX) + 1
    lock = folder / LOCK
    if not fits or folder.is_symlink() or lock.is_symlink() or not lock.is_file():
        return None
    return name[len(_PREFIX) : -len(_SUFFIX)]


def is_in_use(folder: Path) -> bool:
    """Tell whether a run holds a workspace right now."""
    try:
        with (folder / LOCK).open("r+", encoding="ascii") as lock:
            return not _try_lock(lock.fileno())
    except OSError:
        # Whose lock cannot be opened is not ours to judge.
        return True


def digest(identity: dict[str, Any]) -> str:
    """Return a hash of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _folder_of(destination: Path) -> Path:
    return destination.parent / f"{_PREFIX}{destination.name}{_SUFFIX}"


def _check_name(destination: Path) -> None:
    try:
        str(destination).encode()
    except UnicodeEncodeError as error:
        raise OutputError(
            f"The output path {str(destination)!a} holds bytes that are not UTF-8.",
            hint="Choose another name or folder.",
            code="OUTPUT_NAME",
        ) from error


def _lock(folder: Path) -> IO[str] | None:
    """Make a folder and lock it until the returned file is closed; None if another run has it."""
    for _ in range(_TRIES):
        if folder.is_symlink():
            # What is thrown away in there would be somebody else's.
            raise FileExistsError(f"{folder} is a link")
        lock = _open_lock(folder)
        if lock is not None:
            try:
                if _try_lock(lock.fileno()) and _is_still(folder / LOCK, lock):
                    return lock
            except OSError:
                lock.close()
                raise
            lock.close()
        time.sleep(_BETWEEN_TRIES)
    return None


def _open_lock(folder: Path) -> IO[str] | None:
    """Make a folder and open its lock; None if a run that ended has just removed the folder."""
    try:
        folder.mkdir(exist_ok=True)
        return (folder / LOCK).open("a+", encoding="ascii")
    except FileNotFoundError:
        if not folder.parent.is_dir():
            raise
    except FileExistsError:
        if os.path.lexists(folder) and not folder.is_dir():
            raise
    return None


def _is_still(path: Path, lock: IO[str]) -> bool:
    """Tell whether a lock was not removed by a run that ended while it was being taken."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool:
    """Lock a file until it is closed; return False if another process holds it.

    Raises:
        OSError: The disk knows no locks.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            raise
        return False
    return True


def _no_folder(destination: Path, error: OSError) -> OutputError:
    failure = write_failure(destination, 0, error)
    if failure.code == "OUTPUT_NAME":
        return failure
    return OutputError(
        f"No folder for the work can be made and locked beside {destination}: "
        f"{error.strerror or error}.",
        hint="Choose an existing folder that you may write to, on a disk that can lock files.",
        code="OUTPUT_FOLDER",
    )
