# SPDX-License-Identifier: GPL-3.0-or-later
"""The classical baseline: single image haze removal with the dark channel prior.

Re-implemented from K. He, J. Sun, X. Tang, "Single Image Haze Removal Using Dark Channel Prior",
CVPR 2009, with the guided filter of the same authors (ECCV 2010) as refinement; the papers'
parameters, applied to display values as they did. Score it with

    dehaze score DIR --method benchmarks.dark_channel:restore
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter, uniform_filter

Plane = NDArray[np.float32]

PATCH = 15  # px, window of the dark channel
KEPT_HAZE = 0.95  # omega: a little haze is left for a natural look
LEAST_TRANSMISSION = 0.1  # t0: noise is not amplified more than tenfold
BRIGHTEST_SHARE = 0.001  # of the dark channel, where the airlight is looked for
GUIDE_RADIUS = 40  # px
GUIDE_EPSILON = 1e-3


def restore(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the dehazed picture, `(rows, columns, 3)` uint8 in and out."""
    hazy = picture.astype(np.float32) / 255
    airlight = find_airlight(hazy)
    rough = 1 - KEPT_HAZE * dark_channel(hazy / airlight)
    transmission = guided_filter(hazy.mean(axis=2), rough)
    transmission = np.maximum(transmission, LEAST_TRANSMISSION)[..., None]
    clear = (hazy - airlight) / transmission + airlight
    return np.rint(np.clip(clear, 0, 1) * 255).astype(np.uint8)


def dark_channel(image: NDArray[np.float32]) -> Plane:
    """Return the darkest value of any band within the patch around each pixel."""
    return minimum_filter(image.min(axis=2), size=PATCH, mode="nearest")


def find_airlight(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colour of the brightest pixel among those with the brightest dark channel."""
    dark = dark_channel(image).ravel()
    count = max(1, int(dark.size * BRIGHTEST_SHARE))
    candidates = image.reshape(-1, 3)[np.argpartition(dark, -count)[-count:]]
    brightest: NDArray[np.float32] = candidates[candidates.sum(axis=1).argmax()]
    return np.maximum(brightest, 1 / 255)


def guided_filter(guide: Plane, target: Plane) -> Plane:
    """Smooth `target` along the edges of the grey `guide` (He et al. 2010)."""

    def mean(plane: Plane) -> Any:  # noqa: ANN401 - scipy is untyped
        return uniform_filter(plane, 2 * GUIDE_RADIUS + 1, mode="reflect")

    guide, target = guide.astype(np.float64), target.astype(np.float64)
    mean_guide, mean_target = mean(guide), mean(target)
    variance = mean(guide * guide) - mean_guide**2
    slope = (mean(guide * target) - mean_guide * mean_target) / (variance + GUIDE_EPSILON)
    offset = mean_target - slope * mean_guide
    smooth = mean(slope) * guide + mean(offset)
    return smooth.astype(np.float32)
