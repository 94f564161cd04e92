# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's picture can be drawn of whatever raster a user brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.windows import Window

from scripts.demo_picture import (
    View,
    display_bands,
    draw,
    find_detail,
    find_stretch,
    read_picture,
    read_thickness,
)

Maker = Callable[..., Path]


@pytest.mark.parametrize(
    "traits",
    [
        {},
        {"count": 1, "dtype": "float32", "nodata": float("nan")},
        {"count": 4, "dtype": "uint16", "nodata": 0},
        {"height": 300, "width": 90},
        {"height": 1, "width": 1},
        {"data": np.zeros((3, 40, 40), np.int16), "nodata": 0},
    ],
    ids=["rgb", "float", "16-bit", "tall", "one-pixel", "all-nodata"],
)
def test_picture_is_drawn(make_raster: Maker, tmp_path: Path, traits: dict) -> None:
    before = make_raster("before.tif", **traits)
    with rasterio.open(before) as raster:
        haze = np.full((1, raster.height, raster.width), 0.4, np.float32)
    thickness = make_raster("thickness.tif", data=haze)

    draw(before, before, thickness, tmp_path / "picture.png", "title")

    with Image.open(tmp_path / "picture.png") as picture:
        assert min(picture.size) > 500
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20


def test_colours_follow_their_interpretation(make_raster: Maker) -> None:
    path = make_raster(count=4)
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = [
            rasterio.enums.ColorInterp[c] for c in ("blue", "green", "red", "gray")
        ]

    with rasterio.open(path) as raster:
        assert display_bands(raster) == [3, 2, 1]


def test_pixels_without_data_are_transparent(make_raster: Maker) -> None:
    pixels = np.full((3, 20, 30), 900, np.uint16)
    pixels[:, :, :10] = 0
    path = make_raster(data=pixels, nodata=0)
    view = View.of(Window(0, 0, 30, 20))

    opacity = read_picture(path, view, find_stretch(path, view))[..., 3]

    assert opacity[:, :10].max() == 0
    assert opacity[:, 10:].min() == 1


def test_detail_is_where_texture_lies_under_haze(make_raster: Maker) -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((3, 400, 800), 100, np.uint8)
    pixels[:, :150, :300] = rng.integers(60, 140, (3, 150, 300))
    pixels[:, 250:, 500:] = rng.integers(60, 140, (3, 150, 300))
    haze = np.full((1, 400, 800), 0.1, np.float32)
    haze[:, 200:, 400:] = 0.9
    scene = View.of(Window(0, 0, 800, 400))

    detail = find_detail(
        make_raster(data=pixels),
        read_thickness(make_raster("thickness.tif", data=haze), scene),
        scene,
    )

    assert detail.row_off >= 200
    assert detail.col_off >= 400
