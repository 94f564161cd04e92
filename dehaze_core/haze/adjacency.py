# SPDX-License-Identifier: GPL-3.0-or-later
"""The adjacency effect: haze also scatters light of neighbouring ground into a pixel.

It is modelled as a Gaussian blur of the ground whose width grows with the optical thickness. The
blur is computed for a few thicknesses and interpolated in between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from dehaze_core.grid.window import Window

Array = NDArray[np.float64]

MOST_BLUR = 2.0
"""Largest standard deviation of the blur for a thickness of 1, in px."""

# Beyond the last one less than 2 % of the ground's light is left to be blurred.
_THICKNESSES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
_TRUNCATE = 3.0


def adjacency_halo(blur: float) -> int:
    """Return how far the blur looks around a pixel, px.

    Args:
        blur: Standard deviation for a thickness of 1, px.
    """
    return int(_TRUNCATE * blur * _THICKNESSES[-1] + 0.5)


def blurred_ground(
    ground: Array, valid: NDArray[np.bool_], thickness: Array, blur: float, core: Window
) -> Array:
    """Return the ground as seen through haze, for the core of a window.

    Pixels without data do not contribute.

    Args:
        ground: (H, W) linear light of the core and `adjacency_halo` px around it, as far as the
            raster goes.
        valid: (H, W).
        thickness: (h, w) optical thickness of the core.
        blur: Standard deviation for a thickness of 1, px.
        core: Place of the core in the window.

    Returns:
        (h, w); pixels without data hold no meaningful value.
    """
    weight = valid.astype(np.float64)
    light = np.where(valid, ground, 0.0)
    position = np.interp(thickness, _THICKNESSES, range(len(_THICKNESSES)))
    result = np.zeros(thickness.shape)
    for index, node in enumerate(_THICKNESSES):
        share = np.maximum(1.0 - np.abs(position - index), 0.0)
        if share.any():
            result += share * _gaussian(light, weight, blur * node, core)
    return result


def _gaussian(light: Array, weight: Array, sigma: float, core: Window) -> Array:
    if sigma == 0.0:
        return light[core.slices]
    seen, known = (_smooth(plane, sigma)[core.slices] for plane in (light, weight))
    mean: Array = np.divide(seen, known, out=np.zeros_like(seen), where=known > 0)
    return mean


def _smooth(plane: Array, sigma: float) -> Array:
    for axis in (0, 1):
        plane = gaussian_filter1d(
            plane, sigma, axis=axis, mode="constant", cval=0.0, truncate=_TRUNCATE
        )
    return plane
