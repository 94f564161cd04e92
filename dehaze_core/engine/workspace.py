# SPDX-License-Identifier: GPL-3.0-or-later
"""The hidden folder beside an output in which a run keeps what it needs to resume."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from dehaze_core.errors import OutputError, ResourceError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

STATE_VERSION = 1
"""Raised whenever the meaning of stored state changes."""


class Workspace:
    """State of one run, locked against a second run on the same output.

    Args:
        destination: The output; the folder is named after it and lies beside it.

    Raises:
        OutputError: The folder cannot be made (OUTPUT_FOLDER).
        ResourceError: Another run holds it (OUTPUT_BUSY).
    """

    def __init__(self, destination: Path) -> None:
        self.folder = destination.parent / f".{destination.name}.dehaze"
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = (self.folder / "lock").open("a+", encoding="ascii")
        except OSError as error:
            raise OutputError(
                f"No folder for the work can be made beside {destination}: {error.strerror}.",
                hint="Choose an existing folder that you may write to.",
                code="OUTPUT_FOLDER",
            ) from error
        if not _try_lock(self._lock.fileno()):
            self._lock.close()
            raise ResourceError(
                f"Another run is writing {destination} right now.",
                hint="Wait for it to end, or choose another output.",
                code="OUTPUT_BUSY",
            )

    def prepare(self, identity: dict[str, Any]) -> str | None:
        """Keep the state of an earlier run if it was the same job, else start clean.

        Args:
            identity: Everything that decides the result.

        Returns:
            Why earlier state was thrown away, or None.
        """
        identity = {"state_version": STATE_VERSION, **identity}
        stored = self.read_identity()
        reason = None
        if stored != identity:
            if stored is not None:
                changed = sorted(k for k in identity if stored.get(k) != identity[k])
                reason = (
                    "An unfinished run was found, but it differs in "
                    f"{', '.join(changed)}; starting over."
                )
            self._clear()
            (self.folder / "job.json").write_text(json.dumps(identity), encoding="utf-8")
        return reason

    def read_identity(self) -> dict[str, Any] | None:
        """Return the identity of the run whose state is here, or None."""
        try:
            stored = json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return stored if isinstance(stored, dict) else None

    def delete(self) -> None:
        """Remove the folder and release the lock."""
        self._clear()
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Release the lock and keep the state."""
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
            if path.name == "lock":
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def digest(identity: dict[str, Any]) -> str:
    """Return a hash of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _try_lock(descriptor: int) -> bool:
    """Lock a file until it is closed; return False if another process holds it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
