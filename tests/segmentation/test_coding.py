# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of segments: the paper's to the number, and ours that never repeat across a border."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dehaze_core.segmentation.coding import (
    code_of,
    coded,
    codes_of_labels,
    painted_labels,
    painting_order,
    summed_codes,
)
from dehaze_core.segmentation.picture import Segments
from dehaze_core.segmentation.regions import Region

SHAPE = (1, 301)


def rectangle(row: int, col: int, height: int, width: int, score: float = 1.0) -> Region:
    return Region.from_mask(np.ones((height, width), np.bool_), score, row, col)


def test_codes_are_those_of_the_paper() -> None:
    rising, falling, below = range(2, 255, 2), range(255, 0, -2), range(-1, -93, -2)

    assert [code_of(number) for number in range(301)] == [*rising, *falling, *below]


@pytest.mark.parametrize(
    ("number", "code"), [(0, 2), (1, 4), (126, 254), (127, 255), (128, 253), (254, 1), (255, -1)]
)
def test_code_at_the_turns(number: int, code: int) -> None:
    assert code_of(number) == code


def test_255_masks_have_every_code_once() -> None:
    assert sorted(code_of(number) for number in range(255)) == list(range(1, 256))


def test_masks_side_by_side_have_their_codes() -> None:
    regions = [rectangle(0, number, 1, 1) for number in range(301)]

    clipped = summed_codes(regions, SHAPE, wrap=False)
    wrapped = summed_codes(regions, SHAPE, wrap=True)

    assert clipped.dtype == wrapped.dtype == np.uint8
    assert clipped[0, :255].tolist() == [code_of(number) for number in range(255)]
    assert not clipped[0, 255:].any()  # below zero
    assert wrapped[0, :255].tolist() == clipped[0, :255].tolist()
    assert wrapped[0, 255:258].tolist() == [255, 253, 251]  # 256 - 1, 256 - 3, 256 - 5
    assert wrapped[0, 300] == 256 - 91


@pytest.mark.parametrize(("wrap", "overlap"), [(False, 255), (True, 68)])
def test_overlapping_codes_are_added(wrap: bool, overlap: int) -> None:
    """Masks 60 and 100 have the codes 122 and 202: 324 together, 68 modulo 256."""
    elsewhere = [rectangle(0, 300, 1, 1)] * 101
    regions = [*elsewhere[:60], rectangle(0, 0, 1, 2), *elsewhere[61:100], rectangle(0, 1, 1, 2)]

    codes = summed_codes(regions, SHAPE, wrap=wrap)

    assert codes[0, :4].tolist() == [122, overlap, 202, 0]


def test_codes_below_zero_lessen_the_sum() -> None:
    regions = [rectangle(0, number, 1, 1) for number in range(255)] + [rectangle(0, 0, 1, 2)]

    assert summed_codes(regions, SHAPE, wrap=False)[0, :2].tolist() == [2 - 1, 4 - 1]


def test_small_regions_are_painted_over_large_ones() -> None:
    small, large, middle = rectangle(1, 1, 1, 1), rectangle(0, 0, 3, 3), rectangle(1, 1, 2, 2)

    labels = painted_labels([small, large, middle], (3, 4))

    assert labels.dtype == np.int32
    assert labels.tolist() == [[1, 1, 1, 0], [1, 3, 2, 0], [1, 2, 2, 0]]
    assert painting_order([small, large, middle]) == (large, middle, small)


def test_labels_do_not_depend_on_the_order_of_regions() -> None:
    regions = [rectangle(0, 2, 2, 2), rectangle(1, 0, 2, 2), rectangle(0, 1, 2, 2)]

    expected = painted_labels(regions, (3, 4))

    assert expected.tolist() == [[0, 1, 2, 2], [3, 3, 2, 2], [3, 3, 0, 0]]
    assert (painted_labels(regions[::-1], (3, 4)) == expected).all()


def test_up_to_255_labels_keep_their_codes() -> None:
    labels = np.arange(-1, 256, dtype=np.int32)[None]

    codes = codes_of_labels(labels)

    assert codes.dtype == np.uint8
    assert codes[0].tolist() == [0, 0, *(code_of(number) for number in range(255))]


def test_labels_beyond_255_have_codes_again() -> None:
    assert codes_of_labels(np.array([[255, 0, 256, 0, 511]])).tolist() == [[1, 0, 2, 0, 2]]


def test_nothing_is_coded_without_a_segment() -> None:
    assert not codes_of_labels(np.zeros((3, 4), np.int32)).any()


def touching(labels: NDArray[Any]) -> set[tuple[int, int]]:
    """Return the pairs of labels that share a side or a corner."""
    pairs = set()
    padded = np.pad(labels, 1)
    for rows, cols in [(0, 1), (1, 0), (1, 1), (1, -1)]:
        moved = np.roll(padded, (rows, cols), (0, 1))
        border = (padded != moved) & (padded > 0) & (moved > 0)
        pairs |= set(zip(padded[border].tolist(), moved[border].tolist(), strict=True))
    return pairs


def codes_by_label(labels: NDArray[Any], codes: NDArray[np.uint8]) -> dict[int, int]:
    """Return the code of every label, after a check that each has one."""
    pairs = set(zip(labels.ravel().tolist(), codes.ravel().tolist(), strict=True))
    by_label = dict(pairs)
    assert len(by_label) == len(pairs)
    return by_label


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    height=st.integers(20, 300),
    width=st.integers(20, 60),
    count=st.integers(256, 1200),
    cell=st.integers(1, 4),
    dtype=st.sampled_from([np.int32, np.uint16, np.int64]),
)
def test_touching_segments_never_share_a_code(
    seed: int, height: int, width: int, count: int, cell: int, dtype: Any
) -> None:
    """With labels thrown about at random, in many pieces each, most congruent ones touch."""
    labels = np.random.default_rng(seed).integers(0, count, (height, width)).astype(dtype)
    labels = labels.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    labels[0, 0] = count

    codes = codes_of_labels(labels)

    by_label = codes_by_label(labels, codes)
    assert all(by_label[one] != by_label[other] for one, other in touching(labels))
    assert ((codes == 0) == (labels == 0)).all()


@pytest.mark.parametrize("row", [1, 255, 256, 257, 512])
def test_segments_with_one_code_differ_wherever_they_touch(row: int) -> None:
    """Labels 1 and 256 would both have code 2."""
    labels = np.ones((600, 2), np.int32)
    labels[row:] = 256

    codes = codes_of_labels(labels)

    assert codes[0, 0] != codes[-1, 0]
    assert 2 in codes


def test_a_field_with_many_houses_has_a_code_of_its_own() -> None:
    labels = np.ones((60, 60), np.int32)
    labels[1::3, 1::3] = np.arange(2, 402).reshape(20, 20)

    codes = codes_of_labels(labels)

    assert (codes[labels > 1] != codes[0, 0]).all()
    assert set(np.unique(codes)) == set(range(1, 256))


def test_large_labels_are_taken_as_they_are() -> None:
    labels = np.array([[2**31 - 1, 2**31 - 256, 5]], np.int32)  # the first two have one code

    codes = codes_of_labels(labels)[0]

    assert codes[0] != codes[1]
    assert codes[1] != codes[2] == code_of(4)


def test_more_segments_that_all_touch_than_codes_share_as_few_as_possible() -> None:
    one, other = np.triu_indices(256, 1)
    labels = np.zeros((2 * one.size, 2), np.int32)
    labels[::2] = np.stack((one, other), axis=1) + 1

    by_label = codes_by_label(labels, codes_of_labels(labels))

    assert len(set(by_label.values()) - {0}) == 255


def test_paper_numbers_masks_by_score_and_ours_by_size() -> None:
    regions = painting_order([rectangle(0, 0, 2, 2, score=0.1), rectangle(0, 1, 1, 2, score=0.9)])
    labels = painted_labels(regions, (2, 3))
    segments = Segments(labels, regions, levels=1, tiles=1, valid=6)

    assert coded(segments, "paint").tolist() == [[2, 4, 4], [2, 2, 0]]
    assert coded(segments, "paper_sum_clip").tolist() == [[4, 6, 2], [4, 4, 0]]
    assert coded(segments, "paper_sum_wrap").tolist() == [[4, 6, 2], [4, 4, 0]]


def test_sums_beyond_255_are_clipped_or_wrapped() -> None:
    regions = tuple(rectangle(0, 0, 1, 1, score=1 - number / 1000) for number in range(20))
    segments = Segments(np.ones((1, 1), np.int32), regions, levels=1, tiles=1, valid=1)

    assert coded(segments, "paper_sum_clip")[0, 0] == 255
    assert coded(segments, "paper_sum_wrap")[0, 0] == 420 % 256  # 2 + 4 + ... + 40
