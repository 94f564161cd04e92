# SPDX-License-Identifier: GPL-3.0-or-later
"""The classical baseline: single image haze removal with the dark channel prior.

Re-implemented from K. He, J. Sun, X. Tang, "Single Image Haze Removal Using Dark Channel Prior",
CVPR 2009, with the guided filter of the same authors (ECCV 2010) as refinement; the papers'
parameters, applied to display values as they did. Score it with

    dehaze score DIR --method dehaze_core.baselines.dark_channel:restore
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from dehaze_core.metrics import dark_channel

Floats = NDArray[np.floating[Any]]

KEPT_HAZE = 0.95  # omega: a little haze is left for a natural look
LEAST_TRANSMISSION = 0.1  # t0: noise is not amplified more than tenfold
BRIGHTEST_SHARE = 0.001  # of the dark channel, where the airlight is looked for
GUIDE_RADIUS = 40  # px
GUIDE_EPSILON = 1e-3


def restore(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the dehazed picture, `(rows, columns, 3)` uint8 in and out."""
    hazy = np.moveaxis(picture, -1, 0).astype(np.float32) / 255
    airlight = find_airlight(hazy)
    rough = 1 - KEPT_HAZE * dark_channel(hazy / airlight)
    transmission = guided_filter(hazy.mean(axis=0), rough)
    clear = (hazy - airlight) / np.maximum(transmission, LEAST_TRANSMISSION) + airlight
    return np.moveaxis(np.rint(np.clip(clear, 0, 1) * 255).astype(np.uint8), 0, -1)


def find_airlight(image: Floats) -> Floats:
    """Return the colour of the brightest pixel among those with the brightest dark channel.

    Args:
        image: `(3, rows, columns)`, [0, 1].

    Returns:
        `(3, 1, 1)`, above 0.
    """
    dark = dark_channel(image).ravel()
    count = max(1, int(dark.size * BRIGHTEST_SHARE))
    candidates = image.reshape(3, -1)[:, np.argpartition(dark, -count)[-count:]]
    brightest: Floats = candidates[:, candidates.sum(axis=0).argmax()]
    return np.maximum(brightest, 1 / 255)[:, None, None]


def guided_filter(guide: Floats, target: Floats) -> Floats:
    """Smooth `target` along the edges of the grey `guide` (He et al. 2010)."""

    def mean(plane: Floats) -> Any:  # noqa: ANN401 - scipy is untyped
        return uniform_filter(plane, 2 * GUIDE_RADIUS + 1, mode="reflect")

    guide, target = guide.astype(np.float64), target.astype(np.float64)
    mean_guide, mean_target = mean(guide), mean(target)
    variance = mean(guide * guide) - mean_guide**2
    slope = (mean(guide * target) - mean_guide * mean_target) / (variance + GUIDE_EPSILON)
    offset = mean_target - slope * mean_guide
    smooth = mean(slope) * guide + mean(offset)
    return np.asarray(smooth, np.float32)
