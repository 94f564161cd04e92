# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the zoo that shows what pixels are: bands, types, missing ones, what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rasterio.enums import ColorInterp

from tests.frame.rasters import (
    HEIGHT,
    WIDTH,
    Case,
    geotiff,
    pixels,
    setting,
    tagged,
    valid_outside_wedge,
    wedge,
    write,
)

NAN_ISLAND = (slice(None), slice(5, 9), slice(30, 34))


def _colors(*names: str) -> Any:
    return setting(colorinterp=[ColorInterp[name] for name in names])


def _float16(folder: Path) -> str:
    path = folder / "scene.zarr"
    xr.DataArray(pixels(3, "float16"), dims=("band", "y", "x"), name="image").to_dataset().to_zarr(
        path, zarr_format=3, consolidated=False
    )
    return str(path)


def _complex(folder: Path) -> str:
    data = (pixels(1, "float32") + 1j * pixels(1, "float32")).astype("complex64")
    return write(folder / "scene.tif", data)


def _palette(folder: Path) -> str:
    def edit(raster: Any) -> None:
        raster.write_colormap(1, {number: (number, 0, 255 - number, 255) for number in range(256)})

    return write(folder / "scene.tif", pixels(1), edit=edit, photometric="palette")


def _vrt(folder: Path, per_band: list[str], dtype: str = "uint8") -> str:
    """Write a virtual raster whose bands have nodata values that no GeoTIFF would take."""
    data = pixels(len(per_band), dtype)
    for plane, value in zip(data, per_band, strict=True):
        if value and np.iinfo(dtype).min <= int(value) <= np.iinfo(dtype).max:
            plane[:10, :10] = int(value)
    write(folder / "pixels.tif", data)
    names = {"uint8": "Byte", "int16": "Int16", "int64": "Int64"}
    bands = "".join(
        f"""<VRTRasterBand dataType="{names[dtype]}" band="{band}">
        {f"<NoDataValue>{value}</NoDataValue>" if value else ""}<SimpleSource>
        <SourceFilename relativeToVRT="1">pixels.tif</SourceFilename>
        <SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"""
        for band, value in enumerate(per_band, start=1)
    )
    path = folder / "scene.vrt"
    path.write_text(
        f"""<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"><SRS>EPSG:32633</SRS>
        <GeoTransform>500000, 10, 0, 5400000, 0, -10</GeoTransform>{bands}</VRTDataset>"""
    )
    return str(path)


def _alpha(count: int, dtype: str, graded: bool = False) -> Any:
    def build(folder: Path) -> str:
        data = pixels(count, dtype)
        top = np.iinfo(dtype).max
        data[-1] = np.where(valid_outside_wedge(), top, 0)
        if graded:
            data[-1, 30:, :] = top // 3
        colors = ("red", "green", "blue")[: count - 1] if count > 2 else ("gray",)
        return write(folder / "scene.tif", data, edit=_colors(*colors, "alpha"))

    return build


def _graded_mask(folder: Path) -> str:
    mask = np.where(valid_outside_wedge(), 255, 0).astype(np.uint8)
    mask[30:] = 128
    return write(folder / "scene.tif", mask=mask, internal_mask=False)


def _nodata(value: float, dtype: str, count: int = 3, fill: float | None = None) -> Any:
    return geotiff(
        lambda: wedge(pixels(count, dtype), value if fill is None else fill), nodata=value
    )


def _nan_islands(nodata: float | None) -> Any:
    def build(folder: Path) -> str:
        data = wedge(pixels(3, "float32"), np.nan if nodata is None else nodata)
        data[NAN_ISLAND] = np.nan
        data[0, 20, 20] = np.inf
        return write(folder / "scene.tif", data, nodata=nodata)

    return build


CASES = [
    Case("bands", "one", geotiff(lambda: pixels(1))),
    Case("bands", "two", geotiff(lambda: pixels(2))),
    Case("bands", "three", geotiff()),
    Case("bands", "four", geotiff(lambda: pixels(4, "uint16"), photometric="minisblack")),
    Case("bands", "eight", geotiff(lambda: pixels(8, "uint16"))),
    Case("bands", "230", geotiff(lambda: pixels(230, "uint16", 12, 16), interleave="band")),
    *(
        Case("data type", dtype, geotiff(lambda dtype=dtype: pixels(3, dtype)))
        for dtype in (
            *("int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
            *("float32", "float64"),
        )
    ),
    Case("data type", "float16", _float16, tiff_refused="OUTPUT_DTYPE"),
    Case("data type", "complex", _complex, refused="INPUT_COMPLEX"),
    Case("data type", "palette", _palette, refused="INPUT_PALETTE"),
    Case("nodata", "zero", _nodata(0, "uint8")),
    Case("nodata", "white", _nodata(255, "uint8")),
    Case("nodata", "negative", _nodata(-9999, "int16")),
    Case("nodata", "smallest float", _nodata(float(np.finfo(np.float32).min), "float32")),
    Case("nodata", "a float without an end", _nodata(0.1, "float32", fill=np.float32(0.1))),
    Case("nodata", "huge, float64", _nodata(-1.2676506e30, "float64", 1)),
    Case("nodata", "NaN", _nodata(float("nan"), "float32")),
    Case("nodata", "number beside NaN islands", _nan_islands(-1.0)),
    Case("nodata", "NaN islands, undeclared", _nan_islands(None)),
    Case("nodata", "outside the type", lambda folder: _vrt(folder, ["-9999"] * 3)),
    Case(
        "nodata",
        "in one band only",
        lambda folder: _vrt(folder, ["7", "", ""]),
        says="nodata values",
    ),
    Case(
        "nodata",
        "different per band",
        lambda folder: _vrt(folder, ["1", "2", "3"], "int16"),
        says="nodata values",
    ),
    Case(
        "nodata",
        "a 64-bit integer",
        lambda folder: _vrt(folder, [str(-(2**63))] * 3, "int64"),
        says="nodata values",
    ),
    Case("nodata", "everything is", geotiff(lambda: pixels(3) * 0, nodata=0)),
    Case("nodata", "undeclared zeros", geotiff(lambda: wedge(pixels(3), 0))),
    Case("mask", "internal", geotiff(mask=valid_outside_wedge())),
    Case("mask", "file beside", geotiff(mask=valid_outside_wedge(), internal_mask=False)),
    Case("mask", "with values between", _graded_mask, says="mask"),
    Case("mask", "uint16", geotiff(lambda: pixels(3, "uint16"), mask=valid_outside_wedge())),
    Case("alpha", "8 bit", _alpha(4, "uint8")),
    Case("alpha", "16 bit", _alpha(4, "uint16")),
    Case("alpha", "partly transparent", _alpha(4, "uint8", graded=True)),
    Case("alpha", "with one grey band", _alpha(2, "uint8")),
    Case("scale and offset", "the same", geotiff(edit=setting(scales=[0.5] * 3, offsets=[-1] * 3))),
    Case(
        "scale and offset",
        "per band",
        geotiff(
            lambda: pixels(3, "int16"), edit=setting(scales=(1e-4, 2e-4, 3e-4), offsets=(0.1, 0, 1))
        ),
    ),
    Case("units", "per band", geotiff(edit=setting(units=("W/m²", "K", "")))),
    Case(
        "band descriptions", "some", geotiff(edit=setting(descriptions=("red edge", "", "Žluť 漢")))
    ),
    Case("colours", "blue first", geotiff(edit=_colors("blue", "green", "red"))),
    Case(
        "colours",
        "near infrared",
        geotiff(lambda: pixels(4), edit=_colors("red", "green", "blue", "nir")),
    ),
    Case("colours", "false", geotiff(edit=_colors("nir", "red", "green"))),
    Case(
        "colours",
        "satellite names",
        geotiff(
            lambda: pixels(5, "uint16"), edit=_colors("coastal", "blue", "rededge", "swir", "pan")
        ),
    ),
    Case("tags", "default domain", geotiff(edit=tagged(PLACE="Praha", EMPTY="", **{"a:b c": "1"}))),
    Case(
        "tags",
        "any text",
        geotiff(edit=tagged(TEXT="<\"&'> ü 漢\n\ttwo lines", LONG="x" * 20_000, NUMBER="0.10")),
    ),
    Case(
        "tags",
        "other domains",
        geotiff(edit=tagged(domains={"IMAGERY": {"CLOUDCOVER": "12"}, "My domain": {"k": "v"}})),
    ),
    Case(
        "tags",
        "XML",
        geotiff(edit=tagged(domains={"xml:XMP": {"<x:xmpmeta a": '"1">b=c</x:xmpmeta>'}})),
    ),
    Case(
        "tags",
        "of bands",
        geotiff(edit=tagged(bands={1: {"wavelength": "490", "fwhm": "60"}, 3: {"note": "x"}})),
    ),
    Case(
        "tags",
        "of TIFF",
        geotiff(edit=tagged(TIFFTAG_SOFTWARE="scanner", TIFFTAG_DATETIME="2024:05:06 07:08:09")),
    ),
    Case(
        "tags",
        "with names that CF uses",
        geotiff(edit=tagged(units="x", scale_factor="2", _FillValue="5", long_name="z", tags="t")),
    ),
]
