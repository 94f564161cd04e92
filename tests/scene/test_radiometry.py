# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers to light and back: exact for 8 bit, one scale per raster, nodata never hit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given
from hypothesis import strategies as st

from dehaze_core.scene import Radiometry, open_scene, quantise
from dehaze_core.scene.srgb import decode_table, srgb_decode, srgb_encode

MakeRaster = Callable[..., Path]
EIGHT_BIT = Radiometry(0.0, 255.0, "srgb")


def standard_decode(encoded: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1 as printed."""
    return np.where(
        encoded <= 0.04045, encoded / 12.92, (np.maximum(encoded + 0.055, 0) / 1.055) ** 2.4
    )


def standard_encode(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1 as printed."""
    bent = 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, linear * 12.92, bent)


def test_transfer_functions_are_those_of_the_standard() -> None:
    values = np.linspace(-0.2, 1.5, 10_001)
    tensor = torch.from_numpy(values.astype(np.float32))

    assert np.abs(srgb_encode(tensor).numpy() - standard_encode(values)).max() < 1e-6
    assert np.abs(srgb_decode(tensor).numpy() - standard_decode(values)).max() < 1e-6
    assert np.abs(decode_table().numpy() - standard_decode(np.arange(256) / 255)).max() < 1e-7


def test_transfer_functions_work_in_place_and_leave_others_alone() -> None:
    values = torch.rand(3, 5)
    kept = values.clone()

    fresh = srgb_encode(values)
    assert torch.equal(values, kept)
    written = srgb_encode(values, in_place=True)
    assert torch.equal(written, fresh)
    assert written.data_ptr() == values.data_ptr()
    assert torch.allclose(srgb_decode(written, in_place=True), kept, atol=1e-6)


def test_eight_bit_numbers_survive_the_way_to_light_and_back() -> None:
    numbers = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)

    for dn in (numbers, numbers.float()):
        light = EIGHT_BIT.to_linear(dn)
        assert light.dtype == torch.float32
        assert np.array_equal(
            quantise(EIGHT_BIT.from_linear(light), "uint8", None), numbers.numpy()
        )
        assert torch.allclose(EIGHT_BIT.to_display(light), numbers / 255, atol=1e-6)
        assert torch.allclose(EIGHT_BIT.display(dn), numbers / 255, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "uint32"])
def test_scale_makes_the_bright_end_one(make_raster: MakeRaster, dtype: str) -> None:
    values = np.linspace(100, 4000, 3 * 64 * 64).reshape(3, 64, 64).astype(dtype)
    with open_scene(str(make_raster(data=values))) as scene:
        radiometry = Radiometry.for_scene(scene, (0, 1, 2))

    assert radiometry.encoding == "linear"
    assert radiometry.offset == 0.0
    assert radiometry.scale == pytest.approx(np.percentile(values, 99.9), rel=1e-3)
    dn = torch.from_numpy(values.astype(np.float32))
    light = radiometry.to_linear(dn)
    assert torch.allclose(radiometry.from_linear(light), dn, rtol=1e-5)
    assert float(radiometry.to_display(light).max()) <= 1.0


def test_negative_numbers_move_the_offset(make_raster: MakeRaster) -> None:
    values = np.linspace(-500, 4000, 64 * 64).reshape(1, 64, 64).astype(np.int16)
    with open_scene(str(make_raster(data=values))) as scene:
        radiometry = Radiometry.for_scene(scene, (0,))

    assert radiometry.offset == pytest.approx(-495.5, abs=2)


@pytest.mark.parametrize(
    ("factor", "summand", "used"), [(1e-4, 0.0, True), (1e-4, -0.1, True), (0.5, 0.0, False)]
)
def test_scale_tags_are_used_where_they_give_reflectance(
    make_raster: MakeRaster, factor: float, summand: float, used: bool
) -> None:
    values = np.linspace(1000, 9000, 64 * 64).reshape(1, 64, 64).astype(np.uint16)
    path = make_raster(data=values)
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = (factor,), (summand,)

    with open_scene(str(path)) as scene:
        radiometry = Radiometry.for_scene(scene, (0,))

    light = radiometry.to_linear(torch.tensor([1000.0]))
    if used:
        assert float(light) == pytest.approx(1000 * factor + summand, rel=1e-5)
    else:
        assert radiometry.scale == pytest.approx(np.percentile(values, 99.9), rel=1e-3)


def test_invalid_pixels_have_no_say_in_the_scale(make_raster: MakeRaster) -> None:
    values = np.full((1, 64, 64), 500, np.uint16)
    values[:, :32] = 65535
    with open_scene(str(make_raster(data=values, nodata=65535))) as scene:
        assert Radiometry.for_scene(scene, (0,)).scale == 500


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_empty_scene_gets_a_scale_to_divide_by(make_raster: MakeRaster, dtype: str) -> None:
    with open_scene(str(make_raster(data=np.zeros((3, 8, 8), dtype)))) as scene:
        radiometry = Radiometry.for_scene(scene, (0, 1, 2))

    assert math.isfinite(radiometry.scale)
    assert radiometry.scale > 0
    assert radiometry.to_linear(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_large_scene_without_overviews_is_sampled_all_over(make_raster: MakeRaster) -> None:
    values = np.full((1, 2300, 2300), 100, np.uint16)
    values[:, -200:, -200:] = 3000
    with open_scene(str(make_raster(data=values, compress="deflate"))) as scene:
        assert Radiometry.for_scene(scene, (0,)).scale == 3000


# ------------------------------------------------------------------ quantise


def test_rounds_half_to_even_and_clips() -> None:
    dn = torch.tensor([-3.0, 0.5, 1.5, 2.5, 254.5, 255.5, 300.0])

    assert quantise(dn, "uint8", None).tolist() == [0, 0, 2, 2, 254, 255, 255]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64"])
@given(data=st.data())
def test_valid_pixel_never_lands_on_nodata(dtype: str, data: st.DataObject) -> None:
    limits = np.iinfo(dtype)
    nodata = data.draw(st.sampled_from([0, 1, limits.min, limits.max, 100]))
    near = st.floats(-3, 3, width=32).map(lambda step: nodata + step)
    numbers = data.draw(st.lists(st.one_of(near, st.floats(-1e12, 1e12)), min_size=1))
    dn = torch.tensor(numbers, dtype=torch.float32)

    found = quantise(dn, dtype, float(nodata))

    assert found.dtype == dtype
    assert not (found == nodata).any()
    exact = np.clip(dn.double().numpy(), limits.min, limits.max)
    # Half a step of rounding, at most one to stay off nodata, and what float32 can tell apart.
    assert (np.abs(found.astype(np.float64) - exact) <= 1.5 + np.abs(exact) * 1e-7).all()


def test_number_is_moved_off_nodata_to_the_side_it_came_from() -> None:
    assert quantise(torch.tensor([99.8, 100.2]), "uint8", 100.0).tolist() == [99, 101]
    assert quantise(torch.tensor([0.1]), "uint16", 0.0).tolist() == [1]
    assert quantise(torch.tensor([400.0]), "uint8", 255.0).tolist() == [254]


def test_floats_leave_nodata_by_the_smallest_step() -> None:
    dn = torch.tensor([-9999.0, 0.25, float("nan")])

    found = quantise(dn, "float32", -9999.0)

    assert found[0] == np.nextafter(np.float32(-9999), np.float32(np.inf))
    assert found[1] == np.float32(0.25)
    assert np.isnan(found[2])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("nodata", [None, math.nan, -1e30])
def test_nodata_out_of_reach_changes_nothing(dtype: str, nodata: float | None) -> None:
    dn = torch.tensor([0.0, 1.0, 100.0])

    assert quantise(dn, dtype, nodata).tolist() == [0, 1, 100]


def test_nan_becomes_a_defined_integer() -> None:
    for dtype in ("uint8", "uint16", "int32"):
        assert quantise(torch.tensor([float("nan")]), dtype, None)[0] == np.iinfo(dtype).min


def test_large_numbers_stay_finite_in_half_precision() -> None:
    stored = quantise(torch.tensor([-1e9, 3.0, 1e9, torch.nan]), "float16", None)

    assert np.array_equal(stored, np.array([-65504, 3, 65504, np.nan], np.float16), equal_nan=True)
