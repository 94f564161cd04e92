# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrays with coordinates and georeference, in the convention of rioxarray."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr

from dehaze_core.scene.frame import Frame


def labelled(array: Any, frame: Frame) -> xr.DataArray:  # noqa: ANN401 - dask is untyped
    """Return an array (band, y, x) or (y, x) over the ground of `frame` with its coordinates."""
    dims = ("band", "y", "x")[-array.ndim :]
    result = xr.DataArray(array, dims=dims, coords=_coordinates(frame, dims))
    if frame.is_georeferenced:
        result.rio.write_transform(frame.affine, inplace=True)
    if frame.crs_wkt:
        result.rio.write_crs(frame.crs_wkt, inplace=True)
    return result


def _coordinates(frame: Frame, dims: tuple[str, ...]) -> dict[str, Any]:
    coordinates: dict[str, Any] = {}
    if "band" in dims:
        coordinates["band"] = np.arange(1, frame.count + 1)
    a, b, c, d, e, f = frame.transform
    if frame.is_georeferenced and b == d == 0.0:
        coordinates["x"] = c + a * _centres(frame.width)
        coordinates["y"] = f + e * _centres(frame.height)
    return coordinates


def _centres(size: int) -> npt.NDArray[np.float64]:
    return np.arange(size, dtype=np.float64) + 0.5
