# SPDX-License-Identifier: GPL-3.0-or-later
"""How a raster is cut into blocks with a halo, and how it is continued beyond its edge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dehaze_core.grid.window import Window


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of work.

    Attributes:
        index: Position in the grid, row by row.
        core: Pixels this block is responsible for, in the padded raster.
        outer: Core and halo, cut at the padded raster's edge.
    """

    index: int
    core: Window
    outer: Window

    @property
    def inset(self) -> Window:
        """The core as a window into the outer window."""
        return self.core.within(self.outer)


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Square blocks over a raster that is padded to whole units at the right and lower edge.

    Attributes:
        height: Rows of the raster.
        width: Columns of the raster.
        size: Side of a block's core in px, a multiple of the unit.
        halo: Pixels around the core, a multiple of the unit.
        cell: Side of the cells that blocks consist of (tokens) in px.
        unit: Blocks and pieces of them begin and end at multiples of this many px, a multiple of
            `cell`; the cell itself if None.
    """

    height: int
    width: int
    size: int
    halo: int
    cell: int
    unit: int | None = None

    def __post_init__(self) -> None:
        """Check that blocks consist of whole units, and these of whole cells."""
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a raster of {self.height} x {self.width} px has no blocks")
        step = self._step
        if self.size < step or self.size % step or self.halo % step or step % self.cell:
            raise ValueError(
                f"block size {self.size} and halo {self.halo} must be multiples of {step}, "
                f"and this of {self.cell}"
            )

    @property
    def padded_height(self) -> int:
        """Rows of the padded raster."""
        return -(-self.height // self._step) * self._step

    @property
    def padded_width(self) -> int:
        """Columns of the padded raster."""
        return -(-self.width // self._step) * self._step

    @property
    def _step(self) -> int:
        return self.unit or self.cell

    @property
    def rows(self) -> int:
        """Number of rows of blocks."""
        return -(-self.padded_height // self.size)

    @property
    def cols(self) -> int:
        """Number of columns of blocks."""
        return -(-self.padded_width // self.size)

    @property
    def outer_px(self) -> int:
        """Pixels of all blocks with their halos: what has to be computed."""
        heights = sum(self[row * self.cols].outer.height for row in range(self.rows))
        return heights * sum(self[col].outer.width for col in range(self.cols))

    def __len__(self) -> int:
        """Return the number of blocks."""
        return self.rows * self.cols

    def __getitem__(self, index: int) -> Block:
        """Return a block by its position, row by row."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, col = divmod(index, self.cols)
        whole = (self.padded_height, self.padded_width)
        core = Window(row * self.size, col * self.size, self.size, self.size).clipped(*whole)
        return Block(index, core, core.padded(self.halo).clipped(*whole))

    def __iter__(self) -> Iterator[Block]:
        """Yield all blocks row by row."""
        for index in range(len(self)):
            yield self[index]

    def pieces(self, block: Block, side: int | None) -> Iterator[Block]:
        """Yield pieces of a block with cores of at most `side` px a side, each with its halo.

        The halo of a piece stays within that of its block. None stands for the whole block.
        """
        if side is None:
            yield block
            return
        core, whole = block.core, (self.padded_height, self.padded_width)
        step = max(side // self._step, 1) * self._step
        for row in range(core.row, core.row_stop, step):
            for col in range(core.col, core.col_stop, step):
                piece = Window(row, col, step, step).clipped(core.row_stop, core.col_stop)
                yield Block(block.index, piece, piece.padded(self.halo).clipped(*whole))

    def cells(self, window: Window) -> Window:
        """Return a window of whole cells of the padded raster in units of cells."""
        return window.in_cells(self.cell)

    @property
    def cell_rows(self) -> int:
        """Rows of cells of the padded raster."""
        return self.padded_height // self.cell

    @property
    def cell_cols(self) -> int:
        """Columns of cells of the padded raster."""
        return self.padded_width // self.cell


def mirrored(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Return which pixels stand for positions start..stop-1 of a line of `size` pixels.

    Beyond the line's end it is reflected about its last pixel (which is not repeated), as often as
    needed; a line of one pixel is repeated.
    """
    position = np.arange(start, stop, dtype=np.intp)
    if size == 1:
        return np.zeros_like(position)
    folded: NDArray[np.intp] = np.abs((position + size - 1) % (2 * size - 2) - (size - 1))
    return folded
