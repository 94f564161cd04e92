# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of a raster in a zarr group: read from attributes, and written so that it comes back.

Where CF or rioxarray have a convention it is used, so that xarray, rioxarray and GDAL understand
the group; what they have no words for (values that differ between bands, colours, RPCs, metadata
domains) stands in attributes of the same names as the fields of `Frame`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from dehaze_core.scene.crs import wkt2
from dehaze_core.scene.frame import IDENTITY, Frame, Gcp, MaskKind, Tags, same_number
from dehaze_core.scene.gdal_frame import STALE_TAG
from dehaze_core.scene.labels import labelled
from dehaze_core.scene.validity import comparable_nodata

IMAGE, MASK = "image", "mask"
"""Names of the variables that an output has."""

# Attributes that are not text keep their type under these domains, as JSON.
_VALUES, _GROUP = "ZARR", "ZARR_GROUP"
_COLORS = {"red", "green", "blue", "nir"}
# Attributes with a place of their own in the frame.
_KNOWN_ATTRIBUTES = {
    "_FillValue",
    "missing_value",
    "nodata",
    "scale_factor",
    "add_offset",
    "scales",
    "offsets",
    "units",
    "long_name",
    "color_interp",
    "rpcs",
    "tags",
    "band_tags",
    "ancillary_variables",
    "grid_mapping",
    "coordinates",
    "dtype",
}
_PLAIN_COORDINATES = {"x", "y", "band"}


def read_frame(bands: list[xr.DataArray], group: Mapping[str, Any], has_mask: bool) -> Frame:
    """Return the frame of a raster in a zarr group.

    Args:
        bands: One (y, x) array per band, its attributes as stored.
        group: The attributes of the group.
        has_mask: Whether a mask is stored with the raster.
    """
    first, count = bands[0], len(bands)
    attributes = first.attrs
    nodata = tuple(map(_number, _listed(attributes, "nodata", count) or map(_fill_value, bands)))
    colors = tuple(
        name if name in ColorInterp.__members__ else "undefined"
        for name in _listed(attributes, "color_interp", count) or map(_color, bands)
    )
    alpha = colors.index("alpha") if "alpha" in colors else None
    gcps = first.rio.get_gcps() or []
    transform, crs = _transform(first), wkt2(first.rio.crs)
    chunks = first.encoding.get("preferred_chunks", {})
    rpcs = attributes.get("rpcs")
    return Frame(
        width=first.sizes["x"],
        height=first.sizes["y"],
        count=count,
        dtype=first.dtype.name,
        crs_wkt=None if gcps and transform == IDENTITY else crs,
        transform=transform,
        nodata=nodata,
        mask=_mask_kind(nodata, alpha, has_mask),
        alpha_band=alpha,
        scales=_numbers(bands, "scales", "scale_factor", 1.0),
        offsets=_numbers(bands, "offsets", "add_offset", 0.0),
        descriptions=_descriptions(bands),
        units=_units(bands),
        color_interp=colors,
        tags=_tags(attributes, group),
        band_tags=tuple(map(_plain, _listed(attributes, "band_tags", count) or [{}] * count)),
        gcps=tuple(Gcp(g.row, g.col, g.x, g.y, g.z, str(g.id), g.info or None) for g in gcps),
        gcp_crs_wkt=_mapping(first).get("gcp_crs_wkt", crs) if gcps else None,
        rpcs={str(key): str(value) for key, value in rpcs.items()} if rpcs else None,
        block_shape=(chunks.get("y", 512), chunks.get("x", 512)),
        left_behind=tuple(
            f"coordinate {name}"
            for name in first.coords
            if name not in {*_PLAIN_COORDINATES, first.rio.grid_mapping}
        ),
    )


def template(frame: Frame, provenance: Mapping[str, str]) -> xr.Dataset:
    """Return a group with the frame and pixels that are all zero and not in memory.

    Args:
        frame: What the group carries.
        provenance: Attributes of our own for the group.
    """
    shape = (frame.count, frame.height, frame.width)
    zeros: Any = da.zeros  # dask publishes no types
    image = labelled(zeros(shape, dtype=frame.dtype, chunks=shape), frame)
    if frame.gcps:
        points = [
            GroundControlPoint(row=g.row, col=g.col, x=g.x, y=g.y, z=g.z, id=g.id, info=g.info)
            for g in frame.gcps
        ]
        image.rio.write_gcps(points, None if frame.crs_wkt else frame.gcp_crs_wkt, inplace=True)
    mapping = image.coords.get(image.rio.grid_mapping)
    if mapping is not None:
        mapping.attrs.update(_mapping_attributes(frame))
    image.attrs.update(_attributes(frame))
    variables = {IMAGE: image}
    if frame.mask == "internal":
        image.attrs["ancillary_variables"] = MASK
        plane = zeros(shape[1:], dtype="uint8", chunks=shape[1:])
        variables[MASK] = xr.DataArray(
            plane,
            dims=("y", "x"),
            attrs={
                "standard_name": "status_flag",
                "flag_values": [0, 1],
                "flag_meanings": "missing valid",
            },
        )
    group = xr.Dataset(variables, attrs={**_decoded(frame.tags.get(_GROUP, {})), **provenance})
    for variable in group.variables.values():
        # Else xarray declares NaN as missing in everything that is a float.
        variable.encoding.setdefault("_FillValue", None)
    return group


# ------------------------------------------------------------------ reading


def _listed(attributes: Mapping[str, Any], name: str, count: int) -> Sequence[Any] | None:
    """Return an attribute that has one entry per band, or None."""
    value = attributes.get(name)
    return value if isinstance(value, (list, tuple)) and len(value) == count else None


def _fill_value(band: xr.DataArray) -> Any:  # noqa: ANN401
    return band.attrs.get("_FillValue", band.attrs.get("missing_value"))


def _number(value: Any) -> float | None:  # noqa: ANN401
    return None if value is None else float(value)


def _numbers(
    bands: list[xr.DataArray], listed: str, single: str, default: float
) -> tuple[float, ...]:
    values = _listed(bands[0].attrs, listed, len(bands))
    return tuple(map(float, values or (band.attrs.get(single, default) for band in bands)))


def _color(band: xr.DataArray) -> str:
    """Return the colour interpretation that the variable's name says, if it is one."""
    name = str(band.name).lower()
    return name if name in _COLORS else "undefined"


def _mask_kind(nodata: tuple[float | None, ...], alpha: int | None, has_mask: bool) -> MaskKind:
    if alpha is not None:
        return "alpha"
    if has_mask:
        return "internal"
    known = [value for value in nodata if value is not None]
    if len(known) < len(nodata):
        return "none"
    return "nan" if all(math.isnan(value) for value in known) else "nodata"


def _mapping(band: xr.DataArray) -> Mapping[str, Any]:
    """Return the attributes of the variable that describes the georeference."""
    name = band.rio.grid_mapping
    return band.coords[name].attrs if name in band.coords else {}


def _transform(band: xr.DataArray) -> tuple[float, float, float, float, float, float]:
    stored = str(_mapping(band).get("GeoTransform", ""))
    if not stored and not {"x", "y"} <= set(band.coords):
        return IDENTITY
    # The coordinates are right also where somebody has cut the group, but rounded.
    derived = band.rio.transform()
    exact = Affine.from_gdal(*map(float, stored.split())) if stored else derived
    a, b, c, d, e, f = tuple(exact if _agree(exact, derived) else derived)[:6]
    return a, b, c, d, e, f


def _agree(one: Affine, other: Affine) -> bool:
    """Tell whether two transforms put the first pixels at the same place, within rounding."""
    pixel = max(abs(one.a), abs(one.b), abs(one.d), abs(one.e))
    return bool(np.allclose(tuple(one)[:6], tuple(other)[:6], rtol=1e-9, atol=1e-6 * pixel))


def _descriptions(bands: list[xr.DataArray]) -> tuple[str | None, ...]:
    name = bands[0].attrs.get("long_name")
    names = _listed(bands[0].attrs, "long_name", len(bands))
    if names is not None:
        return tuple(str(name) if name else None for name in names)
    if len(bands) == 1 and isinstance(name, str):
        return (name or None,)
    if len({band.name for band in bands}) == len(bands) > 1:
        return tuple(str(band.name) for band in bands)
    return (None,) * len(bands)


def _units(bands: list[xr.DataArray]) -> tuple[str | None, ...]:
    listed = _listed(bands[0].attrs, "units", len(bands))
    return tuple(unit or None for unit in listed or (band.attrs.get("units") for band in bands))


def _tags(attributes: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Tags]:
    free = {
        key: value
        for key, value in attributes.items()
        if key not in _KNOWN_ATTRIBUTES and not STALE_TAG.match(key)
    }
    tags: dict[str, dict[str, str]] = {
        "": {key: value for key, value in free.items() if isinstance(value, str)},
        _VALUES: {k: json.dumps(v) for k, v in free.items() if not isinstance(v, str)},
        _GROUP: {key: json.dumps(value) for key, value in group.items()},
    }
    for domain, items in attributes.get("tags", {}).items():
        tags.setdefault(domain, {}).update({key: str(value) for key, value in items.items()})
    return {domain: items for domain, items in tags.items() if items}


# ------------------------------------------------------------------ writing


def _attributes(frame: Frame) -> dict[str, Any]:
    """Return the attributes of the image variable."""
    found = _nodata_attributes(frame)
    for listed, single, values, default in (
        ("scales", "scale_factor", frame.scales, 1.0),
        ("offsets", "add_offset", frame.offsets, 0.0),
    ):
        if len(set(values)) > 1:
            found[listed] = list(values)
        elif values[0] != default:
            found[single] = values[0]
    for name, texts in (("long_name", frame.descriptions), ("units", frame.units)):
        if any(texts):
            found[name] = texts[0] if frame.count == 1 else [text or "" for text in texts]
    if set(frame.color_interp) != {"undefined"}:
        found["color_interp"] = list(frame.color_interp)
    if any(frame.band_tags):
        found["band_tags"] = [_plain(domains) for domains in frame.band_tags]
    if frame.rpcs:
        found["rpcs"] = dict(frame.rpcs)
    return found | _tag_attributes(frame)


def _nodata_attributes(frame: Frame) -> dict[str, Any]:
    """Return nodata as CF has it, or one number per band where that says less."""
    first = frame.nodata[0]
    if not all(same_number(first, value) for value in frame.nodata):
        return {"nodata": [_json_number(value) for value in frame.nodata]}
    if first is None:
        return {}
    shown = comparable_nodata(first, frame.dtype)
    found: dict[str, Any] = {}
    if shown is not None:
        found["_FillValue"] = np.dtype(frame.dtype).type(shown)
    if not same_number(shown, first):
        found["nodata"] = [_json_number(first)] * frame.count
    return found


def _json_number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _tag_attributes(frame: Frame) -> dict[str, Any]:
    plain = frame.tags.get("", {})
    shown = {key: value for key, value in plain.items() if key not in _KNOWN_ATTRIBUTES}
    nested = {d: dict(t) for d, t in frame.tags.items() if d not in ("", _VALUES, _GROUP)}
    if len(shown) < len(plain):
        nested[""] = {key: value for key, value in plain.items() if key not in shown}
    values = _decoded(frame.tags.get(_VALUES, {}))
    return {**shown, **values, **({"tags": nested} if nested else {})}


def _mapping_attributes(frame: Frame) -> dict[str, str]:
    found = {}
    crs = frame.crs_wkt or frame.gcp_crs_wkt
    if crs:
        # The very text, where rioxarray would write an older form of WKT that loses names.
        found = {"crs_wkt": crs, "spatial_ref": crs}
    if frame.gcp_crs_wkt:
        found["gcp_crs_wkt"] = frame.gcp_crs_wkt
    return found


def _decoded(tags: Tags) -> dict[str, Any]:
    found = {}
    for key, text in tags.items():
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def _plain(domains: Mapping[str, Tags]) -> dict[str, dict[str, str]]:
    return {
        domain: {key: str(value) for key, value in tags.items()} for domain, tags in domains.items()
    }
