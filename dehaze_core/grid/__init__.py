# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure pixel geometry: windows, blocks, halos. No raster, no tensor is touched here."""

from __future__ import annotations

from dehaze_core.grid.blocks import Block, BlockGrid
from dehaze_core.grid.window import Window

__all__ = ["Block", "BlockGrid", "Window"]
