# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of regions: they behave as the masks of a picture that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dehaze_core.grid import Window
from dehaze_core.segmentation.regions import Region, intersection, united

HEIGHT, WIDTH = 20, 37

Mask = NDArray[np.bool_]


def random_mask(seed: int, density: float, height: int, width: int) -> Mask:
    """Return a mask with pixels in its upper left part."""
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[:height, :width] = np.random.default_rng(seed).random((height, width)) < density
    mask[height - 1, width - 1] = True
    return mask


masks = st.builds(
    random_mask,
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.02, 0.3, 0.97, 1.0]),
    st.integers(1, HEIGHT),
    st.integers(1, WIDTH),
)
windows = st.builds(
    Window, st.integers(-5, 25), st.integers(-5, 40), st.integers(1, 30), st.integers(1, 45)
)


def drawn(region: Region | None, height: int = HEIGHT, width: int = WIDTH) -> Mask:
    """Return the mask of a whole picture."""
    mask = np.zeros((height, width), np.bool_)
    if region is not None:
        mask[region.box.slices] = region.mask
    return mask


@given(masks)
def test_region_holds_its_mask_in_the_smallest_box(mask: Mask) -> None:
    region = Region.from_mask(mask, 0.5)

    assert (drawn(region) == mask).all()
    assert region.area == mask.sum()
    for side in (region.mask[0], region.mask[-1], region.mask[:, 0], region.mask[:, -1]):
        assert side.any()


def test_region_takes_one_bit_a_pixel() -> None:
    mask = np.zeros((900, 900), np.bool_)
    mask[100:300, 200:600] = True

    assert len(Region.from_mask(mask).packed) == 200 * 400 // 8


def test_mask_lies_where_it_is_said_to() -> None:
    region = Region.from_mask(np.array([[False, True], [False, True]]), 0.25, row=7, col=3)

    assert (region.row, region.col, region.height, region.width) == (7, 4, 2, 1)
    assert region.score == 0.25


def test_mask_without_a_pixel_is_no_region() -> None:
    with pytest.raises(ValueError, match="without a pixel"):
        Region.from_mask(np.zeros((3, 3), np.bool_))


@given(masks, windows)
def test_part_equals_the_mask_in_a_window(mask: Mask, window: Window) -> None:
    around = 60
    padded = np.pad(mask, around)
    expected = padded[window.shifted(around, around).slices]
    region = Region.from_mask(mask)

    assert (region.part(window) == expected).all()
    clipped = region.clipped(window)
    assert (clipped is None) == (not expected.any())
    assert drawn(clipped).sum() == expected.sum()
    assert not (drawn(clipped) & ~mask).any()


@given(masks, st.integers(0, 9), st.integers(0, 9))
def test_moved_region_keeps_its_shape(mask: Mask, rows: int, cols: int) -> None:
    moved = Region.from_mask(mask).moved(rows, cols)

    whole = drawn(moved, HEIGHT + 10, WIDTH + 10)
    assert (whole[rows : rows + HEIGHT, cols : cols + WIDTH] == mask).all()
    assert moved.area == whole.sum()


@given(masks, st.sampled_from([1, 2, 4]), st.integers(0, 3), st.integers(0, 3))
def test_enlarged_region_repeats_pixels_up_to_the_edge(
    mask: Mask, factor: int, less_rows: int, less_cols: int
) -> None:
    height = HEIGHT * factor - min(less_rows, factor - 1)
    width = WIDTH * factor - min(less_cols, factor - 1)
    expected = mask.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width]

    enlarged = Region.from_mask(mask, 0.5).enlarged(factor, height, width)

    assert (drawn(enlarged, height, width) == expected).all()
    assert enlarged.area == expected.sum()
    assert enlarged.score == 0.5


@given(masks, masks, windows)
def test_overlap_and_iou_equal_those_of_masks(one: Mask, other: Mask, window: Window) -> None:
    first, second = Region.from_mask(one), Region.from_mask(other)
    shown = drawn(first.clipped(window)) & other

    assert first.overlap(second) == (one & other).sum()
    assert first.overlap(second, window) == shown.sum()
    assert first.iou(second) == (one & other).sum() / (one | other).sum()


@given(masks, masks)
def test_where_and_united_are_and_and_or(one: Mask, other: Mask) -> None:
    first, second = Region.from_mask(one, 0.2), Region.from_mask(other, 0.9)

    assert (drawn(first.where(other)) == (one & other)).all()
    both = united([first, second])
    assert (drawn(both) == (one | other)).all()
    assert both.score == 0.9


@given(windows, windows)
def test_intersection_holds_the_pixels_of_both(one: Window, other: Window) -> None:
    seen = np.zeros((100, 120), int)
    for window in (one, other):
        seen[window.shifted(10, 10).slices] += 1

    shared = intersection(one, other)

    assert max(shared.height, 0) * max(shared.width, 0) == (seen == 2).sum()
