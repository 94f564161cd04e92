# SPDX-License-Identifier: GPL-3.0-or-later
"""A second opinion on what a raster carries: plain rasterio and xarray, none of Dehaze's code."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import rasterio
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# About the file and not about the picture, or read elsewhere.
STRUCTURE = {
    *("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "TIFF", "xml:VRT"),
}
# Ours, or about pixels that have changed.
OWN = re.compile(r"^(DEHAZE_|STATISTICS_|OVR_|HISTOGRAM|LAYER_TYPE$|AREA_OR_POINT$)")
REMARK = re.compile(r',REMARK\["PROJ CRS string: [^"]*"\]')

Tags = dict[str, dict[str, str]]
Place = tuple[tuple[int, int], tuple[int, int]]


@dataclass
class Reading:
    """What a raster carries; pixels and validity are compared apart."""

    size: tuple[int, int, int]
    dtype: str
    crs: str | None
    transform: tuple[float, ...]
    pixel_reference: str
    nodata: tuple[float | None, ...]
    mask_flags: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    descriptions: tuple[str | None, ...]
    units: tuple[str | None, ...]
    colours: tuple[str, ...]
    tags: Tags
    band_tags: tuple[Tags, ...]
    gcps: tuple[tuple[Any, ...], ...]
    gcp_crs: str | None
    rpcs: dict[str, tuple[float, ...]]
    pixels: NDArray[Any]
    valid: NDArray[np.bool_]


def read_raster(path: str, window: Place | None = None) -> Reading:
    """Read with rasterio; a part of it as if it were a raster of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as raster:
            return _reading(raster, window or ((0, raster.height), (0, raster.width)))


def _reading(raster: Any, window: Place) -> Reading:
    gcps, gcp_crs = raster.gcps
    tags = _tags(raster, 0)
    (row, row_stop), (col, col_stop) = window
    transform = raster.transform
    if tuple(transform)[:6] != IDENTITY:
        transform *= Affine.translation(col, row)
    rpcs = _rpcs(raster.tags(ns="RPC"))
    for key, shift in (("LINE_OFF", row), ("SAMP_OFF", col)):
        if key in rpcs:
            rpcs[key] = (rpcs[key][0] - shift,)
    return Reading(
        size=(raster.count, row_stop - row, col_stop - col),
        dtype=raster.dtypes[0],
        crs=_wkt(raster.crs),
        transform=tuple(transform)[:6],
        pixel_reference=raster.get_tag_item("AREA_OR_POINT") or "Area",
        nodata=tuple(raster.nodatavals),
        mask_flags=tuple(sorted(flag.name for flag in raster.mask_flag_enums[0])),
        scales=tuple(raster.scales),
        offsets=tuple(raster.offsets),
        descriptions=tuple(text or None for text in raster.descriptions),
        units=tuple(text or None for text in raster.units),
        colours=tuple(color.name for color in raster.colorinterp),
        tags=tags,
        band_tags=tuple(_tags(raster, band) for band in raster.indexes),
        gcps=tuple(
            (g.row - row, g.col - col, g.x, g.y, g.z or 0.0, g.id, g.info or "") for g in gcps
        ),
        gcp_crs=_wkt(gcp_crs) if gcps else None,
        rpcs=rpcs,
        pixels=raster.read(window=window),
        valid=raster.dataset_mask(window=window) > 0,
    )


def read_zarr(path: str) -> Reading:
    """Read one of Dehaze's zarr outputs with xarray, rioxarray and what docs/frame.md says."""
    group = xr.open_dataset(
        path,
        engine="zarr",
        consolidated=False,
        chunks=None,
        mask_and_scale=False,
        decode_coords="all",
    )
    with group:
        image, count = group["image"], group.sizes["band"]
        found, place = image.attrs, group.coords.get("spatial_ref", xr.DataArray()).attrs
        gcps = image.rio.get_gcps() or []
        stored = found.get("nodata") or [found.get("_FillValue")] * count
        nodata = [_possible(value, image.dtype) for value in stored]
        colours = tuple(found.get("color_interp", ["undefined"] * count))
        own = {"nodata", "color_interp", "scales", "offsets", "units", "long_name", "rpcs"}
        plain = {k: v for k, v in found.items() if k not in own and isinstance(v, str)}
        nested = found.get("tags", {})
        pixels = image.values
        return Reading(
            size=image.shape,
            dtype=image.dtype.name,
            crs=None if gcps and "GeoTransform" not in place else place.get("crs_wkt"),
            transform=_transform(place),
            pixel_reference=found.get("AREA_OR_POINT", "Area"),
            nodata=tuple(nodata),
            mask_flags=(),
            scales=tuple(found.get("scales", [found.get("scale_factor", 1.0)] * count)),
            offsets=tuple(found.get("offsets", [found.get("add_offset", 0.0)] * count)),
            descriptions=_texts(found.get("long_name"), count),
            units=_texts(found.get("units"), count),
            colours=colours,
            tags=_own_removed({**nested, "": {**_known_removed(plain), **nested.get("", {})}}),
            band_tags=tuple(map(_own_removed, found.get("band_tags", [{}] * count))),
            gcps=tuple((g.row, g.col, g.x, g.y, g.z or 0.0, g.id, g.info or "") for g in gcps),
            gcp_crs=place.get("gcp_crs_wkt"),
            rpcs=_rpcs(found.get("rpcs", {})),
            pixels=pixels,
            valid=_zarr_validity(group, pixels, nodata, colours),
        )


def differences(source: Reading, output: Reading) -> list[str]:
    """Return the names of the traits in which an output differs from its source."""
    compared = {
        "crs": _same_crs(source.crs, output.crs)
        or bool(source.gcps and source.transform == IDENTITY),
        "gcp_crs": _same_crs(source.gcp_crs, output.gcp_crs),
        "nodata": _same_numbers(source.nodata, output.nodata),
        "rpcs": source.rpcs.keys() == output.rpcs.keys()
        and all(
            np.allclose(numbers, output.rpcs[key], rtol=1e-13, atol=0)
            for key, numbers in source.rpcs.items()
        ),
        # "undefined" and "grey" both say nothing about a first band; a TIFF knows only the latter.
        "colours": _first_named(source.colours) == _first_named(output.colours),
        # A zarr group has no flags; its validity is compared.
        "mask_flags": not output.mask_flags or source.mask_flags == output.mask_flags,
        "valid": np.array_equal(source.valid, output.valid),
        "pixels": source.pixels.shape == output.pixels.shape
        and _identical(source.pixels[:, ~source.valid], output.pixels[:, ~source.valid]),
    }
    for trait in fields(Reading):
        name = trait.name
        compared.setdefault(name, getattr(source, name) == getattr(output, name))
    return sorted(name for name, same in compared.items() if not same)


def _identical(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    return ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()


def _same_numbers(ours: Sequence[float | None], theirs: Sequence[float | None]) -> bool:
    return len(ours) == len(theirs) and all(
        a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))
        for a, b in zip(ours, theirs, strict=True)
    )


def _same_crs(ours: str | None, theirs: str | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    # An informal remark that GDAL adds when it reads some projections from a TIFF.
    ours, theirs = REMARK.sub("", ours), REMARK.sub("", theirs)
    return ours == theirs or bool(CRS.from_wkt(ours) == CRS.from_wkt(theirs))


def _first_named(colours: tuple[str, ...]) -> tuple[str, ...]:
    return ("gray" if colours[0] == "undefined" else colours[0], *colours[1:])


def _wkt(crs: CRS | None) -> str | None:
    return str(crs.to_wkt(version="WKT2_2019")) if crs else None


def _tags(raster: Any, band: int) -> Tags:
    domains = {"", *raster.tag_namespaces(band)} - STRUCTURE
    return _own_removed({domain: raster.tags(band, ns=domain or None) for domain in domains})


def _own_removed(tags: Mapping[str, Mapping[str, str]]) -> Tags:
    kept = {
        domain: {key: value for key, value in items.items() if not OWN.match(key)}
        for domain, items in tags.items()
    }
    return {domain: items for domain, items in kept.items() if items}


def _known_removed(attributes: Mapping[str, str]) -> dict[str, str]:
    words = {"coordinates", "grid_mapping", "ancillary_variables"}
    return {key: value for key, value in attributes.items() if key not in words}


def _rpcs(tags: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    return {key: tuple(map(float, text.split())) for key, text in tags.items()}


def _texts(value: Any, count: int) -> tuple[str | None, ...]:
    texts = [value] * count if value is None or isinstance(value, str) else value
    return tuple(text or None for text in texts)


def _transform(place: Mapping[str, Any]) -> tuple[float, ...]:
    if "GeoTransform" not in place:
        return IDENTITY
    c, a, b, f, d, e = map(float, place["GeoTransform"].split())
    return (a, b, c, d, e, f)


def _zarr_validity(
    group: xr.Dataset,
    pixels: NDArray[Any],
    nodata: Sequence[float | None],
    colours: Sequence[str],
) -> NDArray[np.bool_]:
    if "alpha" in colours:
        return np.asarray(pixels[list(colours).index("alpha")] > 0)
    if "mask" in group:
        return np.asarray(group["mask"].values > 0)
    valid = np.zeros(pixels.shape[1:], bool)
    for plane, value in zip(pixels, nodata, strict=True):
        valid |= _observed(plane, value)
    return valid


def _observed(plane: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    if nodata is None:
        return np.ones(plane.shape, bool)
    if math.isnan(nodata):
        return np.asarray(~np.isnan(plane))
    return np.asarray(plane != plane.dtype.type(nodata))


def _possible(nodata: Any, dtype: np.dtype[Any]) -> float | None:
    """Return the nodata value as rasterio shows it: none where no pixel can have it."""
    if nodata is None or dtype.kind == "f":
        return None if nodata is None else float(nodata)
    limits = np.iinfo(dtype)
    return float(nodata) if limits.min <= nodata <= limits.max else None
