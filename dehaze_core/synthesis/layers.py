# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of the rasters that a synthesis writes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dehaze_core.haze.bands import BandHaze
from dehaze_core.scene import Frame

THICKNESS = "haze optical thickness at 550 nm"


def hazy_frame(frame: Frame, *, unrounded: bool) -> Frame:
    """Return the frame of the hazy raster: the clear one's, in floats where asked for."""
    kind = np.dtype(frame.dtype)
    if not unrounded or kind.kind == "f":
        return frame
    # A float32 does not hold every number of the wider integers, a nodata value among them.
    return replace(frame, dtype="float64" if kind.itemsize > 2 else "float32")


def thickness_frame(frame: Frame) -> Frame:
    """Return the frame of the optical thickness: one float32 band, NaN where there is no data."""
    return frame.layer(THICKNESS)


def airlight_frame(frame: Frame, bands: list[BandHaze]) -> Frame:
    """Return the frame of the airlight: a float32 band for each hazed band, in linear light."""
    count = len(bands)
    names = [frame.descriptions[band.index] or f"band {band.index + 1}" for band in bands]
    return replace(
        frame.layer(""),
        count=count,
        nodata=(float("nan"),) * count,
        scales=(1.0,) * count,
        offsets=(0.0,) * count,
        descriptions=tuple(f"airlight of {name}" for name in names),
        units=(None,) * count,
        color_interp=tuple(frame.color_interp[band.index] for band in bands),
        band_tags=tuple({} for _ in bands),
    )
