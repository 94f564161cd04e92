# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of windows counted in cells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dehaze_core.grid import Window

NUMBERS = st.integers(-200, 200)
SIDES = st.integers(1, 150)
CELLS = st.integers(1, 40)


@given(NUMBERS, NUMBERS, SIDES, SIDES, CELLS)
def test_cells_of_a_window_are_the_fewest_that_hold_it(
    row: int, col: int, height: int, width: int, cell: int
) -> None:
    window = Window(row, col, height, width)

    outer = window.in_cells(cell).scaled(cell)

    assert outer.row <= window.row < outer.row + cell
    assert outer.col <= window.col < outer.col + cell
    assert outer.row_stop - cell < window.row_stop <= outer.row_stop
    assert outer.col_stop - cell < window.col_stop <= outer.col_stop


@given(NUMBERS, NUMBERS, SIDES, SIDES, CELLS)
def test_whole_cells_are_kept(row: int, col: int, height: int, width: int, cell: int) -> None:
    cells = Window(row, col, height, width)

    assert cells.scaled(cell).in_cells(cell) == cells
