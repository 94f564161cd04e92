# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that say how good a result is, each with its definition in its docstring."""

from __future__ import annotations

from dehaze_core.metrics.full_reference import (
    ErrorSums,
    ciede2000,
    psnr,
    rms_change,
    spectral_angle,
    ssim,
)
from dehaze_core.metrics.no_reference import Appearance, dark_channel
from dehaze_core.metrics.seams import seam_score

__all__ = [
    "Appearance",
    "ErrorSums",
    "ciede2000",
    "dark_channel",
    "psnr",
    "rms_change",
    "seam_score",
    "spectral_angle",
    "ssim",
]
