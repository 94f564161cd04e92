# SPDX-License-Identifier: GPL-3.0-or-later
"""Clear rasters, and the way from settings to files and back to arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from dehaze_core.engine import Silent
from dehaze_core.synthesis import SynthesisReport, SynthesisSettings, synthesize


def read(path: Path | str) -> NDArray[Any]:
    """Return all bands of a raster."""
    with rasterio.open(path) as raster:
        pixels: NDArray[Any] = raster.read()
    return pixels


def clear_pixels(dtype: str = "uint8", height: int = 150, width: int = 180) -> NDArray[Any]:
    """Return three bands of clear ground, dark enough that haze shows, never 0."""
    noise = np.random.default_rng(11).uniform(0.05, 0.6, (3, height, width))
    top = {"uint8": 255, "uint16": 10_000}.get(dtype, 1)
    return (noise * top).astype(dtype)


@pytest.fixture
def add_haze(tmp_path: Path) -> Callable[..., SynthesisReport]:
    """Run a synthesis: `add_haze(source, kind="plume", ...)` writes `hazy.tif` and its truth."""

    def run(
        source: Path, name: str = "hazy", progress: Silent | None = None, **options: Any
    ) -> SynthesisReport:
        settings = {
            "source": str(source),
            "destination": str(tmp_path / f"{name}.tif"),
            "thickness_output": str(tmp_path / f"{name}_tau.tif"),
            "airlight_output": str(tmp_path / f"{name}_air.tif"),
            "truth_output": str(tmp_path / f"{name}.json"),
            "block_size": 64,
            **options,
        }
        return synthesize(SynthesisSettings(**settings), progress or Silent())

    return run


@pytest.fixture
def texture(make_raster: Callable[..., Path]) -> Path:
    """A picture of haze."""
    rows, cols = np.mgrid[0:48, 0:64] / 9.0
    values = 4000 + 3000 * np.sin(rows) * np.cos(0.7 * cols)
    return make_raster("texture.tif", data=values[None].astype("uint16"))


@pytest.fixture
def dem(make_raster: Callable[..., Path]) -> Path:
    """Heights in another CRS: 400 to 700 m, rising to the south, all around the usual rasters."""
    heights = np.linspace(400, 700, 60)[:, None] + np.zeros((60, 80))
    place = rasterio.transform.from_origin(14.99, 48.76, 0.0006, 0.0006)
    return make_raster(
        "dem.tif", data=heights[None].astype("float32"), crs="EPSG:4326", transform=place
    )
