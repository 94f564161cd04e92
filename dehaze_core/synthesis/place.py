# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the pixels of a raster lie in the world: haze is anchored there, not in the file."""

from __future__ import annotations

import math

from affine import Affine
from rasterio.crs import CRS

from dehaze_core.errors import SettingsError
from dehaze_core.scene import Frame

_METRES_PER_DEGREE = 111_320.0
# Origins of files are off a common grid by rounding errors only.
_SNAP = 1e-3


def world_origin(frame: Frame) -> tuple[float, float]:
    """Return row and column of the first pixel in the endless pixel grid through the CRS's origin.

    They are whole numbers for rasters that are aligned with that grid, as the tiles of a mosaic
    are, and (0, 0) for rasters without georeference.
    """
    a, b, c, d, e, f = frame.transform
    grid = Affine(a, b, 0.0, d, e, 0.0)
    if grid.is_degenerate:
        return 0.0, 0.0
    col, row = ~grid * (c, f)
    return _snapped(row), _snapped(col)


def pixel_size_m(frame: Frame) -> float:
    """Return the side of a pixel in metres (of a square one of the same area).

    Raises:
        SettingsError: The raster does not tell (SETTINGS_WAVELENGTH).
    """
    side = math.sqrt(abs(frame.affine.determinant))
    if not frame.is_georeferenced or frame.crs_wkt is None or not side:
        raise SettingsError(
            "A wavelength in metres was given, but the raster has no georeference.",
            hint="Give the wavelength in pixels.",
            code="SETTINGS_WAVELENGTH",
        )
    crs = CRS.from_wkt(frame.crs_wkt)
    if crs.is_geographic:
        _, latitude = frame.affine * (frame.width / 2, frame.height / 2)
        shrink = max(math.cos(math.radians(latitude)), 0.01)
        return side * _METRES_PER_DEGREE * math.sqrt(shrink)
    return side * float(crs.linear_units_factor[1])


def _snapped(position: float) -> float:
    whole = round(position)
    return float(whole) if abs(position - whole) < _SNAP else round(position, 6)
