# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading pixels: however they are stored, the numbers are the same and the right ones valid."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.env import get_gdal_config

from dehaze_core.grid import Window
from dehaze_core.scene import GDAL_CACHE_MIB, GDAL_OPTIONS, gdal_cache_mib, open_scene
from dehaze_core.scene.frame import Frame
from dehaze_core.scene.gdal_source import MOST_GDAL_CACHE_MIB
from dehaze_core.scene.lazy import chunk_shape

MakeRaster = Callable[..., Path]

LAYOUTS = {
    "strips": {},
    "one strip": {"blockysize": 70},
    "tiles": {"tiled": True, "blockxsize": 32, "blockysize": 16},
    "deflate": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
    "band interleaved": {"interleave": "band", "compress": "lzw"},
    "pixel interleaved": {"interleave": "pixel"},
    "png": {"driver": "PNG"},
    "bigtiff": {"BIGTIFF": "YES"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_window_of_any_layout_is_read(make_raster: MakeRaster, layout: str) -> None:
    pixels = np.random.default_rng(1).integers(1, 255, (3, 70, 90), dtype=np.uint8)
    path = make_raster(data=pixels, **LAYOUTS[layout])

    with open_scene(str(path)) as scene:
        for window in (Window(0, 0, 70, 90), Window(13, 17, 40, 50), Window(69, 89, 1, 1)):
            found, valid = scene.read(window)

            assert np.array_equal(found, pixels[(slice(None), *window.slices)])
            assert found.dtype == np.uint8
            assert valid.all()
            assert np.array_equal(scene.data[(slice(None), *window.slices)], found)
            assert np.array_equal(scene.valid[window.slices], valid)


def test_bands_come_in_the_order_asked_for(make_raster: MakeRaster) -> None:
    path = make_raster(count=5)

    with open_scene(str(path)) as scene:
        everything, _ = scene.read(scene.frame.window)
        some, _ = scene.read(scene.frame.window, (3, 0, 3))

    assert np.array_equal(some, everything[[3, 0, 3]])


def test_windows_outside_and_bands_that_do_not_exist_are_refused(make_raster: MakeRaster) -> None:
    with open_scene(str(make_raster(height=10, width=10))) as scene:
        for window in (Window(0, 0, 11, 10), Window(-1, 0, 5, 5), Window(3, 3, 0, 4)):
            with pytest.raises(ValueError, match="not inside"):
                scene.read(window)
        with pytest.raises(ValueError, match="bands"):
            scene.read(Window(0, 0, 5, 5), (3,))


def test_crop_of_a_crop_reads_the_same_pixels(make_raster: MakeRaster) -> None:
    with open_scene(str(make_raster(height=60, width=70))) as scene:
        twice = scene.crop(Window(10, 20, 40, 40)).crop(Window(5, 6, 20, 30))

        assert np.array_equal(
            twice.read(twice.frame.window)[0], scene.read(Window(15, 26, 20, 30))[0]
        )
        assert np.array_equal(twice.data, scene.data[:, 15:35, 26:56])
        assert twice.fingerprint() != scene.fingerprint()


def test_reads_from_many_threads_agree(make_raster: MakeRaster) -> None:
    path = make_raster(height=300, width=280, tiled=True, blockxsize=32, blockysize=32)
    windows = [Window(r, c, 64, 48) for r in range(0, 230, 31) for c in range(0, 230, 29)]
    with open_scene(str(path)) as scene:
        whole, _ = scene.read(scene.frame.window)

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda window: scene.read(window)[0], windows * 3))

    for window, pixels in zip(windows * 3, found, strict=True):
        assert np.array_equal(pixels, whole[(slice(None), *window.slices)])


def test_closed_scene_opens_again_when_read(make_raster: MakeRaster) -> None:
    scene = open_scene(str(make_raster()))
    before, _ = scene.read(Window(0, 0, 8, 8))
    scene.close()

    assert np.array_equal(scene.read(Window(0, 0, 8, 8))[0], before)
    scene.close()


def test_lazy_pixels_travel_to_another_process(make_raster: MakeRaster) -> None:
    with open_scene(str(make_raster())) as scene:
        copy = pickle.loads(pickle.dumps(scene.data))

        assert np.array_equal(copy, scene.data)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(data=st.data())
def test_lazy_pixels_obey_every_slice(make_raster: MakeRaster, data: st.DataObject) -> None:
    pixels = np.random.default_rng(2).integers(1, 255, (3, 20, 30), dtype=np.uint8)
    path = make_raster(data=pixels, tiled=True, blockxsize=16, blockysize=16)
    indices = [
        data.draw(st.one_of(st.slices(size), st.integers(-size, size - 1))) for size in pixels.shape
    ]

    with open_scene(str(path)) as scene:
        lazy: da.Array = scene.data.data
        assert np.array_equal(lazy[tuple(indices)].compute(), pixels[tuple(indices)])


def test_chunks_are_whole_blocks_of_bounded_size() -> None:
    for block, count, dtype in (
        ((512, 512), 3, "uint8"),
        ((1, 30_000), 4, "uint16"),
        ((256, 256), 239, "float32"),
        ((30_000, 30_000), 1, "uint8"),
    ):
        frame = Frame(width=30_000, height=30_000, count=count, dtype=dtype, block_shape=block)
        rows, cols = chunk_shape(frame)

        assert rows % block[0] == 0
        assert cols % block[1] == 0
        one_block = block[0] * block[1] * count * np.dtype(dtype).itemsize
        assert rows * cols * count * np.dtype(dtype).itemsize <= max(64 << 20, one_block)


# ------------------------------------------------------------------ validity


def test_nodata_marks_pixels_whose_bands_all_carry_it(make_raster: MakeRaster) -> None:
    pixels = np.full((3, 4, 4), 9, np.uint16)
    pixels[:, 0, 0] = 5
    pixels[1, 1, 1] = 5
    path = make_raster(data=pixels, nodata=5)

    with open_scene(str(path)) as scene, rasterio.open(path) as raster:
        for bands in (None, (1,), (0, 2)):
            valid = scene.read(scene.frame.window, bands)[1]

            assert np.array_equal(valid, raster.dataset_mask() > 0)
            assert not valid[0, 0]
            assert valid[1, 1]


def test_any_non_finite_band_makes_a_pixel_invalid(make_raster: MakeRaster) -> None:
    pixels = np.ones((3, 4, 5), np.float32)
    pixels[0, 0, 0], pixels[1, 1, 1], pixels[2, 2, 2] = np.nan, np.inf, -np.inf
    path = make_raster(data=pixels)

    with open_scene(str(path)) as scene:
        for bands in (None, (0,)):
            valid = scene.read(scene.frame.window, bands)[1]

            assert (~valid).sum() == 3


def test_untagged_wedge_of_zeros_is_invalid(make_raster: MakeRaster) -> None:
    pixels = np.full((3, 6, 6), 7, np.uint8)
    pixels[:, :3] = 0
    pixels[2, 0, 0] = 1
    path = make_raster(data=pixels)

    with open_scene(str(path)) as scene:
        valid = scene.read(scene.frame.window, (0, 1))[1]

    assert valid[0, 0]
    assert not valid[0, 1:].any()
    assert valid[3:].all()


def test_zeros_are_data_where_the_file_declares_something_else(make_raster: MakeRaster) -> None:
    pixels = np.zeros((3, 6, 6), np.uint8)
    tagged = make_raster(name="tagged.tif", data=pixels, nodata=255)
    masked = make_raster(name="masked.tif", data=pixels, valid=np.eye(6, dtype=bool))

    with open_scene(str(tagged)) as scene:
        assert scene.read(scene.frame.window)[1].all()
    with open_scene(str(masked)) as scene:
        assert np.array_equal(scene.read(scene.frame.window)[1], np.eye(6, dtype=bool))
        assert np.array_equal(scene.stored_mask(scene.frame.window), np.eye(6, dtype=bool))


def test_transparent_pixels_are_invalid(make_raster: MakeRaster) -> None:
    pixels = np.full((4, 5, 5), 9, np.uint16)
    pixels[3] = np.arange(25).reshape(5, 5)
    path = make_raster(data=pixels, photometric="RGB")
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = [
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
            ColorInterp.alpha,
        ]

    with open_scene(str(path)) as scene:
        for bands in (None, (0, 1, 2)):
            assert np.array_equal(scene.read(scene.frame.window, bands)[1], pixels[3] > 0)


def test_nodata_that_no_pixel_can_carry_marks_nothing(make_raster: MakeRaster) -> None:
    path = make_raster(dtype="uint8")
    with rasterio.open(path, "r+") as raster:
        raster.nodata = -9999

    with open_scene(str(path)) as scene:
        assert scene.frame.nodata == (-9999.0,) * 3
        assert scene.read(scene.frame.window)[1].all()


# ------------------------------------------------------------------ overviews


@pytest.mark.parametrize("overviews", [(), (2, 4)])
def test_overview_keeps_shape_mean_and_validity(
    make_raster: MakeRaster, overviews: tuple[int, ...]
) -> None:
    pixels = np.full((3, 200, 300), 100, np.uint8)
    pixels[:, :100] = 0
    path = make_raster(data=pixels, nodata=0)
    if overviews:
        with rasterio.open(path, "r+") as raster:
            raster.build_overviews(overviews)

    with open_scene(str(path)) as scene:
        small, valid = scene.overview(50)
        cropped, _ = scene.crop(Window(100, 0, 100, 300)).overview(30)

    assert small.shape == (3, 33, 50)
    assert valid.mean() == pytest.approx(0.5, abs=0.05)
    assert (small[:, valid] == 100).all()
    assert cropped.shape == (3, 10, 30)
    assert (cropped == 100).all()


def test_small_scene_is_its_own_overview(make_raster: MakeRaster) -> None:
    with open_scene(str(make_raster(height=7, width=1))) as scene:
        assert scene.overview(100)[0].shape == (3, 7, 1)
        assert scene.overview(2)[0].shape == (3, 2, 1)


# ------------------------------------------------------------------ memory


def test_block_cache_of_gdal_is_bounded() -> None:
    with rasterio.Env(**GDAL_OPTIONS):
        assert get_gdal_config("GDAL_CACHEMAX") == GDAL_CACHE_MIB << 20


@pytest.mark.parametrize(
    ("width", "expected"), [(3000, GDAL_CACHE_MIB), (30_000, 198), (1 << 20, MOST_GDAL_CACHE_MIB)]
)
def test_long_rows_are_kept_until_the_next_block(
    make_raster: MakeRaster, width: int, expected: int
) -> None:
    path = make_raster(data=np.ones((3, 4, width), np.uint8), blockysize=1)

    with open_scene(str(path)) as scene:
        assert gdal_cache_mib(scene.frame) == expected
        assert gdal_cache_mib(scene.crop(Window(0, 0, 4, 100)).frame) == expected
        assert scene.read(Window(1, width - 9, 3, 9))[1].all()


# ------------------------------------------------------------------ fingerprint


def test_fingerprint_sees_a_changed_file(make_raster: MakeRaster) -> None:
    path = make_raster()
    with open_scene(str(path)) as scene:
        before = scene.fingerprint()
        assert before == scene.fingerprint()
    make_raster(seed=1)

    with open_scene(str(path)) as scene:
        assert scene.fingerprint() != before


def test_files_are_those_of_all_levels_of_a_virtual_raster(
    make_raster: MakeRaster, tmp_path: Path
) -> None:
    part, outer = nested(make_raster, tmp_path)

    with open_scene(str(outer)) as scene:
        assert sorted(scene.files) == sorted([outer, tmp_path / "inner.vrt", part])


def test_fingerprint_sees_a_part_two_levels_deep(make_raster: MakeRaster, tmp_path: Path) -> None:
    part, outer = nested(make_raster, tmp_path)
    with open_scene(str(outer)) as scene:
        before = scene.fingerprint()
    make_raster(name=part.name, height=16, width=16, seed=1)

    with open_scene(str(outer)) as scene:
        assert scene.fingerprint() != before


def test_fingerprint_sees_an_archive_that_was_packed_again(
    make_raster: MakeRaster, tmp_path: Path
) -> None:
    pixels = np.full((1, 300, 300), 7, np.uint8)
    address = pack(make_raster(data=pixels), tmp_path)
    with open_scene(address) as scene:
        before = scene.fingerprint()
        assert scene.files == (tmp_path / "scene.zip",)
    # Far from the diagonal, where samples of the pixels would lie.
    pixels[:, 10:20, -20:-10] = 9
    pack(make_raster(data=pixels), tmp_path)

    with open_scene(address) as scene:
        assert scene.fingerprint() != before


@pytest.mark.parametrize("address", ["/vsisubfile/0,{}", "GTIFF_DIR:1:{}", "vrt://{}?bands=1"])
def test_file_inside_an_address_is_known(make_raster: MakeRaster, address: str) -> None:
    path = make_raster()

    with open_scene(address.format(path)) as scene:
        assert scene.files == (path,)


def nested(make_raster: MakeRaster, folder: Path) -> tuple[Path, Path]:
    """Write a raster into a virtual one, that into another; return the first and the last."""
    part = make_raster(name="part.tif", height=16, width=16)
    for inner, outer in (("part.tif", "inner.vrt"), ("inner.vrt", "outer.vrt")):
        (folder / outer).write_text(
            '<VRTDataset rasterXSize="16" rasterYSize="16">'
            '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            f'<SourceFilename relativeToVRT="1">{inner}</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
        )
    return part, folder / "outer.vrt"


def pack(raster: Path, folder: Path) -> str:
    with zipfile.ZipFile(folder / "scene.zip", "w") as archive:
        archive.write(raster, raster.name)
    return f"/vsizip/{folder}/scene.zip/{raster.name}"
