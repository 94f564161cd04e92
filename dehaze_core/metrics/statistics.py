# SPDX-License-Identifier: GPL-3.0-or-later
"""Is one method better than another, or was it luck? Spread over images, and a paired test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

from dehaze_core.errors import InputError


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation over images; NaN where there are too few."""

    images: int
    mean: float
    sd: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise one number an image."""
        every = np.fromiter(values, np.float64)
        mean = float(every.mean()) if every.size else math.nan
        # The infinite PSNR of an unchanged picture has no deviation.
        deviates = every.size > 1 and math.isfinite(mean)
        return cls(every.size, mean, float(every.std(ddof=1)) if deviates else math.nan)


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Wilcoxon's signed-rank test of two methods on the same images.

    Attributes:
        images: Number of images.
        median: Median of first minus second.
        p_value: Two-sided probability of such ranks if neither method were better.
        wins: Share of the images on which the first has the higher number, 0..1.
    """

    images: int
    median: float
    p_value: float
    wins: float

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> PairedTest:
        """Compare two methods, image by image.

        Args:
            first: A number for every image.
            second: The other method's, for the same images in the same order.

        Raises:
            InputError: The numbers aren't of the same images, or there are none.
        """
        if len(first) != len(second) or not first:
            raise InputError(
                f"A paired test needs two numbers an image, found {len(first)} and {len(second)}."
            )
        one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
        same = one == two
        # Two unchanged pictures, both of infinite PSNR, are equal.
        difference = np.where(same, 0.0, one - np.where(same, 0.0, two))
        p_value = 1.0 if bool(same.all()) else float(wilcoxon(difference).pvalue)
        return cls(len(first), float(np.median(difference)), p_value, float(np.mean(one > two)))
