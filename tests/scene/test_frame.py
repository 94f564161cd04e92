# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of a raster: every trait is read as the file declares it, and moves with a crop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from dehaze_core.grid import Window
from dehaze_core.scene import Frame, open_scene
from dehaze_core.scene.frame import same_number

MakeRaster = Callable[..., Path]

TRANSFORMS = {
    "north-up": Affine(10, 0, 5e5, 0, -10, 5e6),
    "south-up": Affine(10, 0, 5e5, 0, 10, 5e6),
    "rotated": Affine(8, 3, 5e5, 3, -8, 5e6),
    "non-square": Affine(0.3, 0, -71.1, 0, -0.7, 12.3),
}
NODATA = {"none": None, "number": 7.0, "nan": math.nan, "out-of-range": -99999.0}
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
CASES = [
    (dtype, nodata, masked, transform)
    for dtype, nodata, masked, transform in itertools.product(
        DTYPES, NODATA, (False, True), TRANSFORMS
    )
    if (nodata != "nan" or dtype.startswith("float"))
    and (nodata != "out-of-range" or dtype not in {"int32", "float32", "float64"})
]
CUSTOM_WKT = (
    'PROJCS["Home",GEOGCS["G",DATUM["D",SPHEROID["S",6378000,298]],PRIMEM["P",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",1],PARAMETER["central_meridian",33],'
    'PARAMETER["scale_factor",0.9999],PARAMETER["false_easting",12],'
    'PARAMETER["false_northing",34],UNIT["metre",1]]'
)


@pytest.mark.parametrize(("dtype", "nodata_kind", "masked", "transform"), CASES)
def test_frame_reports_what_the_file_declares(
    make_raster: MakeRaster, dtype: str, nodata_kind: str, masked: bool, transform: str
) -> None:
    path = make_raster(
        height=5,
        width=6,
        dtype=dtype,
        transform=TRANSFORMS[transform],
        valid=np.ones((5, 6), bool) if masked else None,
    )
    nodata = NODATA[nodata_kind]
    if nodata is not None:
        with rasterio.open(path, "r+") as raster:
            raster.nodata = nodata

    with open_scene(str(path)) as scene:
        frame = scene.frame

    assert (frame.height, frame.width, frame.count, frame.dtype) == (5, 6, 3, dtype)
    assert frame.transform == tuple(TRANSFORMS[transform])[:6]
    assert CRS.from_wkt(frame.crs_wkt) == CRS.from_epsg(32633)
    assert all(same_number(value, nodata) for value in frame.nodata)
    expected = {"none": "none", "nan": "nan"}.get(nodata_kind, "nodata")
    assert frame.mask == ("internal" if masked else expected)


def test_metadata_of_every_kind_is_read(make_raster: MakeRaster) -> None:
    path = make_raster(count=4, descriptions=("a", "b", "c", "d"))
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = (0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4)
        raster.units = ("m", "m", "K", "")
        raster.update_tags(PLACE="here")
        raster.update_tags(ns="MINE", a="b")
        raster.update_tags(2, wavelength="560")
        raster.update_tags(2, STATISTICS_MEAN="3")

    with open_scene(str(path)) as scene:
        frame = scene.frame

    assert frame.descriptions == ("a", "b", "c", "d")
    assert frame.scales == (0.1, 0.2, 0.3, 0.4)
    assert frame.offsets == (1.0, 2.0, 3.0, 4.0)
    assert frame.units == ("m", "m", "K", None)
    assert frame.tags[""]["PLACE"] == "here"
    assert frame.tags["MINE"] == {"a": "b"}
    # Statistics of the hazy pixels must not be taken for those of the result.
    assert frame.band_tags[1] == {"": {"wavelength": "560"}}


def test_custom_crs_without_authority_survives(make_raster: MakeRaster) -> None:
    path = make_raster(crs=CUSTOM_WKT)

    with open_scene(str(path)) as scene:
        assert CRS.from_wkt(scene.frame.crs_wkt) == CRS.from_wkt(CUSTOM_WKT)


def test_raster_without_georeference_stays_without(make_raster: MakeRaster) -> None:
    path = make_raster(crs=None, transform=Affine.identity())

    with open_scene(str(path)) as scene:
        assert scene.frame.crs_wkt is None
        assert not scene.frame.is_georeferenced
        assert not scene.crop(Window(3, 4, 5, 6)).frame.is_georeferenced


def test_control_points_and_rpcs_are_read_and_move_with_a_crop(tmp_path: Path) -> None:
    path = tmp_path / "points.tif"
    points = [
        GroundControlPoint(r, c, 10 + c, 50 - r, 0.0, f"p{r}{c}") for r in (0, 8) for c in (0, 9)
    ]
    with rasterio.open(
        path, "w", driver="GTiff", height=8, width=9, count=1, dtype="uint8"
    ) as raster:
        raster.gcps = points, CRS.from_epsg(4326)
        raster.update_tags(ns="RPC", **rpc_tags())
        raster.write(np.ones((1, 8, 9), np.uint8))

    with open_scene(str(path)) as scene:
        frame, cropped = scene.frame, scene.crop(Window(2, 3, 4, 5)).frame

    assert [(g.row, g.col, g.x, g.y) for g in frame.gcps] == [
        (p.row, p.col, p.x, p.y) for p in points
    ]
    assert CRS.from_wkt(frame.gcp_crs_wkt) == CRS.from_epsg(4326)
    assert [(g.row, g.col) for g in cropped.gcps] == [(p.row - 2, p.col - 3) for p in points]
    assert frame.rpcs is not None
    assert cropped.rpcs is not None
    assert float(cropped.rpcs["LINE_OFF"]) == float(frame.rpcs["LINE_OFF"]) - 2
    assert float(cropped.rpcs["SAMP_OFF"]) == float(frame.rpcs["SAMP_OFF"]) - 3


@pytest.mark.parametrize("name", TRANSFORMS)
def test_crop_keeps_every_pixel_at_its_place_on_the_map(name: str) -> None:
    frame = Frame(
        width=40, height=30, count=1, dtype="uint8", transform=tuple(TRANSFORMS[name])[:6]
    )

    cropped = frame.crop(Window(7, 11, 5, 6))

    assert (cropped.height, cropped.width) == (5, 6)
    assert cropped.affine * (2, 3) == pytest.approx(frame.affine * (13, 10), rel=1e-14)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("red", "green", "blue"), (0, 1, 2)),
        (("blue", "green", "red", "nir"), (2, 1, 0)),
        (("alpha", "red", "green", "blue"), (1, 2, 3)),
        (("gray", "undefined", "undefined"), (0, 1, 2)),
        (("alpha", "gray", "undefined", "undefined"), (1, 2, 3)),
        (("gray",), (0,)),
        (("gray", "alpha"), (0,)),
        (("red", "green"), (0,)),
    ],
)
def test_model_bands_follow_the_colours(names: tuple[str, ...], expected: tuple[int, ...]) -> None:
    alpha = names.index("alpha") if "alpha" in names else None
    frame = Frame(
        width=1, height=1, count=len(names), dtype="uint8", color_interp=names, alpha_band=alpha
    )

    assert frame.rgb_bands == expected


def test_fourth_band_of_near_infrared_is_not_alpha(make_raster: MakeRaster) -> None:
    path = make_raster(count=4, photometric="RGB", ALPHA="UNSPECIFIED")
    alpha = make_raster(name="alpha.tif", count=4)
    with rasterio.open(alpha, "r+") as raster:
        raster.colorinterp = [
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
            ColorInterp.alpha,
        ]

    with open_scene(str(path)) as scene, open_scene(str(alpha)) as with_alpha:
        assert scene.frame.alpha_band is None
        assert scene.frame.mask == "none"
        assert with_alpha.frame.alpha_band == 3
        assert with_alpha.frame.mask == "alpha"


def rpc_tags() -> dict[str, str]:
    zeros = " ".join(["0"] * 19)
    return {
        "LINE_OFF": "4",
        "SAMP_OFF": "4.5",
        "LAT_OFF": "50",
        "LONG_OFF": "10",
        "HEIGHT_OFF": "0",
        "LINE_SCALE": "4",
        "SAMP_SCALE": "4.5",
        "LAT_SCALE": "1",
        "LONG_SCALE": "1",
        "HEIGHT_SCALE": "100",
        "LINE_NUM_COEFF": f"0.123456789012345 {zeros}",
        "LINE_DEN_COEFF": f"1 {zeros}",
        "SAMP_NUM_COEFF": f"0.2 {zeros}",
        "SAMP_DEN_COEFF": f"1 {zeros}",
    }
