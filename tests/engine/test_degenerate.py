# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasters with nothing to see: defined results, and every pixel stays a number if it was one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from dehaze_core.engine import Report, RunSettings, Silent, run

MakeRaster = Callable[..., Path]
Pixels = NDArray[np.generic]


def dehaze(source: Path) -> tuple[Pixels, Report]:
    out = source.with_name("out.tif")
    settings = RunSettings(source=str(source), destination=str(out), block_size=64)
    report = run(settings, Silent())
    with rasterio.open(out) as raster:
        return raster.read(), report


def noise(dtype: str, low: float, high: float) -> Pixels:
    values = np.random.default_rng(3).uniform(low, high, (3, 96, 130))
    return values.astype(dtype)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("int16", -9999), ("float32", np.nan)])
def test_all_nodata_comes_back_as_it_is(make_raster: MakeRaster, dtype: str, nodata: float) -> None:
    data = np.full((3, 96, 130), nodata, dtype)

    pixels, report = dehaze(make_raster(data=data, nodata=nodata))

    assert np.array_equal(pixels, data, equal_nan=dtype == "float32")
    assert report.valid_fraction == 0


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", 7), ("uint8", 255), ("uint16", 65535), ("float32", 0.25)]
)
def test_a_constant_raster_stays_nearly_constant(
    make_raster: MakeRaster, dtype: str, value: float
) -> None:
    pixels, _ = dehaze(make_raster(data=np.full((3, 96, 130), value, dtype)))

    assert np.isfinite(pixels.astype(float)).all()
    spread = np.ptp(pixels.astype(float), axis=(1, 2))
    # Nothing to go by: the network may see a little haze, and its tokens may show faintly.
    assert (spread <= 0.06 * value + 1).all()


def test_one_valid_pixel_is_enough(make_raster: MakeRaster) -> None:
    data = np.full((3, 96, 130), -9999, "int16")
    data[:, 40, 50] = (900, 800, 700)

    pixels, report = dehaze(make_raster(data=data, nodata=-9999))

    hidden = np.ones(data.shape[1:], bool)
    hidden[40, 50] = False
    assert (pixels[:, hidden] == -9999).all()
    assert (pixels[:, 40, 50] != -9999).all()
    assert report.valid_fraction == pytest.approx(1 / (96 * 130))


def test_islands_of_nan_and_infinity_stay_and_do_not_spread(make_raster: MakeRaster) -> None:
    data = noise("float32", 0.1, 0.6)
    data[:, 10:20, 10:30] = np.nan
    data[1, 50:60, 60:70] = np.inf
    data[2, 80, 100] = -np.inf

    pixels, _ = dehaze(make_raster(data=data))

    finite = np.isfinite(data).all(axis=0)
    assert np.isfinite(pixels[:, finite]).all()
    assert np.array_equal(pixels[:, ~finite], data[:, ~finite], equal_nan=True)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("float32", 1e5, 1e7),
        ("float32", 1e37, 3e38),
        ("float32", 0, 1e-39),
        ("float64", 1e250, 1e300),
    ],
)
def test_numbers_at_the_ends_of_a_type_stay_numbers(
    make_raster: MakeRaster, dtype: str, low: float, high: float
) -> None:
    pixels, _ = dehaze(make_raster(data=noise(dtype, low, high)))

    assert np.isfinite(pixels).all()


def test_no_valid_pixel_turns_into_undeclared_fill(make_raster: MakeRaster) -> None:
    """Without nodata, pixels of zeros in all bands count as missing: none may be made."""
    data = np.full((3, 96, 130), 90, np.uint8) + noise("uint8", 0, 60)
    data[:, 40:50, 60:70] = 1

    pixels, report = dehaze(make_raster(data=data))

    assert report.mean_thickness > 0
    assert (pixels != 0).any(axis=0).all()
