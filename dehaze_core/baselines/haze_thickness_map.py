# SPDX-License-Identifier: GPL-3.0-or-later
"""The classic of remote sensing: subtraction of a haze thickness map (HTM).

Written from the description of A. Makarau, R. Richter, R. Mueller, P. Reinartz, "Haze Detection and
Removal in Remotely Sensed Multispectral Imagery", IEEE TGRS 52(9), 2014: haze adds light; how much
shows where the ground is darkest, so a local search of dark objects in the band of the shortest
wavelength gives a map of the haze; a linear relation between the dark objects' values carries the
map to the other bands; and the map is subtracted.

Different here: the paper takes the clear part of a scene as its zero. A picture may have none, so
the zero is the reflectance of 1 % that P. S. Chavez (Photogramm. Eng. Remote Sens. 62(9), 1996)
assumes of the darkest ground.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, minimum_filter

from dehaze_core.scene.srgb import decode_table, encode_uint8

Plane = NDArray[np.float32]

BLUE = 2
WINDOWS = (15, 31, 61)
"""Sides in px of the windows in which dark objects are searched; their maps are averaged."""

DARK_REFLECTANCE = 0.01


def restore(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the dehazed picture, `(rows, columns, 3)` uint8 in and out."""
    light = decode_table().numpy()[np.moveaxis(picture, -1, 0)]
    haze = thickness_map(light[BLUE])
    clear = np.stack([band - band_haze(haze, thickness_map(band)) for band in light])
    return np.moveaxis(encode_uint8(np.clip(clear, 0.0, 1.0)), 0, -1)


def thickness_map(band: Plane) -> Plane:
    """Return the smooth lower envelope of a band: the light of dark objects near each pixel.

    Args:
        band: `(rows, columns)`, linear light.

    Returns:
        The same shape and unit.
    """
    maps = [
        gaussian_filter(minimum_filter(band, side, mode="nearest"), side / 2, mode="nearest")
        for side in WINDOWS
    ]
    mean: Plane = np.mean(maps, axis=0, dtype=np.float32)
    return mean


def band_haze(blue_map: Plane, band_map: Plane) -> Plane:
    """Return the light that haze adds to a band, given the maps of the blue and of this band.

    The band follows blue by least squares over the picture, `band_map = offset + slope * blue_map`;
    where blue hardly varies the slope is that of the means. Never more than the band's own dark
    objects show, and never negative.
    """
    blue_mean, band_mean = float(blue_map.mean()), float(band_map.mean())
    variance = float(np.square(blue_map - blue_mean).mean())
    covariance = float(((blue_map - blue_mean) * (band_map - band_mean)).mean())
    is_even = variance < 1e-6
    slope = band_mean / max(blue_mean, 1e-6) if is_even else max(covariance / variance, 0.0)
    haze = band_mean + slope * (blue_map - blue_mean) - DARK_REFLECTANCE
    return np.asarray(np.clip(haze, 0.0, band_map), np.float32)
