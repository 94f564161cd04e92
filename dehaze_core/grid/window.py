# SPDX-License-Identifier: GPL-3.0-or-later
"""A rectangle of pixels, always in (row, column) order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: first row and column, height and width (all in px)."""

    row: int
    col: int
    height: int
    width: int

    @property
    def row_stop(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices that cut the window out of an array."""
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    def padded(self, halo: int) -> Window:
        """Return the window grown by `halo` px on every side (may leave the raster)."""
        return Window(
            self.row - halo, self.col - halo, self.height + 2 * halo, self.width + 2 * halo
        )

    def clipped(self, height: int, width: int) -> Window:
        """Return the part of the window inside a raster of `height` x `width` px."""
        row, col = max(self.row, 0), max(self.col, 0)
        return Window(
            row,
            col,
            max(min(self.row_stop, height) - row, 0),
            max(min(self.col_stop, width) - col, 0),
        )

    def shifted(self, rows: int, cols: int) -> Window:
        """Return the window moved by `rows` and `cols` px."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def within(self, other: Window) -> Window:
        """Return this window relative to the corner of another one."""
        return self.shifted(-other.row, -other.col)

    def in_cells(self, cell: int) -> Window:
        """Return the window in units of cells of `cell` px, grown outwards to whole ones."""
        row, col = self.row // cell, self.col // cell
        return Window(row, col, -(-self.row_stop // cell) - row, -(-self.col_stop // cell) - col)

    def scaled(self, cell: int) -> Window:
        """Return a window of cells of `cell` px in px."""
        return Window(self.row * cell, self.col * cell, self.height * cell, self.width * cell)
