# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything about a raster except its pixels: what an output has to carry over unchanged.

A `Frame` is a value. It is read once when a scene is opened, travels with the job, and is written
and compared again when the result is finalised, so that no format detail lives anywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from affine import Affine

from dehaze_core.grid.window import Window

MaskKind = Literal["none", "nodata", "nan", "alpha", "internal"]
Tags = Mapping[str, str]

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_RGB = ("red", "green", "blue")


class Gcp(NamedTuple):
    """A ground control point: pixel (`row`, `col`) lies at (`x`, `y`, `z`) in the GCPs' CRS."""

    row: float
    col: float
    x: float
    y: float
    z: float | None
    id: str
    info: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Size, georeference, sample format and metadata of a raster.

    Attributes:
        width: Columns, px.
        height: Rows, px.
        count: Bands, alpha included.
        dtype: NumPy name of the sample type, the same for all bands.
        crs_wkt: Coordinate reference system as WKT2, or None.
        transform: Pixel to map as the six numbers (a, b, c, d, e, f) of `affine.Affine`; the
            identity where the raster has no geotransform.
        nodata: Declared value of missing pixels for each band; may be NaN or lie outside the
            range of `dtype` (then no pixel can match it).
        mask: What marks invalid pixels beside non-finite values: nothing, the nodata value(s),
            NaN, an alpha band, or a mask stored with the raster.
        alpha_band: 0-based index of the alpha band, or None.
        scales: Factor of each band that turns stored into physical values.
        offsets: Summand of each band that goes with `scales`.
        descriptions: Name of each band, or None.
        units: Unit of each band, or None.
        color_interp: Rasterio's name of each band's colour interpretation, e.g. "red" or "nir".
        tags: Metadata by domain; the default domain is "".
        band_tags: The same for each band.
        gcps: Ground control points.
        gcp_crs_wkt: CRS of the ground control points as WKT2, or None.
        rpcs: Rational polynomial coefficients in GDAL's own spelling, or None.
        block_shape: Rows and columns of the blocks in which the file stores its pixels.
        left_behind: What of the source's metadata could not be read, a phrase each.
    """

    width: int
    height: int
    count: int
    dtype: str
    crs_wkt: str | None = None
    transform: tuple[float, float, float, float, float, float] = IDENTITY
    nodata: tuple[float | None, ...] = ()
    mask: MaskKind = "none"
    alpha_band: int | None = None
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    descriptions: tuple[str | None, ...] = ()
    units: tuple[str | None, ...] = ()
    color_interp: tuple[str, ...] = ()
    tags: Mapping[str, Tags] = field(default_factory=dict)
    band_tags: tuple[Mapping[str, Tags], ...] = ()
    gcps: tuple[Gcp, ...] = ()
    gcp_crs_wkt: str | None = None
    rpcs: Tags | None = None
    block_shape: tuple[int, int] = (512, 512)
    left_behind: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill the per-band fields that were left out, so that all have `count` entries."""
        defaults: dict[str, object] = {
            "nodata": None,
            "scales": 1.0,
            "offsets": 0.0,
            "descriptions": None,
            "units": None,
            "color_interp": "undefined",
        }
        for name, default in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, (default,) * self.count)
        if not self.band_tags:
            object.__setattr__(self, "band_tags", tuple({} for _ in range(self.count)))

    @property
    def affine(self) -> Affine:
        """Return the transform as an `Affine`: (column, row) to (x, y)."""
        return Affine(*self.transform)

    @property
    def is_georeferenced(self) -> bool:
        """Tell whether the raster has a geotransform (GCPs and RPCs do not count)."""
        return self.transform != IDENTITY

    @property
    def window(self) -> Window:
        """Return the window that covers the whole raster."""
        return Window(0, 0, self.height, self.width)

    @property
    def color_bands(self) -> tuple[int, ...]:
        """Return the 0-based indices of all bands but alpha."""
        return tuple(band for band in range(self.count) if band != self.alpha_band)

    @property
    def rgb_bands(self) -> tuple[int, ...]:
        """Return the 0-based indices of red, green and blue.

        By colour interpretation where all three are marked, else the first three bands that are
        not alpha; a raster with fewer than three such bands gives the first one alone.
        """
        if all(name in self.color_interp for name in _RGB):
            return tuple(self.color_interp.index(name) for name in _RGB)
        bands = self.color_bands
        return bands[:3] if len(bands) >= 3 else bands[:1]

    def crop(self, window: Window) -> Frame:
        """Return the frame of the part of the raster inside `window` (px).

        The transform, the ground control points and the RPC offsets move along.
        """
        moved = self.transform
        if self.is_georeferenced:  # a plain picture must not gain a georeference by being cropped
            moved = tuple(self.affine * Affine.translation(window.col, window.row))[:6]
        return replace(
            self,
            width=window.width,
            height=window.height,
            transform=moved,
            gcps=tuple(
                g._replace(row=g.row - window.row, col=g.col - window.col) for g in self.gcps
            ),
            rpcs=_shifted_rpcs(self.rpcs, window),
        )

    def layer(self, description: str) -> Frame:
        """Return the frame of a derived float32 layer over the same ground, NaN where missing.

        Args:
            description: What the values are; they have no unit.
        """
        return Frame(
            width=self.width,
            height=self.height,
            count=1,
            dtype="float32",
            crs_wkt=self.crs_wkt,
            transform=self.transform,
            nodata=(math.nan,),
            mask="nan",
            descriptions=(description,),
            color_interp=("gray",),
            gcps=self.gcps,
            gcp_crs_wkt=self.gcp_crs_wkt,
            rpcs=self.rpcs,
            block_shape=self.block_shape,
        )


def same_number(a: float | None, b: float | None) -> bool:
    """Tell whether two optional numbers are the same, where NaN equals NaN."""
    if a is None or b is None:
        return a is b
    return a == b or (math.isnan(a) and math.isnan(b))


def _shifted_rpcs(rpcs: Tags | None, window: Window) -> Tags | None:
    if rpcs is None or (window.row, window.col) == (0, 0):
        return rpcs
    moved = dict(rpcs)
    for key, shift in (("LINE_OFF", window.row), ("SAMP_OFF", window.col)):
        if key in moved:
            moved[key] = repr(float(moved[key].split()[0]) - shift)
    return moved
