# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of levels and tiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dehaze_core.errors import SettingsError
from dehaze_core.grid import Window
from dehaze_core.segmentation.tiles import Limits, all_levels, plan_levels

heights = st.integers(1, 400)
sides = st.integers(50, 200)
overlaps = st.floats(0.1, 0.5)


@settings(max_examples=50, deadline=None)
@given(heights, heights, sides, overlaps)
def test_tiles_of_every_level_show_every_pixel(
    height: int, width: int, side: int, overlap: float
) -> None:
    for level in all_levels(height, width, side, overlap):
        shown, trusted = np.zeros((2, height, width), np.bool_)
        for view in level.views:
            shown[view.frame.slices] = True
            trusted[view.trusted.slices] = True

        assert shown.all()
        assert trusted.all()


@settings(max_examples=50, deadline=None)
@given(heights, heights, sides, overlaps)
def test_levels_double_their_detail_from_one_tile_to_the_picture_itself(
    height: int, width: int, side: int, overlap: float
) -> None:
    levels = all_levels(height, width, side, overlap)

    assert [level.factor for level in levels] == [2**n for n in range(len(levels))][::-1]
    assert [view.frame for view in levels[0].views] == [Window(0, 0, height, width)]
    assert len(levels) == 1 or max(height, width) > side
    for level in levels:
        for view in level.views:
            frame = view.frame
            assert max(frame.height, frame.width) <= side * level.factor
            assert frame.row % level.factor == frame.col % level.factor == 0
            assert view.factor == level.factor


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), sides, overlaps)
def test_neighbours_share_at_least_the_overlap(width: int, side: int, overlap: float) -> None:
    views = all_levels(1, width, side, overlap)[-1].views

    for view, following in pairwise(views):
        shared = view.frame.col_stop - following.frame.col
        assert shared >= round(side * overlap)
        assert following.frame.col > view.frame.col


def test_tiles_by_hand() -> None:
    coarse, fine = all_levels(100, 210, 128, 0.25)

    assert (coarse.factor, fine.factor) == (2, 1)
    assert [view.frame for view in fine.views] == [Window(0, 0, 100, 128), Window(0, 82, 100, 128)]
    # A 50th of 128 px is 3 px.
    assert [view.trusted for view in fine.views] == [
        Window(0, 0, 100, 125),
        Window(0, 85, 100, 125),
    ]


def test_largest_picture_fits_the_usual_budget() -> None:
    levels = plan_levels(np.ones((4096, 4096), np.bool_), 1024, Limits())

    assert [len(level.views) for level in levels.chosen] == [1, 9, 25]
    assert levels.tiles == 35
    assert levels.left_out == 0


@pytest.mark.parametrize(
    ("tiles", "chosen", "left_out"),
    [(1, [1], 2), (9, [1], 2), (10, [1, 9], 1), (35, [1, 9, 25], 0)],
)
def test_levels_beyond_the_budget_are_left_out_whole(
    tiles: int, chosen: list[int], left_out: int
) -> None:
    levels = plan_levels(np.ones((512, 512), np.bool_), 128, Limits(tiles=tiles))

    assert [len(level.views) for level in levels.chosen] == chosen
    assert levels.left_out == left_out


def test_tiles_without_data_do_not_count() -> None:
    valid = np.zeros((512, 512), np.bool_)
    valid[:90, :90] = True

    levels = plan_levels(valid, 128, Limits(tiles=3))

    assert [len(level.views) for level in levels.chosen] == [1, 1, 1]
    assert levels.left_out == 0


@pytest.mark.parametrize("limits", [{"tiles": 0}, {"overlap": 0.05}, {"overlap": 0.6}])
def test_limits_out_of_range_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        Limits(**limits)  # type: ignore[arg-type]
