# SPDX-License-Identifier: GPL-3.0-or-later
"""Streamed equals whole: blocks, order and threads never change pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from dehaze_core.engine import RunSettings, Silent, run
from dehaze_core.engine.in_memory import restore_array, restore_linear
from dehaze_core.engine.passes import Restorer
from dehaze_core.models import load_model
from dehaze_core.scene import Radiometry, open_scene
from dehaze_core.scene.srgb import encode_uint8

MakeRaster = Callable[..., Path]


def dehaze(source: Path, destination: Path, **settings: object) -> NDArray[np.generic]:
    run(RunSettings(source=str(source), destination=str(destination), **settings), Silent())  # type: ignore[arg-type]
    with rasterio.open(destination) as raster:
        pixels: NDArray[np.generic] = raster.read()
    return pixels


def whole_float(source: Path) -> NDArray[np.float32]:
    """Dehaze a float raster in one pass of the network."""
    with open_scene(str(source)) as scene:
        radiometry = Radiometry.for_scene(scene, (0, 1, 2))
        pixels, valid = scene.read(scene.frame.window)
    stored = torch.from_numpy(pixels)
    with torch.inference_mode():
        linear = restore_linear(
            load_model("dehazexl-lite").network,
            radiometry.display(stored),
            radiometry.to_linear(stored),
            torch.from_numpy(valid).float(),
        )
        restored = radiometry.from_linear(
            torch.maximum(linear, radiometry.to_linear(stored).clamp_max(0))
        )
    result: NDArray[np.float32] = restored.numpy()
    return result


@pytest.mark.parametrize("block", [256, 512, 1000])
@pytest.mark.parametrize("shape", [(420, 700), (337, 611)])
def test_streamed_equals_whole(
    make_raster: MakeRaster,
    tmp_path: Path,
    hazy: NDArray[np.float32],
    block: int,
    shape: tuple[int, int],
) -> None:
    source = make_raster(data=hazy[:, : shape[0], : shape[1]])

    streamed = dehaze(source, tmp_path / "out.tif", block_size=block)

    assert np.abs(streamed - whole_float(source)).max() <= 1e-5


def test_streamed_8_bit_equals_the_picture_restored_in_one_piece(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32]
) -> None:
    picture = encode_uint8(hazy)
    source = make_raster(data=picture)

    streamed = dehaze(source, tmp_path / "out.tif", block_size=256)

    whole = restore_array(picture.transpose(1, 2, 0), "dehazexl-lite").transpose(2, 0, 1)
    assert np.abs(streamed.astype(int) - whole).max() <= 1


def test_thread_count_changes_nothing(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32]
) -> None:
    source = make_raster(data=encode_uint8(hazy))

    one = dehaze(source, tmp_path / "one.tif", threads=1, block_size=256)
    two = dehaze(source, tmp_path / "two.tif", threads=2, block_size=256)

    assert np.abs(one.astype(int) - two).max() <= 1


def test_the_order_of_blocks_changes_nothing(
    make_raster: MakeRaster,
    tmp_path: Path,
    hazy: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = make_raster(data=hazy)
    forwards = dehaze(source, tmp_path / "forwards.tif", block_size=256)

    monkeypatch.setattr(Restorer, "missing", lambda self: list(self.job.grid)[::-1])
    backwards = dehaze(source, tmp_path / "backwards.tif", block_size=256)

    assert np.array_equal(forwards, backwards)


@pytest.mark.gpu
def test_cuda_and_cpu_agree_to_one_step(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32]
) -> None:
    source = make_raster(data=encode_uint8(hazy))

    cpu = dehaze(source, tmp_path / "cpu.tif", device="cpu").astype(int)
    cuda = dehaze(source, tmp_path / "cuda.tif", device="cuda")

    # bfloat16 on the device: a few pixels may round the other way.
    assert (np.abs(cpu - cuda) > 1).mean() < 0.001


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (31, 33), (32, 32)])
def test_any_shape_is_processed(
    make_raster: MakeRaster, tmp_path: Path, height: int, width: int
) -> None:
    source = make_raster(height=height, width=width)

    assert dehaze(source, tmp_path / "out.tif").shape == (3, height, width)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_nodata_stays_bit_identical_and_never_appears_elsewhere(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32], dtype: str
) -> None:
    scale = {"uint8": 200, "uint16": 9000, "int16": 9000, "float32": 1.0}[dtype]
    nodata = {"uint8": 0, "uint16": 0, "int16": -999, "float32": np.nan}[dtype]
    data = np.clip(hazy[:, :200, :260] * scale, 1e-3 if dtype == "float32" else 1, None).astype(
        dtype
    )
    missing = np.add.outer(np.arange(200), np.arange(260)) < 150
    data[:, missing] = nodata
    source = make_raster(data=data, nodata=nodata)

    result = dehaze(source, tmp_path / "out.tif", block_size=256)

    assert np.array_equal(result[:, missing], data[:, missing], equal_nan=True)
    valid = result[:, ~missing]
    assert not (np.isnan(valid) if dtype == "float32" else valid == nodata).any()
    assert (valid != data[:, ~missing]).mean() > 0.5


def test_what_lies_under_a_mask_does_not_matter(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32]
) -> None:
    picture = encode_uint8(hazy)[:, :200, :260]
    valid = np.add.outer(np.arange(200), np.arange(260)) >= 150
    other = picture.copy()
    other[:, ~valid] = 255
    first = make_raster("first.tif", data=picture, valid=valid)
    second = make_raster("second.tif", data=other, valid=valid)

    results = [dehaze(source, tmp_path / f"{source.stem}_out.tif") for source in (first, second)]

    assert np.array_equal(results[0][:, valid], results[1][:, valid])
    assert np.array_equal(results[1][:, ~valid], other[:, ~valid])


def test_raster_without_a_valid_pixel_comes_back_unchanged(
    make_raster: MakeRaster, tmp_path: Path
) -> None:
    data = np.full((3, 70, 90), 7, np.uint8)
    source = make_raster(data=data, nodata=7)

    report = run(RunSettings(source=str(source), destination=str(tmp_path / "out.tif")), Silent())

    with rasterio.open(tmp_path / "out.tif") as raster:
        assert np.array_equal(raster.read(), data)
    assert report.valid_fraction == 0.0


def test_nan_does_not_spread(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32]
) -> None:
    data = hazy[:, :200, :200].copy()
    data[1, 50, 60] = np.nan
    data[0, 120:125, 100] = np.inf
    source = make_raster(data=data)

    result = dehaze(source, tmp_path / "out.tif")

    assert np.array_equal(np.isfinite(result), np.isfinite(data))


def test_strength_zero_returns_the_input(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32]
) -> None:
    picture = encode_uint8(hazy)[:, :128, :128]
    source = make_raster(data=picture)

    assert np.array_equal(dehaze(source, tmp_path / "out.tif", strength=0.0), picture)


def test_extent_gives_the_covered_part_with_its_georeference(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32]
) -> None:
    source = make_raster(data=encode_uint8(hazy))
    with rasterio.open(source) as raster:
        left, top = raster.transform * (100, 40)
        right, bottom = raster.transform * (400, 240)

    result = dehaze(source, tmp_path / "out.tif", extent=(left, bottom, right, top))

    assert result.shape == (3, 200, 300)
    with rasterio.open(tmp_path / "out.tif") as raster:
        assert raster.transform * (0, 0) == (left, top)


def test_single_band_and_extra_bands(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32]
) -> None:
    part = hazy[:, :160, :160]
    pan = make_raster("pan.tif", data=part[:1])
    five = make_raster("five.tif", data=np.concatenate((part, part[:1], part[:1])))
    with rasterio.open(five, "r+") as raster:
        raster.colorinterp = [
            rasterio.enums.ColorInterp[n] for n in ("red", "green", "blue", "nir", "undefined")
        ]

    one = dehaze(pan, tmp_path / "pan_out.tif")
    many = dehaze(five, tmp_path / "five_out.tif")

    assert (one != part[:1]).mean() > 0.5
    assert (many[3] != part[0]).mean() > 0.5
    assert np.array_equal(many[4], part[0])
