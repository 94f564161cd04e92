# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene as a small picture: means over what is valid, whatever is read at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from rasterio.enums import Resampling

from dehaze_core.engine.segments import scene_picture as module
from dehaze_core.engine.segments.scene_picture import ScenePicture, scene_picture, shrunk_shape
from dehaze_core.scene import Radiometry, open_scene
from tests.conftest import random_pixels

MakeRaster = Callable[..., Path]


def picture_of(path: Path, side: int, bands: tuple[int, ...] = (0, 1, 2)) -> ScenePicture:
    with open_scene(str(path)) as scene:
        radiometry = Radiometry.for_scene(scene, bands)
        return scene_picture(scene, bands, radiometry, side, lambda share: None)


def test_pixels_are_means_of_whole_cells(make_raster: MakeRaster) -> None:
    data = random_pixels((3, 300, 600), "uint8", 1)

    picture = picture_of(make_raster(data=data), 200)

    means = data.reshape(3, 100, 3, 200, 3).mean(axis=(2, 4)).round()
    assert_array_equal(picture.pixels, means.transpose(1, 2, 0))
    assert picture.valid.all()


def test_missing_pixels_do_not_count(make_raster: MakeRaster) -> None:
    data = np.full((3, 60, 80), 100, np.uint8)
    data[:, :30, :40] = 0
    data[:, 4:6, 4:6] = 50

    picture = picture_of(make_raster(data=data, nodata=0), 20)

    assert picture.pixels[1, 1].tolist() == [50, 50, 50]
    # The cell of rows 28 to 31 has two rows of data, and their mean.
    assert picture.pixels[7, 3].tolist() == [100, 100, 100]
    expected = np.zeros((15, 20), bool)
    expected[7:] = expected[:, 10:] = expected[1, 1] = True
    assert_array_equal(picture.valid, expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_what_is_read_at_once_changes_nothing(
    make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    data = random_pixels((3, 257, 391), dtype, 2)
    data[:, 40:120, 200:210] = 0
    path = make_raster(data=data, nodata=0, tiled=True, blockxsize=64, blockysize=64)
    whole = picture_of(path, 100)

    monkeypatch.setattr(module, "chunk_shape", lambda frame: (64, 64))
    piecewise = picture_of(path, 100)

    assert_array_equal(piecewise.pixels, whole.pixels)
    assert_array_equal(piecewise.valid, whole.valid)


def test_overviews_are_used_where_there_are_some(make_raster: MakeRaster) -> None:
    path = make_raster(data=random_pixels((3, 512, 512), "uint8", 3))
    with rasterio.open(path, "r+") as raster:
        raster.build_overviews([2, 4], Resampling.average)
        raster.write(np.full((3, 512, 512), 9, np.uint8))

    picture = picture_of(path, 128)

    assert picture.pixels.shape == (128, 128, 3)
    # Those of the earlier pixels: the file itself was not read.
    assert picture.pixels.mean() > 100


def test_two_percent_are_black_and_two_white(make_raster: MakeRaster) -> None:
    ramp = np.linspace(1000, 3000, 10_000).reshape(100, 100)
    data = np.stack([ramp, ramp[::-1], 500 + ramp / 4]).astype(np.uint16)
    data[:, :10, :10] = 65_000

    picture = picture_of(make_raster(data=data, nodata=65_000), 256)

    for band in range(3):
        values = picture.pixels[..., band][picture.valid]
        assert (values == 0).mean() == pytest.approx(0.02, abs=0.005)
        assert (values == 255).mean() == pytest.approx(0.02, abs=0.005)
    assert not picture.valid[:10, :10].any()


def test_constant_raster_is_a_picture(make_raster: MakeRaster) -> None:
    picture = picture_of(make_raster(data=np.full((3, 30, 40), 0.5, np.float32)), 256)

    assert picture.pixels.std() == 0


@given(size=st.tuples(*[st.integers(1, 200_000)] * 2), side=st.integers(1, 4096))
def test_shrunk_shape_fits_and_keeps_proportions(size: tuple[int, int], side: int) -> None:
    height, width = shrunk_shape(*size, side)

    assert max(height, width) == min(max(size), side)
    factor = max(size) / max(height, width)
    for whole, shrunk in zip(size, (height, width), strict=True):
        assert 1 <= shrunk <= whole
        assert abs(whole / factor - shrunk) <= max(0.5, 1 - whole / factor) + 1e-6


def test_reading_can_be_ended(make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_raster(data=random_pixels((3, 300, 300), "uint8", 4))
    monkeypatch.setattr(module, "chunk_shape", lambda frame: (64, 64))
    shares: list[float] = []

    def advance(share: float) -> None:
        shares.append(share)
        if share > 0.3:
            raise KeyboardInterrupt

    with open_scene(str(path)) as scene, pytest.raises(KeyboardInterrupt):
        scene_picture(scene, (0,), Radiometry(0.0, 255.0, "srgb"), 100, advance)

    assert 2 < len(shares) < 15
