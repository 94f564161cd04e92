# SPDX-License-Identifier: GPL-3.0-or-later
"""The zoo: one small raster for every trait that an output has to carry over."""

from __future__ import annotations

from tests.frame import files, place, values
from tests.frame.rasters import Case

CASES: list[Case] = [*place.CASES, *values.CASES, *files.CASES]
