# SPDX-License-Identifier: GPL-3.0-or-later
"""The output file is whole, carries the frame, and is never seen unfinished."""

from __future__ import annotations

import math
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from dehaze_core.engine.finalise import write_cog
from dehaze_core.engine.tiff_blocks import raw_bytes
from dehaze_core.engine.tiff_frame import differences
from dehaze_core.errors import OutputError, SettingsError
from dehaze_core.grid import Window
from dehaze_core.scene import Frame, Gcp, open_scene

UTM = CRS.from_epsg(32633).to_wkt(version="WKT2_2019")
PLACE = (10.0, 0.0, 5e5, 0.0, -10.0, 5e6)


def frame_of(**changes: Any) -> Frame:
    options = {"width": 70, "height": 60, "count": 3, "dtype": "uint8", "crs_wkt": UTM, **changes}
    options.setdefault("transform", PLACE)
    return Frame(**options)


def pixels_of(frame: Frame, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(1, 100, (frame.count, frame.height, frame.width))
    return values.astype(frame.dtype)


def write(
    path: Path,
    frame: Frame,
    pixels: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    **options: Any,
) -> tuple[str, ...]:
    data = pixels_of(frame) if pixels is None else pixels
    options = {"provenance": {}, "progress": lambda share: None, **options}
    return write_cog(
        lambda window: data[(slice(None), *window.slices)],
        frame,
        None if mask is None else lambda window: mask[window.slices],
        path,
        **options,
    )


def assert_carries(path: Path, frame: Frame) -> None:
    with open_scene(str(path)) as scene:
        assert differences(frame, scene.frame) == ([], [])


TRAITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one pixel": {"width": 1, "height": 1},
    "one row": {"height": 1, "width": 3000},
    "larger than a window": {"height": 2100, "width": 2300, "count": 1},
    "no georeference": {"crs_wkt": None, "transform": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)},
    "transform without CRS": {"crs_wkt": None},
    "CRS without transform": {"transform": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)},
    "rotated": {"transform": (8.0, 3.0, 5e5, 3.0, -8.0, 5e6)},
    "south-up": {"transform": (10.0, 0.0, 5e5, 0.0, 10.0, 5e6)},
    "one band": {"count": 1},
    "two bands": {"count": 2, "color_interp": ("gray", "undefined")},
    "many bands": {"count": 240, "width": 20, "dtype": "uint16"},
    "colours out of order": {"color_interp": ("blue", "green", "red")},
    "near infrared": {"count": 4, "color_interp": ("red", "green", "blue", "nir")},
    "false colours": {"color_interp": ("nir", "red", "green")},
    "alpha": {
        "count": 4,
        "mask": "alpha",
        "alpha_band": 3,
        "color_interp": ("red", "green", "blue", "alpha"),
    },
    "grey with alpha": {
        "count": 2,
        "dtype": "uint16",
        "mask": "alpha",
        "alpha_band": 1,
        "color_interp": ("gray", "alpha"),
    },
    "nodata": {"nodata": (0.0,) * 3, "mask": "nodata"},
    "nodata of NaN": {"nodata": (math.nan,) * 3, "mask": "nan", "dtype": "float32"},
    "nodata out of range": {"nodata": (-9999.0,) * 3, "mask": "nodata"},
    "smallest float as nodata": {
        "nodata": (float(np.finfo(np.float32).min),) * 3,
        "mask": "nodata",
        "dtype": "float32",
    },
    "scale and offset": {"scales": (0.1, 0.2, 0.3), "offsets": (1.0, 2.0, -3.0), "dtype": "int16"},
    "names and units": {"descriptions": ("a", None, "ü 漢"), "units": ("m", None, "K")},
    "tags": {
        "tags": {"": {"PLACE": "here", "AREA_OR_POINT": "Point"}, "MINE": {"a": "b"}},
        "band_tags": (
            {"": {"wavelength": "490", "unit": "nm"}, "OWN": {"x": "y"}},
            {"": {"wavelength": "560"}},
            {},
        ),
    },
    "pixel reference without CRS": {"crs_wkt": None, "tags": {"": {"AREA_OR_POINT": "Point"}}},
    "XML metadata": {"tags": {"xml:XMP": {"xml:XMP": '<x a="1">b=c</x>'}}},
    "control points": {
        "crs_wkt": None,
        "transform": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "gcps": tuple(
            Gcp(float(r), float(c), 10.0 + c, 50.0 - r, 0.0, f"{r}{c}", None)
            for r in (0, 60)
            for c in (0, 70)
        ),
        "gcp_crs_wkt": CRS.from_epsg(4326).to_wkt(version="WKT2_2019"),
    },
}


@pytest.mark.parametrize("name", TRAITS)
def test_trait_is_carried_and_the_file_is_cloud_optimised(tmp_path: Path, name: str) -> None:
    frame, path = frame_of(**TRAITS[name]), tmp_path / "out.tif"
    data = pixels_of(frame)

    lost = write(path, frame, data, provenance={"DEHAZE_MODEL": "lite"})

    assert lost == ()
    assert_carries(path, frame)
    with rasterio.open(path) as raster:
        assert np.array_equal(raster.read(), data)
        assert raster.tags()["DEHAZE_MODEL"] == "lite"
    assert cog_validate(path, strict=True) == (True, [], [])
    assert os.listdir(tmp_path) == ["out.tif"]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
@pytest.mark.parametrize("masked", [False, True])
def test_every_type_is_written_bit_by_bit(tmp_path: Path, dtype: str, masked: bool) -> None:
    frame = frame_of(dtype=dtype, mask="internal" if masked else "none", height=600, width=700)
    mask = np.random.default_rng(1).random((600, 700)) > 0.5 if masked else None
    data, path = pixels_of(frame), tmp_path / "out.tif"

    write(path, frame, data, mask)

    assert_carries(path, frame)
    with rasterio.open(path) as raster:
        assert np.array_equal(raster.read(), data)
        assert mask is None or np.array_equal(raster.dataset_mask() > 0, mask)
        assert raster.overviews(1) == [2]


def test_overviews_average_valid_pixels_only(tmp_path: Path) -> None:
    frame = frame_of(height=1100, width=1100, count=1, nodata=(0.0,), mask="nodata")
    data = np.full((1, 1100, 1100), 80, np.uint8)
    data[:, ::2] = 40
    data[:, :, 550:] = 0
    path = tmp_path / "out.tif"

    write(path, frame, data)

    with rasterio.open(path, OVERVIEW_LEVEL=0) as overview:
        small = overview.read(1)
    assert (small[:, :275] == 60).all()
    assert (small[:, 275:] == 0).all()


def test_different_nodata_of_bands_is_said_to_be_lost(tmp_path: Path) -> None:
    frame = frame_of(nodata=(1.0, 2.0, 3.0), mask="nodata")

    lost = write(tmp_path / "out.tif", frame)

    assert len(lost) == 1
    assert "nodata" in lost[0]


# ------------------------------------------------------------------ creation options


@pytest.mark.parametrize(
    ("options", "compression"),
    [
        (["COMPRESS=ZSTD", "LEVEL=1"], "zstd"),
        (["compress=lzw", "predictor=2"], "lzw"),
        (["COMPRESS=DEFLATE", "PREDICTOR=2", "ZLEVEL=9", "TILED=YES"], "deflate"),
        (["COMPRESS=NONE"], None),
        (["BLOCKSIZE=256", "SPARSE_OK=YES"], "deflate"),
    ],
)
def test_creation_options_are_passed_on(
    tmp_path: Path, options: list[str], compression: str | None
) -> None:
    path = tmp_path / "out.tif"

    write(path, frame_of(height=600, width=600), creation_options=options)

    with rasterio.open(path) as raster:
        assert raster.profile.get("compress") == compression
        assert raster.block_shapes[0][0] == (256 if "BLOCKSIZE=256" in options else 512)


def test_lossy_compression_is_the_user_s_own_choice(tmp_path: Path) -> None:
    write(tmp_path / "out.tif", frame_of(), creation_options=["COMPRESS=JPEG", "QUALITY=60"])

    with rasterio.open(tmp_path / "out.tif") as raster:
        assert raster.profile["compress"] == "jpeg"


@pytest.mark.parametrize(
    "option",
    [
        "TILING_SCHEME=GoogleMapsCompatible",
        "RES=3",
        "NONSENSE=1",
        "COMPRESS",
        "COMPRESS=",
        "COMPRESS=MAGIC",
    ],
)
def test_options_that_change_the_grid_or_make_no_sense_are_refused(
    tmp_path: Path, option: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        write(tmp_path / "out.tif", frame_of(), creation_options=[option])

    assert caught.value.code == "SETTINGS_OPTION"
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------ never unfinished


class Stop(Exception):
    """Raised by a test in the middle of the work."""


@pytest.mark.parametrize("share", [0.0, 0.2, 0.3, 0.8, 0.95])
@pytest.mark.parametrize("old", [False, True])
def test_interruption_leaves_the_old_file_or_none(tmp_path: Path, share: float, old: bool) -> None:
    path = tmp_path / "out.tif"
    if old:
        path.write_bytes(b"old")
    seen: list[list[str]] = []

    def progress(done: float) -> None:
        seen.append(sorted(os.listdir(tmp_path)))
        if done > share:
            raise Stop

    with pytest.raises(Stop):
        write(path, frame_of(height=3000, width=100), progress=progress)

    assert os.listdir(tmp_path) == (["out.tif"] if old else [])
    assert not old or path.read_bytes() == b"old"
    assert all(old or "out.tif" not in names for names in seen)


def test_error_of_the_store_ends_the_work_cleanly(tmp_path: Path) -> None:
    def broken(window: Window) -> np.ndarray:
        raise Stop

    with pytest.raises(Stop):
        write_cog(
            broken, frame_of(), None, tmp_path / "out.tif", provenance={}, progress=lambda s: None
        )

    assert os.listdir(tmp_path) == []


def test_old_file_and_its_sidecars_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    path.write_bytes(b"old")
    for suffix in (".aux.xml", ".ovr", ".msk"):
        (tmp_path / f"out.tif{suffix}").write_bytes(b"old")

    write(path, frame_of())

    assert os.listdir(tmp_path) == ["out.tif"]
    assert_carries(path, frame_of())


def test_temporary_files_may_live_elsewhere(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    seen: set[str] = set()

    write(
        tmp_path / "out.tif",
        frame_of(),
        work_folder=work,
        progress=lambda share: seen.update(os.listdir(tmp_path)),
    )

    assert seen - {"out.tif"} == {"work"}
    assert os.listdir(work) == []


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    seen: list[float] = []

    write(tmp_path / "out.tif", frame_of(height=3000), progress=seen.append)

    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert 0 < seen[0] < 1


def test_difference_between_store_and_file_is_noticed(tmp_path: Path) -> None:
    frame = frame_of()
    data = pixels_of(frame)

    def progress(share: float) -> None:
        if share == 0.8:
            damage(next(tmp_path.glob(".out-*/result.tif")))

    with pytest.raises(OutputError) as caught:
        write(
            tmp_path / "out.tif", frame, data, progress=progress, creation_options=["COMPRESS=NONE"]
        )

    assert caught.value.code == "OUTPUT_VERIFY"
    assert os.listdir(tmp_path) == []


def damage(path: Path) -> None:
    with rasterio.open(path) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset + 10)
        byte = file.read(1)
        file.seek(offset + 10)
        file.write(bytes([byte[0] ^ 1]))


# ------------------------------------------------------------------ disks and folders


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.74, 0.8, 0.9, 0.99])
def test_full_disk_is_explained_and_leaves_the_old_file(tmp_path: Path, share: float) -> None:
    frame, path = frame_of(height=1500, width=1500), tmp_path / "out.tif"
    path.write_bytes(b"old")

    with file_size_limit(int(share * raw_bytes(frame))), pytest.raises(OutputError) as caught:
        write(path, frame)

    assert caught.value.code == "OUTPUT_DISK_FULL"
    assert f"({2 * raw_bytes(frame)} bytes) are needed" in caught.value.message
    assert "free" in caught.value.message
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.tif"]
    write(path, frame)
    assert_carries(path, frame)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no small disk may be mounted here")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


@pytest.mark.parametrize("share", [0.1, 0.7, 0.9, 1.05, 1.3])
def test_really_full_disk_leaves_nothing(small_disk: Callable[[int], Path], share: float) -> None:
    frame = frame_of(height=1500, width=1500)
    folder = small_disk(int(share * raw_bytes(frame)))
    noise = np.random.default_rng(0).integers(1, 255, (3, 1500, 1500), dtype=np.uint8)

    with pytest.raises(OutputError) as caught:
        write(folder / "out.tif", frame, noise)

    assert caught.value.code == "OUTPUT_DISK_FULL"
    assert os.listdir(folder) == []


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write(tmp_path / "none" / "out.tif", frame_of())

    assert caught.value.code == "OUTPUT_FOLDER"
    assert str(tmp_path / "none") in caught.value.message


def test_path_with_blanks_and_foreign_letters_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / "Žluťoučký 漢 dir"
    folder.mkdir()
    path = folder / ("a b'c " + "x" * 200 + ".tif")

    write(path, frame_of())

    assert_carries(path, frame_of())


def test_mask_must_come_with_frames_that_have_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mask_read"):
        write(tmp_path / "out.tif", frame_of(mask="internal"))


def test_differences_tell_wrong_from_lost() -> None:
    frame = frame_of(nodata=(1.0,) * 3, mask="nodata", tags={"": {"A": "1"}})

    wrong, lost = differences(
        frame,
        replace(
            frame,
            transform=tuple(Affine.scale(2))[:6],
            nodata=(2.0,) * 3,
            tags={},
            crs_wkt=CRS.from_epsg(4326).to_wkt(),
        ),
    )

    assert len(wrong) == 3
    assert lost == ["tags A in domain default of the file"]
