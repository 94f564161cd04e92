# SPDX-License-Identifier: GPL-3.0-or-later
"""How the engine tells what it is doing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Listener of a run; the command line, the worker process and tests each bring their own."""

    def update(self, fraction: float, text: str) -> None:
        """Take note that `fraction` (0..1) of the run is done, and what is being done now."""
        ...

    def log(self, message: str) -> None:
        """Take note of something worth knowing."""
        ...

    def warning(self, message: str) -> None:
        """Take note of something the user should look at."""
        ...


class Silent:
    """A listener that does not listen."""

    def update(self, fraction: float, text: str) -> None:
        """Ignore progress."""

    def log(self, message: str) -> None:
        """Ignore a message."""

    def warning(self, message: str) -> None:
        """Ignore a warning."""
