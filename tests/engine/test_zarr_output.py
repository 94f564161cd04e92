# SPDX-License-Identifier: GPL-3.0-or-later
"""The zarr output opens with xarray and rioxarray, carries the frame, and appears whole or not."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr
import zarr
from rasterio.crs import CRS

from dehaze_core.engine.output.zarr_output import frame_differences
from dehaze_core.errors import InputError, OutputError
from dehaze_core.scene import open_scene
from tests.engine.outputs import PLACE, frame_of, pixels_of, write_folder
from tests.engine.test_finalise_faults import Stop, file_size_limit


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int64", "float16", "float32", "float64"]
)
def test_every_type_is_written_bit_by_bit(tmp_path: Path, dtype: str, masked: bool) -> None:
    frame = frame_of(dtype=dtype, mask="internal" if masked else "none", height=300, width=700)
    mask = np.random.default_rng(1).random((300, 700)) > 0.5 if masked else None
    data, path = pixels_of(frame), tmp_path / "out.zarr"

    write_folder(path, frame, data, mask, creation_options=["BLOCKSIZE=128"])

    with open_scene(str(path)) as scene:
        assert frame_differences(frame, scene.frame) == []
        found, _ = scene.read(scene.frame.window)
        assert np.array_equal(found, data)
        assert mask is None or np.array_equal(scene.stored_mask(scene.frame.window), mask)
        assert scene.frame.block_shape == (128, 128)
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_xarray_and_rioxarray_understand_the_group(tmp_path: Path) -> None:
    frame = frame_of(
        dtype="int16",
        nodata=(-9999.0,) * 3,
        mask="nodata",
        scales=(0.5,) * 3,
        offsets=(2.0,) * 3,
        descriptions=("blue", "green", "red"),
        units=("W",) * 3,
        tags={"": {"PLACE": "here"}},
    )
    data = pixels_of(frame)
    data[:, :4, :5] = -9999
    write_folder(tmp_path / "out.zarr", frame, data, provenance={"DEHAZE_MODEL": "lite"})

    with xr.open_zarr(tmp_path / "out.zarr", consolidated=False, decode_coords="all") as group:
        image = group["image"]

        assert image.rio.crs == CRS.from_epsg(32633)
        assert tuple(image.rio.transform())[:6] == PLACE
        assert image.dims == ("band", "y", "x")
        assert image.rio.bounds() == (500000.0, 4999400.0, 500700.0, 5000000.0)
        assert image.rio.encoded_nodata == -9999
        assert image.attrs["long_name"] == ["blue", "green", "red"]
        assert image.attrs["PLACE"] == "here"
        assert group.attrs["DEHAZE_MODEL"] == "lite"
        values = image.values
    assert np.isnan(values[:, :4, :5]).all()
    assert np.array_equal(values[:, 10:], data[:, 10:] * 0.5 + 2.0)


def test_floats_without_nodata_do_not_gain_one(tmp_path: Path) -> None:
    frame = frame_of(dtype="float32")
    write_folder(tmp_path / "out.zarr", frame)

    group = zarr.open_group(tmp_path / "out.zarr", mode="r")

    assert "_FillValue" not in group["image"].attrs


@pytest.mark.parametrize(
    "traits",
    [
        {"nodata": (1.0, None, math.nan), "dtype": "float32"},
        {"nodata": (-9999.0,) * 3, "mask": "nodata"},
        {"nodata": (0.1,) * 3, "mask": "nodata", "dtype": "float32"},
        {"scales": (1.0, 2.0, 3.0), "offsets": (0.0, 0.5, 1e-9)},
        {"tags": {"": {"long_name": "x", "_FillValue": "7"}, "ZARR": {"numbers": "[1, 2.5]"}}},
        {"tags": {"ZARR_GROUP": {"title": '"hills"'}}},
    ],
)
def test_what_cf_has_no_word_for_comes_back(tmp_path: Path, traits: dict[str, Any]) -> None:
    frame = frame_of(**traits)

    write_folder(tmp_path / "out.zarr", frame)

    with open_scene(str(tmp_path / "out.zarr")) as scene:
        assert frame_differences(frame, scene.frame) == []


def test_attributes_that_are_no_text_keep_their_type_from_zarr_to_zarr(tmp_path: Path) -> None:
    pixels = np.ones((2, 4, 5), np.uint8)
    xr.DataArray(
        pixels,
        dims=("band", "y", "x"),
        name="i",
        coords={"band": [1, 2], "time": 5},
        attrs={"sun": 45.5, "path": [1, 2]},
    ).to_dataset().assign_attrs(title="hills", version=3).to_zarr(
        tmp_path / "in.zarr", consolidated=False
    )

    with open_scene(str(tmp_path / "in.zarr")) as scene:
        frame = scene.frame
    write_folder(tmp_path / "out.zarr", frame, pixels)

    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert frame.left_behind == ("coordinate time",)
    assert group["image"].attrs["sun"] == 45.5
    assert group["image"].attrs["path"] == [1, 2]
    assert dict(group.attrs) == {"title": "hills", "version": 3}


def test_cut_group_lies_where_its_coordinates_say(tmp_path: Path) -> None:
    write_folder(tmp_path / "out.zarr", frame_of())
    with xr.open_zarr(tmp_path / "out.zarr", consolidated=False, decode_coords="all") as group:
        group.isel(x=slice(10, None), y=slice(5, None)).load().drop_encoding().to_zarr(
            tmp_path / "cut.zarr", consolidated=False
        )

    with open_scene(str(tmp_path / "cut.zarr")) as scene:
        assert scene.frame.transform == (10.0, 0.0, 500100.0, 0.0, -10.0, 4999950.0)


@pytest.mark.parametrize("options", [["COMPRESS=NONE"], ["LEVEL=9"], []])
def test_damaged_chunk_of_an_output_is_an_error_not_a_picture(
    tmp_path: Path, options: list[str]
) -> None:
    path = tmp_path / "out.zarr"
    write_folder(path, frame_of(), creation_options=options)
    chunk = path / "image" / "c" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)

    with open_scene(str(path)) as scene, pytest.raises(InputError) as caught:
        scene.read(scene.frame.window)

    assert caught.value.code == "INPUT_CORRUPT"


# ------------------------------------------------------------------ old, none or whole


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("old", [False, True])
def test_interruption_leaves_the_old_group_or_none(tmp_path: Path, share: float, old: bool) -> None:
    path, frame = tmp_path / "out.zarr", frame_of(height=3000, width=100, count=1)
    first = pixels_of(frame, seed=1)
    if old:
        write_folder(path, frame, first)

    def progress(done: float) -> None:
        if done > share:
            raise Stop

    with pytest.raises(Stop):
        write_folder(path, frame, progress=progress)

    assert os.listdir(tmp_path) == (["out.zarr"] if old else [])
    if old:
        with open_scene(str(path)) as scene:
            assert np.array_equal(scene.read(scene.frame.window)[0], first)


def test_old_group_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    write_folder(path, frame_of(mask="internal"), mask=np.ones((60, 70), bool))

    write_folder(path, frame_of(count=1))

    assert not (path / "mask").exists()
    assert os.listdir(tmp_path) == ["out.zarr"]
    with open_scene(str(path)) as scene:
        assert scene.frame.count == 1


def test_old_group_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.zarr"
    write_folder(path, frame_of(count=1))
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if Path(source).name == "result.zarr":
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError):
        write_folder(path, frame_of())

    with open_scene(str(path)) as scene:
        assert scene.frame.count == 1


def test_full_disk_is_explained(tmp_path: Path) -> None:
    frame = frame_of(height=1100, width=1100)
    noise = np.random.default_rng(0).integers(1, 255, (3, 1100, 1100), dtype=np.uint8)

    with file_size_limit(1 << 20), pytest.raises(OutputError) as caught:
        write_folder(tmp_path / "out.zarr", frame, noise)

    assert caught.value.code == "OUTPUT_DISK_FULL"
    assert os.listdir(tmp_path) == []


def test_chunk_damaged_before_it_is_read_back_is_a_fault_of_the_output(tmp_path: Path) -> None:
    def progress(share: float) -> None:
        if share == 0.7:
            chunk = next(tmp_path.glob(".out-*/result.zarr/image/c/0/0/0"))
            chunk.write_bytes(chunk.read_bytes()[:-9])

    with pytest.raises(OutputError) as caught:
        write_folder(tmp_path / "out.zarr", frame_of(), progress=progress)

    assert caught.value.code == "OUTPUT_VERIFY"
    assert os.listdir(tmp_path) == []


def test_difference_between_store_and_group_is_noticed(tmp_path: Path) -> None:
    def progress(share: float) -> None:
        if share == 0.7:
            made = next(tmp_path.glob(".out-*/result.zarr"))
            zarr.open_array(made / "image", mode="r+")[0, 3, 3] = 250

    with pytest.raises(OutputError) as caught:
        write_folder(tmp_path / "out.zarr", frame_of(), progress=progress)

    assert caught.value.code == "OUTPUT_VERIFY"
    assert os.listdir(tmp_path) == []
