# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pixels of a scene are observations: the one rule, as pure array arithmetic.

A pixel is valid when no mechanism of the file says otherwise (nodata: at least one band differs
from its nodata value; alpha: above zero; stored mask: above zero) and all its bands are finite.
Where a file declares nothing at all, pixels that are exactly zero in every band count as fill: many
products have such wedges untagged, and black stays black under haze removal anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dehaze_core.scene.frame import Frame

Pixels = npt.NDArray[np.generic]
Mask = npt.NDArray[np.bool_]

# GDAL writes nodata as decimal text; the float32 limits come back a little too large.
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_CLOSE = 1e-7


def pixels_and_validity(
    fetch: Callable[[Sequence[int]], Pixels],
    bands: Sequence[int],
    frame: Frame,
    stored_mask: Callable[[], Mask] | None = None,
) -> tuple[Pixels, Mask]:
    """Fetch bands of a place of a raster and find which of its pixels are valid.

    Validity belongs to the pixel, whichever bands are asked for. Floats therefore need all bands;
    integers need the other bands only where the asked ones leave a doubt.

    Args:
        fetch: Returns (B, h, w) stored values of ascending 0-based band numbers.
        bands: 0-based band numbers in the order wanted; may repeat.
        frame: The frame of the raster.
        stored_mask: Returns the (h, w) mask that the file stores, if `frame.mask` is "internal".

    Returns:
        Stored values (len(bands), h, w) and validity (h, w).
    """
    colors = frame.color_bands
    is_float = np.dtype(frame.dtype).kind == "f"
    fetched = sorted({*bands, *(colors if is_float else ())})
    stored = fetch(fetched)
    valid = np.zeros(stored.shape[1:], dtype=bool)
    rows = [row for row, band in enumerate(fetched) if band in colors]
    if rows:
        color_pixels = stored if len(rows) == len(fetched) else stored[rows]
        valid = observed(color_pixels, [fetched[row] for row in rows], frame)
    others = [band for band in colors if band not in fetched]
    if others and not valid.all():
        valid |= observed(fetch(others), others, frame)
    if is_float:
        valid &= np.isfinite(stored).all(axis=0)
    if frame.alpha_band is not None:
        known = frame.alpha_band in fetched
        alpha = stored[fetched.index(frame.alpha_band)] if known else fetch([frame.alpha_band])[0]
        valid &= alpha > 0
    if stored_mask is not None and frame.mask == "internal":
        valid &= stored_mask()
    if list(bands) != fetched:
        stored = stored[[fetched.index(band) for band in bands]]
    return stored, valid


def comparable_nodata(value: float | None, dtype: str) -> float | None:
    """Return the nodata value as pixels of `dtype` can show it, or None if none can equal it."""
    if value is None:
        return None
    kind = np.dtype(dtype)
    if kind.kind == "f":
        if kind.itemsize == 4 and _FLOAT32_MAX < abs(value) <= _FLOAT32_MAX * (1 + _CLOSE):
            value = float(np.copysign(_FLOAT32_MAX, value))
        with np.errstate(over="ignore"):
            rounded = float(kind.type(value))
        return rounded if np.isfinite(rounded) or not np.isfinite(value) else None
    limits = np.iinfo(kind)
    return value if value == np.floor(value) and limits.min <= value <= limits.max else None


def declares_nodata(frame: Frame) -> bool:
    """Tell whether the nodata tags of `frame` can mark a pixel at all."""
    values = [comparable_nodata(frame.nodata[band], frame.dtype) for band in frame.color_bands]
    return bool(values) and all(value is not None for value in values)


def observed(pixels: Pixels, bands: Sequence[int], frame: Frame) -> Mask:
    """Return (h, w) bool: some band of a pixel differs from nodata (from 0 if none is declared).

    Args:
        pixels: (B, h, w) stored values.
        bands: 0-based band number of each row of `pixels`; colour bands only.
        frame: The frame of the raster.
    """
    if not declares_nodata(frame):
        if frame.mask in ("alpha", "internal"):
            return np.ones(pixels.shape[1:], dtype=bool)
        return _any_nonzero(pixels)
    values = [comparable_nodata(frame.nodata[band], frame.dtype) for band in bands]
    if all(value == 0 for value in values):
        return _any_nonzero(pixels)
    seen = np.zeros(pixels.shape[1:], dtype=bool)
    for plane, value in zip(pixels, values, strict=True):
        seen |= _differs(plane, value)
    return seen


def _differs(plane: Pixels, value: float | None) -> Mask:
    if value is None or math.isnan(value):
        return ~np.isnan(plane)
    return np.asarray(plane != plane.dtype.type(value))


def _any_nonzero(pixels: Pixels) -> Mask:
    if pixels.dtype.kind in "iu":
        # One pass of integer OR is several times faster than comparing band by band.
        return np.asarray(np.bitwise_or.reduce(pixels, axis=0) != 0)
    return np.asarray((pixels != 0).any(axis=0))
