# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a picture is looked at: levels of detail, and the tiles of each.

The coarsest level shows the picture as a whole to the segmenter, for fields, water and coasts.
Every further one shows twice as much detail in tiles that overlap, up to the picture's own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dehaze_core.errors import SettingsError
from dehaze_core.grid import Window

_MARGIN = 50
"""A tile's border is a 50th of its side: Segment Anything's 20 px of 1024."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work a picture may be.

    Attributes:
        tiles: Most tiles of all levels together; a level that would exceed them is left out whole.
        overlap: Share of a tile's side that neighbours have in common at least, 0.1 to 0.5.

    Raises:
        SettingsError: If a value is out of range.
    """

    tiles: int = 64
    overlap: float = 0.25

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.tiles < 1:
            raise SettingsError(f"{self.tiles} tiles are too few: a picture takes at least one.")
        if not 0.1 <= self.overlap <= 0.5:
            raise SettingsError(f"The overlap of tiles is {self.overlap}, expected 0.1 to 0.5.")


@dataclass(frozen=True, slots=True)
class View:
    """What one tile shows of the picture, in px of the picture.

    Attributes:
        frame: The tile.
        trusted: The tile without a border on those sides that are not the picture's. What reaches
            into the border may go on beyond the tile.
        factor: The picture's px for one px of the tile, a side.
    """

    frame: Window
    trusted: Window
    factor: int


@dataclass(frozen=True, slots=True)
class Level:
    """The picture at one level of detail.

    Attributes:
        factor: The picture's px for one px of the level, a side: a power of two.
        views: Its tiles, row by row.
    """

    factor: int
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels a picture is segmented at.

    Attributes:
        chosen: Coarse to fine.
        left_out: Number of finer levels that the limits do not allow.
    """

    chosen: tuple[Level, ...]
    left_out: int

    @property
    def tiles(self) -> int:
        """Number of tiles of all levels."""
        return sum(len(level.views) for level in self.chosen)


def plan_levels(valid: NDArray[np.bool_], side: int, limits: Limits) -> Levels:
    """Return the levels of a picture that the limits allow.

    Args:
        valid: Where the picture has data, (H, W); tiles without any are left out.
        side: Longest side of a tile in px.
        limits: How many tiles there may be.
    """
    height, width = valid.shape
    levels = [_with_data(level, valid) for level in all_levels(height, width, side, limits.overlap)]
    spent = np.cumsum([len(level.views) for level in levels])
    allowed = int(np.searchsorted(spent, limits.tiles, side="right"))
    return Levels(tuple(levels[:allowed]), len(levels) - allowed)


def all_levels(height: int, width: int, side: int, overlap: float) -> list[Level]:
    """Return all levels of a picture of `height` x `width` px, coarse to fine.

    Args:
        height: Rows of the picture.
        width: Columns of the picture.
        side: Longest side of a tile in px; the coarsest level is one tile.
        overlap: Share of a tile's side that neighbours have in common at least.
    """
    factors = [1]
    while -(-max(height, width) // factors[0]) > side:
        factors.insert(0, 2 * factors[0])
    return [_level(height, width, factor, side, overlap) for factor in factors]


def _level(height: int, width: int, factor: int, side: int, overlap: float) -> Level:
    rows, cols = -(-height // factor), -(-width // factor)
    tile_rows, tile_cols = min(rows, side), min(cols, side)
    tiles = [
        Window(row, col, tile_rows, tile_cols)
        for row in _starts(rows, side, overlap)
        for col in _starts(cols, side, overlap)
    ]
    margin = -(-side // _MARGIN)
    views = []
    for tile in tiles:
        trusted = _without_border(tile, margin, rows, cols)
        pixels = [window.scaled(factor).clipped(height, width) for window in (tile, trusted)]
        views.append(View(pixels[0], pixels[1], factor))
    return Level(factor, tuple(views))


def _starts(size: int, side: int, overlap: float) -> list[int]:
    """Return where tiles begin along a line of `size` px, evenly spread from end to end."""
    if size <= side:
        return [0]
    shared = min(round(side * overlap), side - 1)
    count = -(-(size - shared) // (side - shared))
    return [(size - side) * index // (count - 1) for index in range(count)]


def _without_border(tile: Window, margin: int, rows: int, cols: int) -> Window:
    top, left = margin * (tile.row > 0), margin * (tile.col > 0)
    bottom, right = margin * (tile.row_stop < rows), margin * (tile.col_stop < cols)
    return Window(
        tile.row + top, tile.col + left, tile.height - top - bottom, tile.width - left - right
    )


def _with_data(level: Level, valid: NDArray[np.bool_]) -> Level:
    views = tuple(view for view in level.views if valid[view.frame.slices].any())
    return replace(level, views=views)
