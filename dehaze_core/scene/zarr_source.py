# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels of a zarr folder as xarray and rioxarray write it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr

from dehaze_core.errors import InputError
from dehaze_core.grid.window import Window
from dehaze_core.scene.fingerprint import file_parts
from dehaze_core.scene.frame import IDENTITY, Frame, Gcp, MaskKind
from dehaze_core.scene.gdal_frame import wkt2
from dehaze_core.scene.source import read_failure
from dehaze_core.scene.validity import Mask, Pixels, pixels_and_validity

_MARKERS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
_X_NAMES = ("x", "lon", "longitude")
_Y_NAMES = ("y", "lat", "latitude")
# Attributes with a place of their own in the frame.
_KNOWN_ATTRIBUTES = {
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "units",
    "long_name",
    "grid_mapping",
    "coordinates",
}


def is_zarr(path: str) -> bool:
    """Tell whether `path` is a zarr folder."""
    folder = Path(path)
    return folder.is_dir() and any((folder / marker).exists() for marker in _MARKERS)


class ZarrSource:
    """One raster in a zarr group: a variable (band, y, x) or (y, x), or one variable per band.

    Values are the stored ones: the frame reports scale factors and fill values.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.has_overviews = False
        try:
            self._dataset = xr.open_dataset(
                path,
                engine="zarr",
                chunks=None,
                consolidated=False,
                mask_and_scale=False,
                decode_coords="all",
            )
            self._bands = _bands(self._dataset, path)
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} cannot be opened as a zarr raster: {error}",
                hint="A zarr group written by xarray or rioxarray is expected.",
                code="INPUT_UNREADABLE",
            ) from error
        self.frame: Frame = _frame(self._bands)

    def __reduce__(self) -> tuple[type[ZarrSource], tuple[str]]:
        """Travel to another process as the path alone."""
        return type(self), (self.path,)

    def read(self, window: Window, bands: Sequence[int]) -> tuple[Pixels, Mask]:
        """Return stored values (B, h, w) of the 0-based `bands` and validity (h, w)."""
        return self._read(window, bands, (1, 1))

    def read_small(
        self, window: Window, shape: tuple[int, int], bands: Sequence[int]
    ) -> tuple[Pixels, Mask]:
        """Return every n-th pixel of the window, cut to `shape`."""
        steps = (max(window.height // shape[0], 1), max(window.width // shape[1], 1))
        pixels, valid = self._read(window, bands, steps)
        return pixels[:, : shape[0], : shape[1]], valid[: shape[0], : shape[1]]

    def stored_mask(self, window: Window) -> Mask:
        """Return (h, w) True: a zarr group has no mask besides its fill value."""
        return np.ones((window.height, window.width), dtype=bool)

    def fingerprint_parts(self) -> list[str]:
        """Return names, sizes and times of the store's files; metadata files are also sampled."""
        files = [path for path in Path(self.path).rglob("*") if path.is_file()]
        states = [(path, path.stat()) for path in sorted(files)]
        listed = [f"{path} {state.st_size} {state.st_mtime_ns}" for path, state in states]
        return listed + file_parts(path for path in files if path.name in (*_MARKERS, ".zattrs"))

    def close(self) -> None:
        """Let go of the store; a later read opens it again."""
        self._dataset.close()

    def _read(
        self, window: Window, bands: Sequence[int], steps: tuple[int, int]
    ) -> tuple[Pixels, Mask]:
        rows = slice(window.row, window.row_stop, steps[0])
        cols = slice(window.col, window.col_stop, steps[1])

        def fetch(wanted: Sequence[int]) -> Pixels:
            planes = [self._bands[band].isel({_Y: rows, _X: cols}) for band in wanted]
            return np.stack([plane.transpose(_Y, _X).values for plane in planes])

        try:
            return pixels_and_validity(fetch, bands, self.frame)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise read_failure(self.path, window, error) from error


_Y, _X = "y", "x"
_COLORS = {"red", "green", "blue", "nir"}


def _bands(dataset: xr.Dataset, path: str) -> list[xr.DataArray]:
    """Return one (y, x) array per band."""
    renamed = {}
    for wanted, names in ((_Y, _Y_NAMES), (_X, _X_NAMES)):
        found = [name for name in dataset.dims if str(name).lower() in names]
        if len(found) != 1:
            raise _not_a_raster(path, f"dimensions {', '.join(map(str, dataset.dims)) or 'none'}")
        if found[0] != wanted:
            renamed[found[0]] = wanted
    dataset = dataset.rename(renamed) if renamed else dataset
    rasters = [array for array in dataset.data_vars.values() if {_Y, _X} <= set(array.dims)]
    # A group lists its variables in the order of the file system, which is none.
    rasters.sort(key=lambda array: str(array.name))
    kinds = {(array.dtype.name, array.ndim) for array in rasters}
    if len(rasters) > 1 and (len(kinds) > 1 or rasters[0].ndim != 2):
        listed = ", ".join(str(array.name) for array in rasters)
        raise InputError(
            f"{path} holds several rasters that are not bands of one image: {listed}.",
            hint="Save the one to dehaze to a zarr group of its own.",
            code="INPUT_CONTAINER",
        )
    if not rasters or rasters[0].ndim > 3:
        raise _not_a_raster(path, "no variable with the dimensions (band, y, x) or (y, x)")
    if rasters[0].dtype.kind not in "iuf":
        raise InputError(
            f"{path} holds {rasters[0].dtype.name} values; real numbers are needed.",
            hint="Convert it to real pixel values first.",
            code="INPUT_COMPLEX" if rasters[0].dtype.kind == "c" else "INPUT_DTYPE",
        )
    if rasters[0].ndim == 2:
        return rasters
    (band_dim,) = set(rasters[0].dims) - {_Y, _X}
    return [rasters[0].isel({band_dim: index}) for index in range(rasters[0].sizes[band_dim])]


def _not_a_raster(path: str, found: str) -> InputError:
    return InputError(
        f"{path} is a zarr group without a raster: found {found}.",
        hint="A variable with the dimensions (band, y, x) or (y, x) is expected.",
        code="INPUT_CONTAINER",
    )


def _frame(bands: list[xr.DataArray]) -> Frame:
    first = bands[0]
    nodata = tuple(_nodata(band) for band in bands)
    gcps = first.rio.get_gcps() or []
    encoded = first.encoding.get("preferred_chunks", {})
    attributes = {k: str(v) for k, v in first.attrs.items() if k not in _KNOWN_ATTRIBUTES}
    return Frame(
        width=first.sizes[_X],
        height=first.sizes[_Y],
        count=len(bands),
        dtype=first.dtype.name,
        crs_wkt=wkt2(first.rio.crs),
        transform=_transform(first),
        nodata=nodata,
        mask=_mask_kind(nodata),
        scales=tuple(float(band.attrs.get("scale_factor", 1.0)) for band in bands),
        offsets=tuple(float(band.attrs.get("add_offset", 0.0)) for band in bands),
        descriptions=_descriptions(bands),
        units=tuple(band.attrs.get("units") for band in bands),
        color_interp=tuple(_color(band) for band in bands),
        tags={"": attributes} if attributes else {},
        gcps=tuple(Gcp(g.row, g.col, g.x, g.y, g.z, str(g.id), g.info or None) for g in gcps),
        gcp_crs_wkt=wkt2(first.rio.crs) if gcps else None,
        block_shape=(encoded.get(_Y, 512), encoded.get(_X, 512)),
    )


def _color(band: xr.DataArray) -> str:
    """Return the colour interpretation that the variable's name says, if it is one."""
    name = str(band.name).lower()
    return name if name in _COLORS else "undefined"


def _nodata(band: xr.DataArray) -> float | None:
    value: Any = band.attrs.get("_FillValue", band.attrs.get("missing_value"))
    return None if value is None else float(value)


def _mask_kind(nodata: tuple[float | None, ...]) -> MaskKind:
    known = [value for value in nodata if value is not None]
    if len(known) < len(nodata):
        return "none"
    return "nan" if all(math.isnan(value) for value in known) else "nodata"


def _transform(band: xr.DataArray) -> tuple[float, float, float, float, float, float]:
    grid_mapping = band.rio.grid_mapping
    stored = {}
    if grid_mapping in band.coords:
        stored = band.coords[grid_mapping].attrs
    if "GeoTransform" not in stored and not {_Y, _X} <= set(band.coords):
        return IDENTITY
    a, b, c, d, e, f = tuple(band.rio.transform())[:6]
    return a, b, c, d, e, f


def _descriptions(bands: list[xr.DataArray]) -> tuple[str | None, ...]:
    names = bands[0].attrs.get("long_name")
    if isinstance(names, (list, tuple)) and len(names) == len(bands):
        return tuple(str(name) for name in names)
    if len({band.name for band in bands}) == len(bands) > 1:
        return tuple(str(band.name) for band in bands)
    return (None,) * len(bands)
