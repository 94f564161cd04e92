# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the zoo that shows where rasters lie: CRS, geotransform, control points, RPCs."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from tests.frame.rasters import NORTH_UP, Case, geotiff, pixels, tagged, write

CUSTOM = """PROJCRS["Our valley grid",BASEGEOGCRS["Valley",DATUM["Valley 1907",
ELLIPSOID["Valley ellipsoid",6377000.5,298.7,LENGTHUNIT["metre",1]]],
PRIMEM["Greenwich",0,ANGLEUNIT["degree",0.0174532925199433]]],
CONVERSION["Valley projection",METHOD["Transverse Mercator",ID["EPSG",9807]],
PARAMETER["Latitude of natural origin",46.5,ANGLEUNIT["degree",0.0174532925199433]],
PARAMETER["Longitude of natural origin",8.25,ANGLEUNIT["degree",0.0174532925199433]],
PARAMETER["Scale factor at natural origin",0.99992,SCALEUNIT["unity",1]],
PARAMETER["False easting",12345.6,LENGTHUNIT["metre",1]],
PARAMETER["False northing",-500,LENGTHUNIT["metre",1]]],
CS[Cartesian,2],AXIS["(E)",east,ORDER[1],LENGTHUNIT["metre",1]],
AXIS["(N)",north,ORDER[2],LENGTHUNIT["metre",1]]]"""
LOCAL = """ENGCRS["site grid",EDATUM["site datum"],CS[Cartesian,2],
AXIS["(E)",east,ORDER[1],LENGTHUNIT["metre",1]],AXIS["(N)",north,ORDER[2],LENGTHUNIT["metre",1]]]"""
GEOSTATIONARY = "+proj=geos +h=35785831 +lon_0=-75 +sweep=x +ellps=GRS80"
ROTATED_POLE = (
    "+proj=ob_tran +o_proj=longlat +o_lon_p=-162 +o_lat_p=39.25 +lon_0=180 +R=6371229 "
    "+to_meter=0.0174532925199433"
)
DEGREES = Affine(0.001, 0, 14.0, 0, -0.001, 50.0)

RPCS = {
    "ERR_BIAS": "2.5",
    "ERR_RAND": "0.5",
    "LINE_OFF": "1234.5",
    "SAMP_OFF": "2345.25",
    "LAT_OFF": "48.125",
    "LONG_OFF": "11.5",
    "HEIGHT_OFF": "500",
    "LINE_SCALE": "1300",
    "SAMP_SCALE": "2400",
    "LAT_SCALE": "0.0625",
    "LONG_SCALE": "0.125",
    "HEIGHT_SCALE": "600",
    **{
        f"{name}_COEFF": " ".join(repr(1 / (seed + place)) for place in range(20))
        for seed, name in enumerate(("LINE_NUM", "LINE_DEN", "SAMP_NUM", "SAMP_DEN"), start=3)
    },
}


def _points(heights: bool = False) -> list[GroundControlPoint]:
    return [
        GroundControlPoint(
            row=row,
            col=col,
            x=14.0 + col / 1000 + row / 70000,
            y=50.0 - row / 1000 + 1e-9,
            z=row * 1.5 if heights else 0.0,
        )
        for row in (0.5, 20.25, 39.5)
        for col in (0.5, 47.5)
    ]


def _with_points(crs: CRS | None, heights: bool = False) -> Any:
    def edit(raster: Any) -> None:
        raster.gcps = _points(heights), crs or CRS()

    return geotiff(crs=None, transform=None, edit=edit)


def _with_named_points(folder: Path) -> str:
    source = _with_points(CRS.from_epsg(4326))(folder)
    path = folder / "scene.vrt"
    rasterio.shutil.copy(source, path, driver="VRT")
    path.write_text(path.read_text().replace('Id="2"', 'Id="tower" Info="seen in the field"'))
    return str(path)


def _with_rpcs(folder: Path) -> str:
    return write(folder / "scene.tif", crs=None, transform=None, edit=tagged(domains={"RPC": RPCS}))


def _with_both(folder: Path) -> str:
    def edit(raster: Any) -> None:
        raster.gcps = _points(), CRS.from_epsg(4326)
        raster.update_tags(ns="RPC", **RPCS)

    return write(folder / "scene.tif", crs=None, transform=None, edit=edit)


def _in_vrt(crs: str, transform: Affine = NORTH_UP) -> Any:
    """Return a builder of a virtual raster, which holds a CRS as text and to the letter."""

    def build(folder: Path) -> str:
        source = write(folder / "pixels.tif", crs=None, transform=transform)
        path = folder / "scene.vrt"
        rasterio.shutil.copy(source, path, driver="VRT")
        text = html.escape(CRS.from_user_input(crs).to_wkt(version="WKT2_2019"))
        entry = f'<SRS dataAxisToSRSAxisMapping="1,2">{text}</SRS><GeoTransform>'
        path.write_text(path.read_text().replace("<GeoTransform>", entry, 1))
        return str(path)

    return build


def _crs(name: str, crs: str, transform: Affine = NORTH_UP, **more: Any) -> Case:
    return Case("CRS", name, geotiff(crs=CRS.from_user_input(crs), transform=transform), **more)


def _transform(name: str, transform: Affine | None, **profile: Any) -> Case:
    return Case("geotransform", name, geotiff(transform=transform, **profile))


CASES = [
    _crs("EPSG, projected", "EPSG:32633"),
    _crs("EPSG, degrees", "EPSG:4326", DEGREES),
    _crs("EPSG, feet", "EPSG:2263"),
    _crs("compound with heights", "EPSG:7405"),
    _crs("custom WKT2 without authority", CUSTOM),
    _crs("with a datum shift", "+proj=tmerc +lon_0=14 +ellps=bessel +towgs84=570,85,462,5,1,5,3.5"),
    _crs("polar", "EPSG:3031", Affine(1000, 0, -24_000, 0, -1000, 20_000)),
    _crs(
        "geostationary",
        GEOSTATIONARY,
        Affine(2004, 0, -3_600_000, 0, -2004, 1_600_000),
    ),
    _crs("across the dateline", "EPSG:4326", Affine(0.01, 0, 179.8, 0, -0.01, -16.0)),
    _crs("across the dateline, UTM", "EPSG:32660", Affine(10, 0, 819_800, 0, -10, 8_000_000)),
    _crs("Mars", "+proj=eqc +lat_ts=15 +R=3396190", Affine(25, 0, 1e6, 0, -25, 1e6)),
    Case("CRS", "geostationary, as text", _in_vrt(GEOSTATIONARY)),
    Case("CRS", "custom WKT2, as text", _in_vrt(CUSTOM)),
    Case(
        "CRS",
        "compound, as text (its unit becomes the bands’)",
        _in_vrt("EPSG:7405"),
        tiff_loses=("units",),
    ),
    Case("CRS", "rotated pole", _in_vrt(ROTATED_POLE, DEGREES), says="aux.xml"),
    Case("CRS", "local site grid", _in_vrt(LOCAL), says="aux.xml"),
    Case("CRS", "none", geotiff(crs=None)),
    Case("CRS", "without a geotransform", geotiff(transform=None)),
    _transform("south-up", Affine(10, 0, 500_000, 0, 10, 5_400_000)),
    _transform("rotated", Affine(8, 3, 500_000, 3, -8, 5_400_000)),
    _transform("sheared and mirrored", Affine(-8, 1, 500_000, -2, 9, 5_400_000)),
    _transform("non-square pixels", Affine(10, 0, 500_000, 0, -2.5, 5_400_000)),
    _transform("digits to the last", Affine(1 / 3, 0, 1e6 / 7, 0, -1 / 3, 5e6 / 11)),
    _transform("none", None, crs=None),
    Case("pixel reference", "centre", geotiff(edit=tagged(AREA_OR_POINT="Point"))),
    Case(
        "pixel reference",
        "centre, without a CRS",
        geotiff(crs=None, edit=tagged(AREA_OR_POINT="Point")),
    ),
    Case("GCPs", "with a CRS", _with_points(CRS.from_epsg(4326))),
    Case("GCPs", "with heights", _with_points(CRS.from_epsg(4326), heights=True)),
    Case("GCPs", "with ids and remarks", _with_named_points, tiff_loses=("gcps",)),
    Case("GCPs", "projected CRS", _with_points(CRS.from_epsg(32633))),
    Case("GCPs", "without a CRS", _with_points(None)),
    Case("RPCs", "alone", _with_rpcs),
    Case("RPCs", "with GCPs", _with_both),
    Case("RPCs", "with a CRS", geotiff(transform=None, edit=tagged(domains={"RPC": RPCS}))),
    Case("size", "one pixel", geotiff(lambda: pixels(height=1, width=1))),
    Case("size", "one row", geotiff(lambda: pixels(height=1, width=90))),
]
