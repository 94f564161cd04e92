# SPDX-License-Identifier: GPL-3.0-or-later
"""Any window of synthetic haze by itself equals the same part of the whole, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from dehaze_core.grid import Block, Window
from dehaze_core.haze.bands import band_haze
from dehaze_core.scene import Radiometry, open_scene
from dehaze_core.synthesis import SynthesisSettings
from dehaze_core.synthesis.painter import HazePainter, HazyBlock
from dehaze_core.synthesis.recipe import draw_fields
from dehaze_core.synthesis.settings import HazeClass
from dehaze_core.synthesis.terrain import Terrain
from tests.synthesis.conftest import clear_pixels, read

MakeRaster = Callable[..., Path]

HEIGHT, WIDTH = 90, 110
EVERYTHING: dict[str, Any] = {
    "adjacency": 1.3,
    "noise": (1e-4, 2e-3),
    "airlight_variation": 0.05,
    "thickness": 0.9,
    "seed": 3,
}


def windows() -> st.SearchStrategy[Window]:
    def within(row: int, col: int) -> st.SearchStrategy[Window]:
        sizes = st.tuples(st.integers(1, HEIGHT - row), st.integers(1, WIDTH - col))
        return sizes.map(lambda size: Window(row, col, *size))

    corners = st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1))
    return corners.flatmap(lambda corner: within(*corner))


def painted(painter: HazePainter, window: Window) -> HazyBlock:
    block = Block(0, window, window.padded(painter.halo).clipped(HEIGHT, WIDTH))
    return painter.paint(block, painter.load(block))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["patchy", "valley"])
def test_overlapping_windows_agree_to_the_last_bit(
    make_raster: MakeRaster, dem: Path, kind: HazeClass, dtype: str
) -> None:
    pixels = clear_pixels(dtype, HEIGHT, WIDTH)
    pixels[:, 20:30, 40:60] = 0
    source = make_raster(data=pixels, nodata=0)
    heights = str(dem) if kind == "valley" else None
    asked = SynthesisSettings(
        source=str(source), destination="unused.tif", kind=kind, dem=heights, **EVERYTHING
    )
    with open_scene(str(source)) as scene:
        terrain = Terrain(heights, scene.frame, None, 100.0) if heights else None
        fields = draw_fields(asked, scene.frame)
        bands = band_haze((0, 1, 2), scene.frame.color_interp, 0.9)
        radiometry = Radiometry.for_scene(scene, (0, 1, 2))
        # Not rounded: rounding would hide differences.
        painter = HazePainter(scene, radiometry, fields, bands, terrain, 1.3, "float32")
        whole = painted(painter, scene.frame.window)

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
        @given(windows())
        def check(window: Window) -> None:
            part = painted(painter, window)
            place = (..., *window.slices)
            assert np.array_equal(part.pixels, whole.pixels[place])
            assert np.array_equal(part.thickness, whole.thickness[place], equal_nan=True)
            assert np.array_equal(part.airlight, whole.airlight[place], equal_nan=True)

        check()


@pytest.mark.parametrize("kind", get_args(HazeClass))
def test_the_block_size_never_changes_a_pixel(
    make_raster: MakeRaster,
    add_haze: Callable[..., Any],
    texture: Path,
    dem: Path,
    tmp_path: Path,
    kind: HazeClass,
) -> None:
    source = make_raster(data=clear_pixels())
    options = {
        **EVERYTHING,
        "kind": kind,
        "texture": str(texture) if kind == "texture" else None,
        "dem": str(dem) if kind == "valley" else None,
    }

    add_haze(source, "whole", block_size=256, **options)
    add_haze(source, "blocks", block_size=67, **options)

    for layer in ("", "_tau", "_air"):
        whole, blocks = (read(tmp_path / f"{name}{layer}.tif") for name in ("whole", "blocks"))
        assert np.array_equal(whole, blocks)


@pytest.mark.parametrize("origin", [(500_000, 5_400_000), (500_003.3, 5_400_007.1)])
def test_tiles_of_one_grid_fit_together(
    make_raster: MakeRaster,
    add_haze: Callable[..., Any],
    tmp_path: Path,
    origin: tuple[float, float],
) -> None:
    pixels = clear_pixels()
    x, y = origin
    mosaic = make_raster("mosaic.tif", data=pixels, transform=from_origin(x, y, 10, 10))
    place = from_origin(x + 10 * 37, y - 10 * 22, 10, 10)
    tile = make_raster("tile.tif", data=pixels[:, 22:92, 37:150], transform=place)
    options = {**EVERYTHING, "adjacency": 0.0, "wavelength_m": 900}

    add_haze(mosaic, "whole", **options)
    add_haze(tile, "part", **options)

    for layer in ("", "_tau", "_air"):
        whole, part = (read(tmp_path / f"{name}{layer}.tif") for name in ("whole", "part"))
        assert np.array_equal(whole[:, 22:92, 37:150], part)


def test_haze_is_no_larger_in_metres_on_finer_pixels(
    make_raster: MakeRaster, add_haze: Callable[..., Any], tmp_path: Path
) -> None:
    options = {"thickness": 0.5, "wavelength_m": 3000, "seed": 5}
    coarse = make_raster("coarse.tif", data=clear_pixels())
    finer = from_origin(500_000, 5_400_000, 5, 5)
    fine = make_raster("fine.tif", data=clear_pixels("uint8", 300, 360), transform=finer)

    add_haze(coarse, "a", **options)
    add_haze(fine, "b", **options)

    large = read(tmp_path / "b_tau.tif")[0].reshape(150, 2, 180, 2).mean(axis=(1, 3))
    assert np.abs(large - read(tmp_path / "a_tau.tif")[0]).max() < 0.02


def test_the_frame_of_an_extreme_grid_is_no_obstacle(
    make_raster: MakeRaster, add_haze: Callable[..., Any], tmp_path: Path
) -> None:
    turned = rasterio.Affine(7, 2, -3e6, 1.5, -6, 9e6)
    source = make_raster(data=clear_pixels("uint8", 40, 50), transform=turned)

    add_haze(source, level="L3")

    assert np.isfinite(read(tmp_path / "hazy_tau.tif")).all()
