# SPDX-License-Identifier: GPL-3.0-or-later
"""Hazy rasters for the engine's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dehaze_core.engine import backend, runner
from dehaze_core.haze.noise import fractal_noise
from dehaze_core.haze.synthesis import HazeRecipe, add_haze
from dehaze_core.models.streaming import StreamedNetwork
from tests.engine.painters import as_model


@pytest.fixture(scope="session")
def hazy() -> NDArray[np.float32]:
    """A hazy scene, (3, 420, 700) float32 linear light, with texture and uneven haze."""
    rng = np.random.default_rng(7)
    rows, cols = np.meshgrid(np.arange(420) / 80.0, np.arange(700) / 80.0, indexing="ij")
    ground = np.stack([fractal_noise(rows, cols, seed, 6) for seed in (1, 2, 3)])
    clear = 0.12 + 0.04 * ground + 0.01 * rng.standard_normal(ground.shape)
    recipe = HazeRecipe(kind="patchy", thickness=0.7, wavelength=300.0, seed=5)
    return add_haze(np.clip(clear, 0.01, 1.0).astype(np.float32), recipe).hazy


@pytest.fixture(autouse=True)
def _pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `auto` take PyTorch, whether onnxruntime is installed or not."""
    monkeypatch.setattr(backend, "FASTER_IN_ONNXRUNTIME", frozenset())


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[StreamedNetwork], None]:
    """Let the next runs use a network, whatever model they name."""

    def use(network: StreamedNetwork) -> None:
        monkeypatch.setattr(runner, "load_model", lambda name: as_model(network))

    return use
