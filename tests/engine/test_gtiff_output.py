# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain GeoTIFF is whole, tiled, compressed with a predictor, and has overviews."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio

from dehaze_core.engine.output.cog_options import BLOCK_SIDES, RESAMPLINGS, gtiff_options
from dehaze_core.errors import OutputError
from tests.engine.outputs import assert_carries, frame_of, pixels_of, write
from tests.engine.test_finalise_faults import Stop, damage, file_size_limit


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "float32", "float64"])
def test_every_type_is_written_bit_by_bit(tmp_path: Path, dtype: str, masked: bool) -> None:
    frame = frame_of(dtype=dtype, mask="internal" if masked else "none", height=600, width=700)
    mask = np.random.default_rng(1).random((600, 700)) > 0.5 if masked else None
    data, path = pixels_of(frame), tmp_path / "out.tif"

    lost = write(path, frame, data, mask, format_name="gtiff", provenance={"DEHAZE_MODEL": "lite"})

    assert lost == ()
    assert_carries(path, frame)
    with rasterio.open(path) as raster:
        assert np.array_equal(raster.read(), data)
        assert mask is None or np.array_equal(raster.dataset_mask() > 0, mask)
        assert raster.overviews(1) == [2]
        assert raster.profile["compress"] == "deflate"
        assert raster.block_shapes[0] == (512, 512)
        assert raster.tags()["DEHAZE_MODEL"] == "lite"
        predictor = raster.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"]
        assert predictor == ("3" if dtype.startswith("float") else "2")
    assert os.listdir(tmp_path) == ["out.tif"]


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (["COMPRESS=ZSTD", "LEVEL=9"], {"COMPRESS": "ZSTD", "ZSTD_LEVEL": "9", "PREDICTOR": "2"}),
        (["ZLEVEL=9"], {"COMPRESS": "DEFLATE", "ZLEVEL": "9"}),
        (["COMPRESS=JPEG", "QUALITY=60"], {"COMPRESS": "JPEG", "JPEG_QUALITY": "60"}),
        (["COMPRESS=LZW", "PREDICTOR=NO"], {"COMPRESS": "LZW", "PREDICTOR": "1"}),
        (["INTERLEAVE=BAND"], {"INTERLEAVE": "BAND"}),
        (["BLOCKSIZE=256"], {"BLOCKXSIZE": "256", "BLOCKYSIZE": "256"}),
        (["COMPRESS=NONE"], {"COMPRESS": "NONE"}),
    ],
)
def test_options_take_the_names_of_the_driver(
    requested: list[str], expected: dict[str, str]
) -> None:
    options = gtiff_options(frame_of(), requested)

    assert expected.items() <= options.items()
    assert not {"LEVEL", "QUALITY", "BLOCKSIZE"} & options.keys()
    assert ("PREDICTOR" in options) == (options["COMPRESS"] in ("DEFLATE", "LZW", "ZSTD"))


@pytest.mark.parametrize("options", [["INTERLEAVE=BAND", "BLOCKSIZE=256"], ["COMPRESS=NONE"]])
def test_options_reach_the_file(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "out.tif"

    write(path, frame_of(height=600), format_name="gtiff", creation_options=options)

    with rasterio.open(path) as raster:
        by_band = "INTERLEAVE=BAND" in options
        assert raster.profile["interleave"] == ("band" if by_band else "pixel")
        assert raster.block_shapes[0][0] == (256 if by_band else 512)
        assert raster.profile.get("compress") == ("deflate" if by_band else None)


@pytest.mark.parametrize("format_name", ["cog", "gtiff"])
@pytest.mark.parametrize("method", RESAMPLINGS)
def test_overviews_are_made_as_asked(tmp_path: Path, format_name: str, method: str) -> None:
    frame, path = frame_of(height=600, count=1), tmp_path / "out.tif"
    data = np.zeros((1, 600, 70), np.uint8)
    data[:, ::2, ::2] = 80
    options = [f"OVERVIEW_RESAMPLING={method.lower()}"]

    write(path, frame, data, format_name=format_name, creation_options=options)

    with rasterio.open(path, OVERVIEW_LEVEL=0) as overview:
        middle = overview.read(1)[20:-20, 10:-10]
    expected = {"NEAREST": 80, "AVERAGE": 20, "MODE": 0, "RMS": 40}
    if method in expected:
        assert (middle == expected[method]).all()


@pytest.mark.parametrize("side", BLOCK_SIDES)
def test_overviews_of_every_size_of_tiles_are_found_whole(tmp_path: Path, side: str) -> None:
    path = tmp_path / "out.tif"

    write(
        path,
        frame_of(height=1100),
        format_name="gtiff",
        creation_options=[f"BLOCKSIZE={side}"],
    )

    with rasterio.open(path, OVERVIEW_LEVEL=0) as overview:
        assert overview.block_shapes[0] == (int(side), int(side))


@pytest.mark.parametrize("format_name", ["cog", "gtiff"])
@pytest.mark.parametrize(("option", "magic"), [("YES", 43), ("IF_SAFER", 42)])
def test_large_files_are_bigtiffs(
    tmp_path: Path, format_name: str, option: str, magic: int
) -> None:
    path = tmp_path / "out.tif"

    write(path, frame_of(), format_name=format_name, creation_options=[f"BIGTIFF={option}"])

    assert int.from_bytes(path.read_bytes()[2:4], "little") == magic


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 0.95])
@pytest.mark.parametrize("old", [False, True])
def test_interruption_leaves_the_old_file_or_none(tmp_path: Path, share: float, old: bool) -> None:
    path = tmp_path / "out.tif"
    if old:
        path.write_bytes(b"old")

    def progress(done: float) -> None:
        if done > share:
            raise Stop

    with pytest.raises(Stop):
        write(path, frame_of(height=3000, width=100), format_name="gtiff", progress=progress)

    assert os.listdir(tmp_path) == (["out.tif"] if old else [])
    assert not old or path.read_bytes() == b"old"


@pytest.mark.parametrize("share", [0.05, 0.5, 0.8, 0.95])
def test_full_disk_is_explained_and_leaves_the_old_file(tmp_path: Path, share: float) -> None:
    frame, path = frame_of(height=1100, width=1100), tmp_path / "out.tif"
    noise = np.random.default_rng(0).integers(1, 255, (3, 1100, 1100), dtype=np.uint8)
    write(path, frame, noise, format_name="gtiff")
    size = path.stat().st_size
    path.write_bytes(b"old")

    with file_size_limit(int(share * size)), pytest.raises(OutputError) as caught:
        write(path, frame, noise, format_name="gtiff")

    assert caught.value.code == "OUTPUT_DISK_FULL"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.tif"]


def test_difference_between_store_and_file_is_noticed(tmp_path: Path) -> None:
    def progress(share: float) -> None:
        if share == 0.8:
            damage(next(tmp_path.glob(".out-*/result.tif")))

    with pytest.raises(OutputError) as caught:
        write(
            tmp_path / "out.tif",
            frame_of(),
            format_name="gtiff",
            progress=progress,
            creation_options=["COMPRESS=NONE"],
        )

    assert caught.value.code == "OUTPUT_VERIFY"
    assert os.listdir(tmp_path) == []
