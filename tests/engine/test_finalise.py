# SPDX-License-Identifier: GPL-3.0-or-later
"""The output file is whole, cloud-optimised, and carries the frame."""

from __future__ import annotations

import base64
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image, ImageCms
from rasterio.crs import CRS

from dehaze_core.engine.output.tiff_frame import differences
from dehaze_core.errors import OutputError, SettingsError
from dehaze_core.scene import Gcp, open_scene
from dehaze_core.scene.frame import same_number
from tests.engine.outputs import assert_carries, frame_of, pixels_of, write

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
    "XML metadata": {"tags": {"xml:XMP": {"xml:XMP": '<x a="1">b=c</x>'}}},
    "control points": {
        "crs_wkt": None,
        "transform": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "gcps": tuple(
            Gcp(float(r), float(c), 10.0 + c, 50.0 - r, 0.0, str(number), None)
            for number, (r, c) in enumerate(((0, 0), (0, 70), (60, 0), (60, 70)), start=1)
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
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert os.listdir(tmp_path) == ["out.tif"]


@pytest.mark.parametrize("name", ["plain", "one pixel", "larger than a window", "tags", "alpha"])
def test_validator_of_rio_cogeo_has_no_complaint(tmp_path: Path, name: str) -> None:
    cogeo = pytest.importorskip("rio_cogeo.cogeo")
    path = tmp_path / "out.tif"

    write(path, frame_of(**TRAITS[name]))

    assert cogeo.cog_validate(path, strict=True) == (True, [], [])


GDAL_VALIDATOR = """
import sys
from osgeo import gdal
from osgeo_utils.samples.validate_cloud_optimized_geotiff import validate
gdal.UseExceptions()
for path in sys.argv[1:]:
    warnings, errors, _ = validate(path, full_check=True)
    if warnings or errors:
        sys.exit(f"{path}: {warnings} {errors}")
"""


def gdal_python() -> str | None:
    """Return a Python that has GDAL's own bindings and tools, which rasterio does without."""
    for python in filter(None, (sys.executable, shutil.which("python3", path="/usr/bin"))):
        found = subprocess.run(
            [python, "-c", "import osgeo_utils.samples"], check=False, capture_output=True
        )
        if found.returncode == 0:
            return python
    return None


def test_validator_of_gdal_has_no_complaint(tmp_path: Path) -> None:
    python = gdal_python()
    if python is None:
        pytest.skip("no Python with GDAL's tools")
    for name in ("plain", "one pixel", "larger than a window", "many bands", "tags", "alpha"):
        write(tmp_path / f"{name}.tif", frame_of(**TRAITS[name]))
    mask = np.random.default_rng(1).random((600, 700)) > 0.5
    write(tmp_path / "mask.tif", frame_of(mask="internal", height=600, width=700), mask=mask)

    files = sorted(map(str, tmp_path.glob("*.tif")))
    checked = subprocess.run(
        [python, "-c", GDAL_VALIDATOR, *files], check=False, capture_output=True, text=True
    )

    assert checked.stderr == ""
    assert checked.returncode == 0


@pytest.mark.parametrize(
    "dtype",
    [
        *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
        *("float32", "float64"),
    ],
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


def test_type_that_a_geotiff_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write(tmp_path / "out.tif", frame_of(dtype="float16"))

    assert caught.value.code == "OUTPUT_DTYPE"
    assert os.listdir(tmp_path) == []


def test_colour_profile_of_a_photograph_is_carried(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.new("RGB", (40, 30), (90, 80, 70))
    picture.save(tmp_path / "photo.jpg", icc_profile=profile)

    with open_scene(str(tmp_path / "photo.jpg")) as scene:
        data, _ = scene.read(scene.frame.window)
        lost = write(tmp_path / "out.tif", scene.frame, data)

    assert lost == ()
    with rasterio.open(tmp_path / "out.tif") as raster:
        assert base64.b64decode(raster.tags(ns="COLOR_PROFILE")["SOURCE_ICC_PROFILE"]) == profile


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


@pytest.mark.parametrize(
    ("nodata", "dtype"),
    [
        ((1.0, 2.0, 3.0), "uint8"),
        ((None, 2.0, None), "uint8"),
        ((math.nan, -1.5, math.inf), "float32"),
        ((float(-(2**63)),) * 3, "int64"),
    ],
)
def test_nodata_that_a_geotiff_cannot_hold_lies_beside(
    tmp_path: Path, nodata: tuple[float | None, ...], dtype: str
) -> None:
    lost = write(tmp_path / "out.tif", frame_of(nodata=nodata, dtype=dtype))

    assert len(lost) == 1
    assert "out.tif.aux.xml" in lost[0]
    with rasterio.open(tmp_path / "out.tif") as raster:
        assert all(map(same_number, raster.nodatavals, nodata))


def test_pixel_reference_without_crs_is_said_to_be_lost(tmp_path: Path) -> None:
    lost = write(
        tmp_path / "out.tif", frame_of(crs_wkt=None, tags={"": {"AREA_OR_POINT": "Point"}})
    )

    assert len(lost) == 1
    assert "AREA_OR_POINT" in lost[0]
    with rasterio.open(tmp_path / "out.tif") as raster:
        assert raster.crs is None


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
