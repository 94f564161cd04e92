# SPDX-License-Identifier: GPL-3.0-or-later
"""Segments as gray levels: the coding of "Let Segment Anything Help Image Dehaze", and ours.

The paper (arXiv 2306.15870, Algorithm 1) numbers masks from 0, gives every number a code, and adds
the codes where masks overlap. It says nothing about more than 255 masks or about sums beyond 255;
`paper_sum_clip` and `paper_sum_wrap` are the two ways to read it. `paint` is ours: every pixel has
the code of one segment, and segments that touch differ, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dehaze_core.segmentation.regions import Region

if TYPE_CHECKING:
    from dehaze_core.segmentation.picture import Segments

Coding = Literal["paint", "paper_sum_clip", "paper_sum_wrap"]
CODINGS: tuple[Coding, ...] = get_args(Coding)

CODES = 255
"""Codes 1 to 255 stand for segments, 0 for none."""

_STRIP = 256
"""Rows looked at at once."""

Labels = NDArray[np.integer[Any]]
Positions = NDArray[np.int64]


def code_of(number: int) -> int:
    """Return the gray level of a mask by its number (Algorithm 1 of the paper).

    Even levels rise from 2 to 254 for the numbers 0 to 126, odd ones fall from 255 to 1 for 127 to
    254. Numbers from 255 on go below zero, as in the paper.
    """
    return 2 * (number + 1) if number < 127 else 2 * (255 - number) - 1


def summed_codes(
    regions: Sequence[Region], shape: tuple[int, int], *, wrap: bool
) -> NDArray[np.uint8]:
    """Return the sum of the codes of all masks of a pixel, as the paper does.

    Args:
        regions: Masks by their number, best first.
        shape: Rows and columns of the picture.
        wrap: Sums beyond 0 to 255 are taken modulo 256 instead of clipped.

    Returns:
        Codes, (H, W).
    """
    total = np.zeros(shape, np.int32)
    for number, region in enumerate(regions):
        total[region.box.slices][region.mask] += code_of(number)
    if wrap:
        return (total & 255).astype(np.uint8)
    return total.clip(0, 255).astype(np.uint8)


def painting_order(regions: Sequence[Region]) -> tuple[Region, ...]:
    """Return regions in the order they are painted: large ones first, small ones on top of them.

    Regions of one size go by their bounding boxes, so that the order never depends on the
    segmenter's.
    """
    return tuple(sorted(regions, key=_painting_key))


def _painting_key(region: Region) -> tuple[int, int, int, int, int, bytes]:
    return (-region.area, region.row, region.col, region.height, region.width, region.packed)


def painted_labels(regions: Sequence[Region], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return which segment every pixel belongs to.

    Args:
        regions: Masks in any order; they may overlap.
        shape: Rows and columns of the picture.

    Returns:
        Position in `painting_order(regions)`, counted from 1; 0 where there is no mask. (H, W).
    """
    labels = np.zeros(shape, np.int32)
    for label, region in enumerate(painting_order(regions), start=1):
        labels[region.box.slices][region.mask] = label
    return labels


def codes_of_labels(labels: Labels) -> NDArray[np.uint8]:
    """Return a code for every label such that segments that touch have different ones.

    Up to 255 labels have a code each. With more, codes are used again: a label keeps its own,
    `code_of((label - 1) % 255)`, unless a segment it touches (sides and corners) has it already.

    Args:
        labels: Segments, 1 and up; what is below has no segment. (H, W). Where a segment and those
            around it all touch each other and are more than 255, which takes segments of many
            separate pieces, some have to share a code; the fewest are chosen.

    Returns:
        Codes 1 to 255, 0 without a segment, (H, W).
    """
    names = _names(labels)
    if not names.size:
        return np.zeros(labels.shape, np.uint8)
    own = (names - 1) % CODES
    if names[-1] > CODES:
        own = _coloured(own, *_neighbours(labels, names))
    table = np.array([0, *(code_of(number) for number in own.tolist())], np.uint8)
    codes = np.empty(labels.shape, np.uint8)
    for strip in _strips(labels.shape[0]):
        codes[strip] = table[_positions(labels[strip], names) + 1]
    return codes


def coded(segments: Segments, coding: Coding) -> NDArray[np.uint8]:
    """Return the codes of a segmented picture, (H, W).

    The paper numbers its masks as Segment Anything lists them: the surest first.
    """
    if coding == "paint":
        return codes_of_labels(segments.labels)
    surest_first = sorted(segments.regions, key=lambda region: -region.score)
    return summed_codes(surest_first, segments.labels.shape, wrap=coding == "paper_sum_wrap")


def _strips(rows: int) -> Iterator[slice]:
    """Yield slices of rows that hold all rows and, for neighbours, the first of the next."""
    for row in range(0, rows, _STRIP):
        yield slice(row, row + _STRIP + 1)


def _names(labels: Labels) -> Positions:
    """Return the labels that occur, rising, without what stands for no segment."""
    found = [np.unique(labels[strip]) for strip in _strips(labels.shape[0])]
    names: Positions = np.unique(np.concatenate(found)).astype(np.int64)
    return names[names > 0]


def _positions(labels: Labels, names: Positions) -> Positions:
    """Return where labels stand among the names; -1 for no segment."""
    positions: Positions = np.where(labels > 0, np.searchsorted(names, labels), -1)
    return positions


def _neighbours(labels: Labels, names: Positions) -> tuple[Positions, Positions]:
    """Return which segments touch which by a side or a corner.

    Returns:
        The neighbours of all segments one after the other, as positions among the names; and where
        those of every segment begin, with the end at last, (segments + 1,).
    """
    found = []
    for strip in _strips(labels.shape[0]):
        here = _positions(labels[strip], names)
        borders = (
            (here[:, :-1], here[:, 1:]),
            (here[:-1], here[1:]),
            (here[:-1, :-1], here[1:, 1:]),
            (here[:-1, 1:], here[1:, :-1]),
        )
        for one, other in borders:
            touch = (one != other) & (one >= 0) & (other >= 0)
            found.append(np.unique(one[touch] * names.size + other[touch]))
    pairs = np.concatenate(found)
    one, other = np.divmod(pairs, names.size)
    pairs = np.unique(np.concatenate((pairs, other * names.size + one)))
    segments, neighbours = np.divmod(pairs, names.size)
    return neighbours, np.searchsorted(segments, np.arange(names.size + 1))


def _coloured(own: Positions, neighbours: Positions, starts: Positions) -> Positions:
    """Return numbers of codes such that neighbours differ, each segment's own where possible.

    Segments with the most neighbours choose first: one with less than 255 always finds a free code
    (Welsh and Powell 1967, https://doi.org/10.1093/comjnl/10.1.85).
    """
    numbers = np.full(own.size, -1, np.int64)
    for segment in np.argsort(-np.diff(starts), kind="stable"):
        around = numbers[neighbours[starts[segment] : starts[segment + 1]]]
        taken = np.bincount(around[around >= 0], minlength=CODES)
        behind = int(np.roll(taken, -own[segment]).argmin())
        numbers[segment] = (own[segment] + behind) % CODES
    return numbers
