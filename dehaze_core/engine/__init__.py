# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: plans a run, streams a raster through a network, and writes the result."""

from __future__ import annotations

from dehaze_core.engine.plan import Plan, make_plan
from dehaze_core.engine.progress import Progress, Silent
from dehaze_core.engine.report import Report
from dehaze_core.engine.runner import run
from dehaze_core.engine.settings import RunSettings

__all__ = ["Plan", "Progress", "Report", "RunSettings", "Silent", "make_plan", "run"]
