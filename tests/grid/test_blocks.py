# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of block geometry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dehaze_core.grid import BlockGrid, Window
from dehaze_core.grid.blocks import mirrored

sides = st.integers(1, 300)
grids = st.builds(
    BlockGrid,
    height=sides,
    width=sides,
    size=st.integers(1, 6).map(lambda n: 32 * n),
    halo=st.integers(0, 3).map(lambda n: 32 * n),
    cell=st.just(32),
)


@given(grids)
def test_cores_cover_every_pixel_of_the_padded_raster_once(grid: BlockGrid) -> None:
    seen = np.zeros((grid.padded_height, grid.padded_width), int)
    for block in grid:
        seen[block.core.slices] += 1

    assert (seen == 1).all()


@given(grids)
def test_outer_window_is_core_and_halo_cut_at_the_edge(grid: BlockGrid) -> None:
    for block in grid:
        assert block.outer == block.core.padded(grid.halo).clipped(
            grid.padded_height, grid.padded_width
        )
        inset = block.inset
        assert inset.shifted(block.outer.row, block.outer.col) == block.core


@given(grids)
def test_cells_of_blocks_cover_every_cell_once(grid: BlockGrid) -> None:
    seen = np.zeros((grid.cell_rows, grid.cell_cols), int)
    for block in grid:
        seen[grid.cells(block.core).slices] += 1

    assert (seen == 1).all()


@given(sides, st.integers(0, 700))
def test_mirrored_positions_equal_reflect_padding(size: int, beyond: int) -> None:
    expected = np.pad(np.arange(size), (0, beyond), mode="reflect")

    assert (mirrored(0, size + beyond, size) == expected).all()


def test_window_clipped_outside_the_raster_is_empty() -> None:
    window = Window(50, 50, 10, 10).clipped(20, 20)

    assert window.height == 0
    assert window.width == 0


@pytest.mark.parametrize(("size", "halo"), [(100, 32), (64, 10), (0, 0)])
def test_blocks_must_consist_of_whole_cells(size: int, halo: int) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        BlockGrid(100, 100, size, halo, 32)


def test_block_outside_the_grid_does_not_exist() -> None:
    grid = BlockGrid(100, 100, 64, 0, 32)

    with pytest.raises(IndexError):
        grid[len(grid)]


@given(grids, st.one_of(st.none(), st.integers(1, 300)))
def test_pieces_cover_their_block_and_need_no_pixel_outside_of_it(
    grid: BlockGrid, side: int | None
) -> None:
    for block in grid:
        seen = np.zeros((block.core.height, block.core.width), int)
        for piece in grid.pieces(block, side):
            seen[piece.core.within(block.core).slices] += 1
            halo = piece.outer.within(block.outer)
            assert halo == halo.clipped(block.outer.height, block.outer.width)
            assert piece.outer == piece.core.padded(grid.halo).clipped(
                grid.padded_height, grid.padded_width
            )
        assert (seen == 1).all()
