# SPDX-License-Identifier: GPL-3.0-or-later
"""From a map extent to the window of pixels it covers."""

from __future__ import annotations

import math

from dehaze_core.errors import InputError
from dehaze_core.grid.window import Window
from dehaze_core.scene.frame import Frame

# Extents arrive as decimal text. A border this close to a pixel border (px) is meant to be on it.
_SNAP = 1e-3

Extent = tuple[float, float, float, float]


def window_of_extent(frame: Frame, extent: Extent) -> Window:
    """Return the smallest window of whole pixels that covers `extent`, cut to the raster.

    In a rotated raster it is the bounding box, in pixels, of the extent's four corners.

    Args:
        frame: The frame of the raster.
        extent: xmin, ymin, xmax, ymax in the CRS of the raster; in pixels for a raster without
            georeference (y downwards, or upwards from -height to 0 as QGIS shows such pictures).

    Raises:
        InputError: The extent is not a rectangle, or lies outside the raster.
    """
    xmin, ymin, xmax, ymax = extent
    if not (all(map(math.isfinite, extent)) and xmin < xmax and ymin < ymax):
        raise InputError(
            f"The extent {extent} is not a rectangle (xmin, ymin, xmax, ymax with min < max).",
            hint="Draw or type the extent again.",
            code="INPUT_EXTENT",
        )
    if not frame.is_georeferenced and ymax <= 0:
        ymin, ymax = -ymax, -ymin
    to_pixels = ~frame.affine
    corners = [to_pixels * (x, y) for x in (xmin, xmax) for y in (ymin, ymax)]
    col_start, col_stop = _outwards([col for col, _ in corners], frame.width)
    row_start, row_stop = _outwards([row for _, row in corners], frame.height)
    if row_stop <= row_start or col_stop <= col_start:
        raise InputError(
            f"The extent {extent} does not overlap the raster, which covers {bounds(frame)}.",
            hint="Give the extent in the coordinate reference system of the raster.",
            code="INPUT_EXTENT",
        )
    return Window(row_start, col_start, row_stop - row_start, col_stop - col_start)


def bounds(frame: Frame) -> Extent:
    """Return xmin, ymin, xmax, ymax of the raster's corners in its CRS."""
    corners = [frame.affine * (x, y) for x in (0, frame.width) for y in (0, frame.height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _outwards(positions: list[float], size: int) -> tuple[int, int]:
    low, high = min(positions), max(positions)
    start = max(math.floor(low + _SNAP), 0)
    stop = min(math.ceil(high - _SNAP), size)
    if start == stop and high > 0 and low < size:
        # An extent thinner than the snapping distance still means the pixel it lies in.
        start = min(max(math.floor((low + high) / 2), 0), size - 1)
        stop = start + 1
    return start, stop
