# SPDX-License-Identifier: GPL-3.0-or-later
"""How hazy a picture looks, where nobody knows what it should look like.

None of these numbers is a quality by itself: more contrast and saturation may be haze removed or
colours exaggerated. They are read before and after, together, and with the picture in view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter, uniform_filter

from dehaze_core.errors import InputError
from dehaze_core.metrics.full_reference import whole_windows

PATCH = 15
"""Side in px of the window that the dark channel and the contrast look at."""


def dark_channel(image: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[Any]:
    """Return the darkest value of any band in the patch around each pixel (He et al. 2009).

    Args:
        image: `(bands, rows, columns)`, any real dtype.
        valid: `(rows, columns)`; the others don't darken their neighbours.

    Returns:
        `(rows, columns)`, the dtype of the image.
    """
    darkest = image.min(axis=0)
    if valid is not None:
        darkest = np.where(valid, darkest, image.max())
    result: NDArray[Any] = minimum_filter(darkest, size=PATCH, mode="nearest")
    return result


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a picture looks like; all means are over valid pixels, NaN where there are none.

    Attributes:
        haze: Mean of the dark channel over the data range, 0..1. Haze lifts it towards the
            airlight; so do large white, grey or sandy areas.
        contrast: Mean standard deviation of the brightness (mean of the bands) within 15 x 15 px,
            over the data range, 0..0.5; only windows that are wholly inside and valid.
        saturation: Mean of (max - min) / max over the bands of a pixel, 0..1, 0 for black.
        clipped: Share of pixels, 0..1, with a band at either end of the data range: detail that is
            lost for good.
    """

    haze: float
    contrast: float
    saturation: float
    clipped: float

    @classmethod
    def of(
        cls, image: NDArray[Any], *, data_range: float, valid: NDArray[np.bool_] | None = None
    ) -> Appearance:
        """Measure a display picture.

        Args:
            image: `(bands, rows, columns)`, display-encoded, 0..`data_range`.
            data_range: Value of white.
            valid: `(rows, columns)`; pixels that count.

        Raises:
            InputError: Not an image of bands, or a mask of another shape.
        """
        if image.ndim != 3 or (valid is not None and valid.shape != image.shape[1:]):
            raise InputError(
                f"Found an image of shape {image.shape}"
                + ("" if valid is None else f" with a mask of {valid.shape}")
                + "; expected (bands, rows, columns) and (rows, columns)."
            )
        inside = np.ones(image.shape[1:], bool) if valid is None else valid
        if not inside.any():
            return cls(math.nan, math.nan, math.nan, math.nan)
        pixels = np.asarray(image[:, inside], np.float64)
        top, bottom = pixels.max(axis=0), pixels.min(axis=0)
        return cls(
            haze=float(dark_channel(image, inside)[inside].mean(dtype=np.float64)) / data_range,
            contrast=_local_deviation(image, inside) / data_range,
            saturation=float(np.mean((top - bottom) / np.where(top > 0, top, 1.0))),
            clipped=float(np.mean((top >= data_range) | (bottom <= 0))),
        )


def _local_deviation(image: NDArray[Any], inside: NDArray[np.bool_]) -> float:
    """Return the mean standard deviation within windows, in the unit of the image."""
    brightness = np.where(inside, image.mean(axis=0, dtype=np.float64), 0.0)
    mean = uniform_filter(brightness, PATCH)
    variance = uniform_filter(np.square(brightness), PATCH) - np.square(mean)
    chosen = variance[whole_windows(inside.shape, inside, PATCH)]
    return float(np.sqrt(np.maximum(chosen, 0.0)).mean()) if chosen.size else math.nan
