# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as the tests of the frame contract use it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from dehaze_core.engine import RunSettings, run, runner
from dehaze_core.models import Model, load_model


class Listener:
    """Keeps the warnings of a run."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def update(self, fraction: float, text: str) -> None:
        """Ignore progress."""

    def log(self, message: str) -> None:
        """Ignore a message."""

    def warning(self, message: str) -> None:
        """Keep a warning."""
        self.warnings.append(message)


@pytest.fixture(scope="package")
def shared_model() -> Callable[[str], Model]:
    """The loader of models, which reads each from disk once for all tests here."""
    return cache(load_model)


@pytest.fixture
def dehaze(
    shared_model: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Return a function that runs the engine and returns its warnings."""
    monkeypatch.setattr(runner, "load_model", shared_model)

    def dehaze_one(source: str, output: Path, **settings: object) -> list[str]:
        listener = Listener()
        # One thread: with more, those of torch would wait for each other most of the time.
        options = {"device": "cpu", "block_size": 64, "threads": 1, **settings}
        run(RunSettings(source=source, destination=str(output), **options), listener)  # type: ignore[arg-type]
        return listener.warnings

    return dehaze_one
