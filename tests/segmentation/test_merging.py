# SPDX-License-Identifier: GPL-3.0-or-later
"""What several tiles have seen of one object becomes one region."""

from __future__ import annotations

import numpy as np
import pytest

from dehaze_core.grid import Window
from dehaze_core.segmentation.merging import Sighting, merged
from dehaze_core.segmentation.regions import Region
from dehaze_core.segmentation.tiles import View, all_levels

# 100 px tiles at columns 0, 75 and 150; borders of 2 px.
COARSE, MIDDLE, FINE = all_levels(100, 250, 100, 0.25)
LEFT, CENTRE, RIGHT = FINE.views


def rectangle(window: Window, score: float = 1.0) -> Region:
    mask = np.ones((window.height, window.width), np.bool_)
    return Region.from_mask(mask, score, window.row, window.col)


def seen(window: Window, view: View, score: float = 1.0) -> Sighting:
    """Return what a view shows of a rectangle."""
    part = rectangle(window, score).clipped(view.frame)
    assert part is not None
    return Sighting(part, (view,))


def boxes(sightings: list[Sighting]) -> list[Window]:
    return sorted((region.box for region in merged(sightings)), key=lambda box: (box.row, box.col))


def test_views_are_what_the_tests_below_take_them_for() -> None:
    assert [view.frame.col for view in FINE.views] == [0, 75, 150]
    assert CENTRE.trusted == Window(0, 77, 100, 96)
    assert (COARSE.factor, MIDDLE.factor) == (4, 2)


def test_object_whole_in_two_tiles_is_one() -> None:
    house = Window(20, 80, 10, 12)

    (region,) = merged([seen(house, LEFT, 0.8), seen(house, CENTRE, 0.9)])

    assert region == rectangle(house, 0.9)


def test_piece_of_an_object_that_a_neighbour_shows_whole_is_dropped() -> None:
    barn = Window(20, 80, 10, 50)

    assert boxes([seen(barn, LEFT), seen(barn, CENTRE)]) == [barn]


def test_narrow_piece_at_a_tile_edge_belongs_to_what_the_neighbour_sees() -> None:
    """The left tile has made out only an end of the barn, which is not alike with its share."""
    barn = Window(20, 85, 30, 40)
    sliver = Sighting(rectangle(Window(20, 96, 30, 4)), (LEFT,))

    assert boxes([sliver, seen(barn, CENTRE)]) == [barn]


def test_strip_at_a_tile_edge_gives_way_to_all_that_the_neighbour_sees_there() -> None:
    """It runs over three fields; in none of them is there more than a third of it."""
    fields = [Window(30 * number + 5, 85, 30, 40) for number in range(3)]
    strip = Sighting(rectangle(Window(5, 90, 90, 10)), (LEFT,))

    assert boxes([strip, *(seen(field, CENTRE) for field in fields)]) == fields


def test_piece_stays_where_the_neighbour_sees_nothing_else() -> None:
    """Two thirds of it are in one field of the neighbour's: not enough to give it up."""
    field = Window(5, 85, 60, 40)
    strip = Sighting(rectangle(Window(5, 90, 90, 10)), (LEFT,))

    assert boxes([strip, seen(field, CENTRE)]) == [field, Window(5, 90, 90, 10)]


@pytest.mark.parametrize("width", [30, 80, 200, 250])
def test_pieces_of_an_object_larger_than_a_tile_are_put_together(width: int) -> None:
    field = Window(10, 250 - width, 60, width)
    pieces = [
        seen(field, view) for view in FINE.views if rectangle(field).clipped(view.frame) is not None
    ]

    assert boxes(pieces) == [field]


def test_pieces_of_different_objects_stay_apart() -> None:
    upper, lower = Window(10, 50, 20, 100), Window(30, 50, 20, 100)

    pieces = [seen(field, view) for field in (upper, lower) for view in (LEFT, CENTRE)]

    assert boxes(pieces) == [upper, lower]


def test_piece_that_nothing_completes_is_kept() -> None:
    piece = seen(Window(10, 50, 20, 100), LEFT)

    assert merged([piece]) == [piece.region]


def test_coarse_object_completes_pieces_of_fine_tiles() -> None:
    """The right tile has missed its piece, so that the fine ones together are no whole."""
    field = Window(8, 20, 60, 200)
    sightings = [seen(field, COARSE.views[0]), seen(field, LEFT), seen(field, CENTRE)]

    assert boxes(sightings) == [field]


def test_fine_object_replaces_its_coarse_likeness() -> None:
    fine, coarse = Window(10, 20, 30, 30), Window(8, 20, 32, 32)

    sightings = [seen(coarse, COARSE.views[0], 0.99), seen(fine, LEFT, 0.9)]

    assert boxes(sightings) == [fine]


def test_small_objects_may_differ_by_a_coarse_pixel() -> None:
    """64 of 144 px in common is no likeness of two tiles of one level, but it is across levels."""
    fine, coarse = Window(10, 82, 8, 8), Window(8, 80, 12, 12)

    assert boxes([seen(coarse, COARSE.views[0]), seen(fine, LEFT)]) == [fine]
    assert len(boxes([seen(coarse, CENTRE), seen(fine, LEFT)])) == 2


def test_part_and_whole_are_two_objects() -> None:
    farm, house = Window(8, 8, 60, 60), Window(20, 20, 8, 8)

    assert boxes([seen(farm, COARSE.views[0]), seen(house, LEFT)]) == [farm, house]


def test_what_one_tile_tells_apart_stays_apart() -> None:
    court, wall = Window(10, 10, 20, 20), Window(10, 10, 20, 18)

    assert set(boxes([seen(court, LEFT), seen(wall, LEFT)])) == {court, wall}


def test_nothing_seen_is_nothing() -> None:
    assert merged([]) == []
