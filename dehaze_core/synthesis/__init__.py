# SPDX-License-Identifier: GPL-3.0-or-later
"""Haze put on clear rasters of any size, with the truth about it beside them."""

from __future__ import annotations

from dehaze_core.synthesis.job import synthesize
from dehaze_core.synthesis.report import SynthesisReport
from dehaze_core.synthesis.settings import SynthesisSettings

__all__ = ["SynthesisReport", "SynthesisSettings", "synthesize"]
