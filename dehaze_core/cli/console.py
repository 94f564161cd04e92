# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's progress on a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class TerminalProgress:
    """Progress bar, messages and warnings on standard error.

    Args:
        quiet: Show warnings only.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description:22}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet,
        )
        self._task = self._bar.add_task("Starting", total=1.0)

    def __enter__(self) -> TerminalProgress:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._bar.stop()

    def update(self, fraction: float, text: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=fraction, description=text)

    def log(self, message: str) -> None:
        """Print a message above the bar."""
        if not self._quiet:
            self.console.print(message, markup=False)

    def warning(self, message: str) -> None:
        """Print a warning above the bar."""
        self.console.print(f"warning: {message}", style="yellow", markup=False)
