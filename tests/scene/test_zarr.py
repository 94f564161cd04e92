# SPDX-License-Identifier: GPL-3.0-or-later
"""Zarr groups as xarray and rioxarray write them are scenes like any other."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rioxarray
import xarray as xr
import zarr
from affine import Affine
from rasterio.crs import CRS

from dehaze_core.errors import InputError
from dehaze_core.grid import Window
from dehaze_core.scene import open_scene

MakeRaster = Callable[..., Path]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_zarr_of_a_raster_reads_like_the_raster(
    make_raster: MakeRaster, tmp_path: Path, dtype: str, zarr_format: int
) -> None:
    path = make_raster(dtype=dtype, nodata=7, transform=Affine(8, 3, 5e5, 3, -8, 5e6))
    store = tmp_path / "scene.zarr"
    rioxarray.open_rasterio(path).rename("image").to_dataset().to_zarr(
        store, zarr_format=zarr_format, consolidated=False
    )

    with open_scene(str(path)) as raster, open_scene(str(store)) as scene:
        window = Window(3, 5, 30, 40)

        assert np.array_equal(scene.read(window)[0], raster.read(window)[0])
        assert np.array_equal(scene.read(window)[1], raster.read(window)[1])
        assert np.array_equal(scene.data, raster.data)
        assert scene.frame.dtype == dtype
        assert scene.frame.transform == raster.frame.transform
        assert scene.frame.nodata == raster.frame.nodata
        assert CRS.from_wkt(scene.frame.crs_wkt) == CRS.from_epsg(32633)
        assert scene.fingerprint() == scene.fingerprint()
        assert scene.overview(20)[0].shape == (3, 15, 20)


def test_axes_may_come_in_any_order(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (6, 7, 3), dtype=np.uint8)
    xr.DataArray(pixels, dims=("lat", "lon", "channel"), name="i").to_dataset().to_zarr(
        tmp_path / "a.zarr", consolidated=False
    )

    with open_scene(str(tmp_path / "a.zarr")) as scene:
        assert np.array_equal(scene.read(scene.frame.window)[0], pixels.transpose(2, 0, 1))
        assert not scene.frame.is_georeferenced


def test_one_variable_per_band_gives_named_bands(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((4, 6, 7), dtype=np.float32)
    names = ("red", "green", "blue", "nir")
    bands = {name: (("y", "x"), plane) for name, plane in zip(names, pixels, strict=True)}
    xr.Dataset(bands).to_zarr(tmp_path / "a.zarr", consolidated=False)

    with open_scene(str(tmp_path / "a.zarr")) as scene:
        assert scene.frame.descriptions == ("blue", "green", "nir", "red")
        assert scene.frame.color_interp == ("blue", "green", "nir", "red")
        assert scene.frame.rgb_bands == (3, 1, 0)
        assert np.array_equal(scene.read(scene.frame.window, (3, 1, 0, 2))[0], pixels)


def test_scale_and_fill_are_reported_not_applied(tmp_path: Path) -> None:
    pixels = np.array([[1, 2], [-5, 4]], np.int16)
    attributes = {"scale_factor": 0.5, "add_offset": 1.0, "_FillValue": np.int16(-5)}
    xr.DataArray(pixels, dims=("y", "x"), name="i", attrs=attributes).to_dataset().to_zarr(
        tmp_path / "a.zarr", consolidated=False
    )

    with open_scene(str(tmp_path / "a.zarr")) as scene:
        found, valid = scene.read(scene.frame.window)

        assert np.array_equal(found[0], pixels)
        assert np.array_equal(valid, pixels != -5)
        assert (scene.frame.scales, scene.frame.offsets) == ((0.5,), (1.0,))


def test_nan_fill_is_the_mask(tmp_path: Path) -> None:
    pixels = np.array([[1, np.nan], [3, 4]], np.float32)
    xr.DataArray(
        pixels, dims=("y", "x"), name="i", attrs={"_FillValue": np.float32(np.nan)}
    ).to_dataset().to_zarr(tmp_path / "a.zarr", consolidated=False)

    with open_scene(str(tmp_path / "a.zarr")) as scene:
        assert scene.frame.mask == "nan"
        assert scene.frame.nodata[0] is not None
        assert math.isnan(scene.frame.nodata[0])
        assert np.array_equal(scene.read(scene.frame.window)[1], np.isfinite(pixels))


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        (
            {"a": (("y", "x"), np.ones((2, 2), np.uint8)), "b": (("y", "x"), np.ones((2, 2)))},
            "CONTAINER",
        ),
        ({"a": (("t",), np.ones(3))}, "CONTAINER"),
        ({"a": (("t", "band", "y", "x"), np.ones((1, 1, 2, 2)))}, "CONTAINER"),
        ({"a": (("y", "x"), np.ones((2, 2), np.complex64))}, "COMPLEX"),
        ({"a": (("y", "x"), np.ones((2, 2), bool))}, "DTYPE"),
    ],
)
def test_groups_that_are_no_image_are_refused(
    tmp_path: Path, variables: dict[str, object], code: str
) -> None:
    xr.Dataset(variables).to_zarr(tmp_path / "a.zarr", consolidated=False)

    with pytest.raises(InputError) as caught:
        open_scene(str(tmp_path / "a.zarr"))

    assert caught.value.code == f"INPUT_{code}"


def test_damaged_zarr_is_reported(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    xr.DataArray(np.ones((8, 8), np.uint8), dims=("y", "x"), name="i").to_dataset().to_zarr(
        store, consolidated=False
    )
    chunk = next(path for path in store.rglob("0") if path.is_file())
    chunk.write_bytes(b"rubbish")

    with open_scene(str(store)) as scene, pytest.raises(InputError) as caught:
        scene.read(scene.frame.window)

    assert caught.value.code == "INPUT_CORRUPT"
    (store / "zarr.json").write_text("{")
    with pytest.raises(InputError) as caught:
        open_scene(str(store))
    assert caught.value.code == "INPUT_UNREADABLE"


@pytest.mark.parametrize(
    "attributes",
    [
        {"nodata": ["much"]},
        {"rpcs": [1, 2]},
        {"tags": "none"},
        {"scales": [{}]},
        {"band_tags": ["x"]},
        {"scale_factor": "half"},
    ],
)
def test_malformed_attributes_are_refused(tmp_path: Path, attributes: dict[str, object]) -> None:
    store = tmp_path / "a.zarr"
    xr.DataArray(
        np.ones((1, 8, 8), np.uint8), dims=("band", "y", "x"), name="i"
    ).to_dataset().to_zarr(store, consolidated=False)
    zarr.open_array(store / "i", mode="r+").attrs.update(attributes)

    with pytest.raises(InputError) as caught:
        open_scene(str(store))

    assert caught.value.code == "INPUT_UNREADABLE"


def test_unknown_colours_are_none(tmp_path: Path) -> None:
    xr.DataArray(
        np.ones((2, 8, 8), np.uint8),
        dims=("band", "y", "x"),
        name="i",
        attrs={"color_interp": ["red", "octarine"]},
    ).to_dataset().to_zarr(tmp_path / "a.zarr", consolidated=False)

    with open_scene(str(tmp_path / "a.zarr")) as scene:
        assert scene.frame.color_interp == ("red", "undefined")
