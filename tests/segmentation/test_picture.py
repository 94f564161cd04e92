# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture has the same segments whether it is looked at whole or in tiles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from dehaze_core.grid import Window
from dehaze_core.segmentation.coding import CODINGS, coded
from dehaze_core.segmentation.picture import Limits, Segments, segment_picture
from dehaze_core.segmentation.regions import Region

HEIGHT, WIDTH = 90, 140
GROUND = 10


def colour_of(number: int) -> tuple[int, int, int]:
    return (40 + 37 * number % 211, 40 + 91 * number % 211, 255)


@dataclass
class ColourSegmenter:
    """Finds the rectangles of a picture by their colours, as far as they can be made out."""

    side: int
    name: str = "colours"
    identity: str = "colours"
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)

    def __call__(self, picture: NDArray[np.uint8]) -> list[Region]:
        self.pictures.append(picture)
        assert max(picture.shape[:2]) <= self.side
        packed = picture.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        regions = []
        for colour in np.unique(packed).tolist():
            parts, _ = ndimage.label(packed == colour)
            for part, (rows, cols) in enumerate(ndimage.find_objects(parts), start=1):
                size = min(rows.stop - rows.start, cols.stop - cols.start)
                if colour & 255 == 255 and size >= 4:
                    regions.append(Region.from_mask(parts == part, (colour >> 8) % 251 / 251))
        return sorted(regions, key=lambda region: -region.score)


def painted(rectangles: list[Window], height: int = HEIGHT, width: int = WIDTH) -> NDArray[Any]:
    picture = np.full((height, width, 3), GROUND, np.uint8)
    for number, rectangle in enumerate(rectangles):
        picture[rectangle.slices] = colour_of(number)
    return picture


def segmented(picture: NDArray[Any], side: int, **options: Any) -> Segments:
    valid = options.pop("valid", np.ones(picture.shape[:2], np.bool_))
    return segment_picture(picture, valid, ColourSegmenter(side), Limits(**options), lambda _: None)


def apart(rectangles: list[Window]) -> list[Window]:
    """Return rectangles without those that overlap an earlier one."""
    taken = np.zeros((HEIGHT, WIDTH), np.bool_)
    chosen = []
    for rectangle in rectangles:
        inside = rectangle.clipped(HEIGHT, WIDTH)
        if min(inside.height, inside.width) >= 4 and not taken[inside.slices].any():
            taken[inside.slices] = True
            chosen.append(inside)
    return chosen


rectangles = st.lists(
    st.builds(
        Window,
        st.integers(0, HEIGHT - 4),
        st.integers(0, WIDTH - 4),
        st.integers(4, 80),
        st.integers(4, 130),
    ),
    min_size=1,
    max_size=12,
).map(apart)


@settings(max_examples=20, deadline=None)
@given(rectangles, st.sampled_from([32, 40, 64]), st.sampled_from([0.25, 0.4]))
def test_segments_and_codes_agree_across_tile_borders(
    rectangles: list[Window], side: int, overlap: float
) -> None:
    picture = painted(rectangles)

    whole = segmented(picture, 140)
    tiled = segmented(picture, side, overlap=overlap)

    assert (whole.levels, whole.tiles) == (1, 1)
    assert tiled.levels > 1
    assert whole.count == tiled.count == len(rectangles)
    assert (tiled.labels == whole.labels).all()
    assert tiled.coverage == whole.coverage
    for coding in CODINGS:
        assert (coded(tiled, coding) == coded(whole, coding)).all()


def test_segments_are_those_of_the_picture() -> None:
    small, large = Window(5, 60, 10, 20), Window(20, 3, 60, 130)

    segments = segmented(painted([small, large]), 48)

    assert segments.labels.dtype == np.int32
    assert [region.box for region in segments.regions] == [large, small]
    assert (segments.labels[large.slices] == 1).all()
    assert (segments.labels[small.slices] == 2).all()
    assert segments.count == 2
    assert segments.coverage == (200 + 7800) / (HEIGHT * WIDTH)


def test_object_that_every_tile_cuts_is_one_label() -> None:
    """A road along the whole picture, too narrow to be made out in the coarse levels."""
    road = Window(40, 0, 6, WIDTH)

    segments = segmented(painted([road]), 32)

    assert segments.count == 1
    assert (segments.labels[road.slices] == 1).all()
    assert segments.coverage == 6 / HEIGHT


def test_pixels_without_data_never_get_a_label() -> None:
    valid = np.ones((HEIGHT, WIDTH), np.bool_)
    valid[:, 50:] = False
    valid[30:40, 20:30] = False
    field = Window(10, 5, 70, 130)

    segments = segmented(painted([field]), 40, valid=valid)

    inside = np.zeros_like(valid)
    inside[field.slices] = True
    assert ((segments.labels > 0) == (inside & valid)).all()
    assert segments.valid == valid.sum()
    assert segments.coverage == (inside & valid).sum() / valid.sum()


def test_gaps_look_like_what_is_around_them() -> None:
    picture = np.full((64, 96, 3), 200, np.uint8)
    picture[:, :48] = (50, 60, 70)
    valid = np.ones((64, 96), np.bool_)
    valid[20:30, 4:12] = False
    picture[~valid] = 255
    segmenter = ColourSegmenter(96)

    segment_picture(picture, valid, segmenter, Limits(), lambda _: None)

    (seen,) = segmenter.pictures
    assert (seen[valid] == picture[valid]).all()
    assert (seen[20:30, 4:12] == (50, 60, 70)).all(axis=-1).mean() > 0.3
    assert (seen[20:30, 4:12] < 60 + np.array([0, 10, 20])).all()


def test_coarse_levels_show_means_over_pixels_with_data() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:2, :2] = [[[10] * 3, [20] * 3], [[30] * 3, [99] * 3]]
    picture[2:, 4:] = 7
    valid = np.ones((4, 6), np.bool_)
    valid[1, 1] = False  # the 99
    segmenter = ColourSegmenter(3)

    segment_picture(picture, valid, segmenter, Limits(tiles=1), lambda _: None)

    (seen,) = segmenter.pictures
    assert seen[..., 0].tolist() == [[20, 0, 0], [0, 0, 7]]


def test_tiles_without_data_are_not_looked_at() -> None:
    valid = np.zeros((HEIGHT, WIDTH), np.bool_)
    valid[:20, :20] = True
    shares: list[float] = []
    segmenter = ColourSegmenter(70)

    segments = segment_picture(
        painted([Window(0, 0, 10, 10)]), valid, segmenter, Limits(), shares.append
    )

    assert segments.tiles == len(segmenter.pictures) == 2
    assert shares == [0.5, 1.0]
    assert segments.coverage == 0.25


def test_picture_without_data_has_no_segments() -> None:
    valid = np.zeros((HEIGHT, WIDTH), np.bool_)

    segments = segmented(painted([]), 64, valid=valid)

    assert (segments.tiles, segments.count, segments.coverage) == (0, 0, 0.0)
    assert not segments.labels.any()


@pytest.mark.parametrize(("tiles", "levels", "left_out"), [(1, 1, 2), (100, 3, 0)])
def test_levels_beyond_the_budget_are_told(tiles: int, levels: int, left_out: int) -> None:
    segments = segmented(painted([Window(8, 8, 64, 64)]), 40, tiles=tiles)

    assert (segments.levels, segments.left_out) == (levels, left_out)
    assert segments.count == 1


def test_budget_of_one_tile_leaves_coarse_outlines() -> None:
    segments = segmented(painted([Window(9, 10, 60, 63)]), 40, tiles=1)

    assert segments.regions[0].box == Window(12, 12, 56, 60)  # whole squares of 4 px
