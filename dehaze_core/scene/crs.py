# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinate reference systems as WKT2 text: read, compared, and made ready to be written."""

from __future__ import annotations

import re

from rasterio.crs import CRS
from rasterio.errors import CRSError

# GDAL adds this to some projections when it reads a GeoTIFF, and then takes them for others.
_PROJ_REMARK = re.compile(r',REMARK\["PROJ CRS string: [^"]*"\]')
_CERTAIN = 100


def wkt2(crs: CRS | None) -> str | None:
    """Return a CRS as WKT2, or None for none."""
    if not crs:
        return None
    try:
        return str(crs.to_wkt(version="WKT2_2019"))
    except CRSError:
        # Engineering and local systems of old files have no WKT2 form in PROJ.
        return str(crs.to_wkt())


def same_crs(ours: str | None, theirs: str | None) -> bool:
    """Tell whether two optional CRSs, as WKT, put points at the same places."""
    if ours is None or theirs is None:
        return ours is theirs
    ours, theirs = _PROJ_REMARK.sub("", ours), _PROJ_REMARK.sub("", theirs)
    return ours == theirs or bool(CRS.from_wkt(ours) == CRS.from_wkt(theirs))


def crs_to_write(wkt: str) -> CRS:
    """Return the CRS in the form of which a GeoTIFF keeps most.

    WKT2 names the code of a compound system but not those of its parts, and a GeoTIFF is written
    from the parts. The registry has them.
    """
    crs = CRS.from_wkt(wkt)
    authority = crs.to_authority(confidence_threshold=_CERTAIN)
    if authority is None:
        return crs
    try:
        registered = CRS.from_authority(*authority)
    except CRSError:
        return crs
    return registered if registered == crs else crs
