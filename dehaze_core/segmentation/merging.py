# SPDX-License-Identifier: GPL-3.0-or-later
"""One set of regions from what overlapping tiles of several levels have found.

An object appears in several tiles: whole in some, cut by the border of others, coarse in one level
and fine in the next. It has to become one region.

1. A region that reaches into the border of its tile is a piece, as in Segment Anything. Pieces of
   neighbouring tiles that agree where both tiles look are put together.
2. Of whole regions of different tiles that are alike, the finest stays, then the surest.
3. A piece goes if a region completes it: is alike as far as the piece's tile shows it; or if the
   neighbouring tiles show it and found it to be of other regions. Other pieces stay; they are
   better than a hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from dehaze_core.grid import Window
from dehaze_core.segmentation.regions import Mask, Region, intersection, united
from dehaze_core.segmentation.tiles import View

SAME = 0.7
"""Intersection over union from which on two regions are one object (Segment Anything's)."""

_ROUGHLY = 0.4
_EXCESS = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A region and where it was seen.

    Attributes:
        region: The region, in px of the picture.
        views: The tiles that show it, all of one level.
    """

    region: Region
    views: tuple[View, ...]

    @property
    def factor(self) -> int:
        """The picture's px for one px of the level it was seen at."""
        return self.views[0].factor

    @property
    def is_cut(self) -> bool:
        """Whether it may go on where its tiles do not look."""
        inside = _within(self.region, [view.trusted for view in self.views])
        return inside is None or inside.area < self.region.area

    def completed_by(self, other: Sighting) -> bool:
        """Return whether another region is alike as far as these tiles show it."""
        common = self.region.overlap(other.region)
        if common < _ROUGHLY * self.region.area:
            return False
        shown = _within(other.region, [view.frame for view in self.views])
        return shown is not None and _alike(self.region, shown, _slack(self, other))

    def seen_otherwise_by(self, others: Iterable[Sighting]) -> bool:
        """Return whether neighbouring tiles show it, and found it to be of other regions.

        Narrow pieces at the border of a tile are rarely alike with anything: they belong to what
        goes on beyond it, be that one region or several.
        """
        box = self.region.box
        found = np.zeros((box.height, box.width), np.bool_)
        for other in others:
            if other.factor != self.factor:
                continue
            for view in set(other.views) - set(self.views):
                shown = intersection(view.trusted, box)
                if shown.height and shown.width:
                    found[shown.within(box).slices] |= other.region.part(shown)
        common = np.count_nonzero(found & self.region.part(box))
        return int(common) >= SAME * self.region.area


def merged(sightings: Sequence[Sighting]) -> list[Region]:
    """Return one region for every object seen.

    Args:
        sightings: What all tiles of all levels have found, each tile's best first.
    """
    cut = [sighting.is_cut for sighting in sightings]
    whole = [sighting for sighting, piece in zip(sightings, cut, strict=True) if not piece]
    joined = _joined([sighting for sighting, piece in zip(sightings, cut, strict=True) if piece])
    cut = [sighting.is_cut for sighting in joined]
    whole += [sighting for sighting, piece in zip(joined, cut, strict=True) if not piece]
    pieces = [sighting for sighting, piece in zip(joined, cut, strict=True) if piece]
    distinct = _distinct(whole)
    kept = distinct + _uncompleted(pieces, distinct, whole)
    return [sighting.region for sighting in kept]


class _Places:
    """Bounding boxes and areas of regions, searched all at once."""

    def __init__(self, sightings: Iterable[Sighting]) -> None:
        regions = [sighting.region for sighting in sightings]
        boxes = [(r.row, r.col, r.box.row_stop, r.box.col_stop) for r in regions]
        self._boxes = np.array(boxes, np.int32).reshape(-1, 4).T
        self.areas = np.array([region.area for region in regions], np.int64)

    def touching(self, box: Window, among: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
        """Return which boxes share a pixel with a window, rising."""
        top, left, bottom, right = self._boxes
        near = (top < box.row_stop) & (bottom > box.row) & (left < box.col_stop)
        near &= right > box.col
        return np.flatnonzero(near if among is None else near & among)

    def of_similar_area(
        self, region: Region, least: float, among: NDArray[np.bool_]
    ) -> NDArray[np.intp]:
        """Return which of those that touch can have an intersection over union of `least`."""
        near = self.touching(region.box, among)
        areas = self.areas[near]
        ratio = np.minimum(areas, region.area) / np.maximum(areas, region.area)
        return near[ratio >= least]


def _joined(pieces: Sequence[Sighting]) -> list[Sighting]:
    """Put pieces of one object together; each tile gives one piece to an object at most."""
    group = list(range(len(pieces)))
    members = {number: [number] for number in group}
    for one, other in _agreeing(pieces):
        first, second = sorted((group[one], group[other]))
        tiles = [pieces[number].views[0] for number in members[first] + members[second]]
        if first == second or len(set(tiles)) < len(tiles):
            continue
        for number in members[second]:
            group[number] = first
        members[first] += members.pop(second)
    return [_together([pieces[number] for number in numbers]) for numbers in members.values()]


def _together(pieces: Sequence[Sighting]) -> Sighting:
    views = tuple(view for piece in pieces for view in piece.views)
    return Sighting(united([piece.region for piece in pieces]), views)


def _agreeing(pieces: Sequence[Sighting]) -> list[tuple[int, int]]:
    """Return pairs of pieces that are the same where the tiles of both look, the best first."""
    places = _Places(pieces)
    found: list[tuple[float, int, int]] = []
    for one, piece in enumerate(pieces):
        for other in places.touching(piece.region.box).tolist():
            if other <= one or pieces[other].factor != piece.factor:
                continue
            agreement = _agreement(piece, pieces[other])
            if agreement >= SAME:
                found.append((-agreement, one, other))
    return [(one, other) for _, one, other in sorted(found)]


def _agreement(one: Sighting, other: Sighting) -> float:
    """Return intersection over union within what two different tiles share."""
    (here,), (there,) = one.views, other.views
    if here == there:
        return 0.0
    shared = intersection(here.frame, there.frame)
    ours, theirs = one.region.clipped(shared), other.region.clipped(shared)
    return 0.0 if ours is None or theirs is None else ours.iou(theirs)


def _distinct(whole: Sequence[Sighting]) -> list[Sighting]:
    """Return the sightings without those that are alike with a finer or a surer one.

    What one tile has told apart stays apart: its segmenter has its own rule for that.
    """
    order = sorted(whole, key=lambda sighting: (sighting.factor, -sighting.region.score))
    places, kept = _Places(order), np.zeros(len(order), np.bool_)
    for number, sighting in enumerate(order):
        rivals = places.of_similar_area(sighting.region, _ROUGHLY, kept)
        kept[number] = not any(
            set(sighting.views).isdisjoint(order[rival].views)
            and _alike(sighting.region, order[rival].region, _slack(sighting, order[rival]))
            for rival in rivals.tolist()
        )
    return [order[number] for number in np.flatnonzero(kept).tolist()]


def _uncompleted(
    pieces: Sequence[Sighting], distinct: Sequence[Sighting], whole: Sequence[Sighting]
) -> list[Sighting]:
    """Return the pieces that no kept region completes.

    Large pieces of coarse levels come first, since they may complete others themselves.

    Args:
        pieces: Sightings that are cut.
        distinct: Whole ones that are kept.
        whole: All whole ones: what neighbouring tiles have found.
    """
    order = sorted(pieces, key=lambda piece: (-piece.factor, -piece.region.area))
    candidates, witnesses = [*order, *distinct], [*order, *whole]
    candidate_places, witness_places = _Places(candidates), _Places(witnesses)
    kept, heard = np.ones(len(candidates), np.bool_), np.ones(len(witnesses), np.bool_)
    kept[: len(order)] = False
    for number, piece in enumerate(order):
        box = piece.region.box
        near = candidate_places.touching(box, kept)
        if any(piece.completed_by(candidates[other]) for other in near.tolist()):
            continue
        heard[number] = False
        near = witness_places.touching(box, heard)
        if piece.seen_otherwise_by(witnesses[other] for other in near.tolist()):
            continue
        kept[number] = heard[number] = True
    return [order[number] for number in np.flatnonzero(kept[: len(order)]).tolist()]


def _within(region: Region, windows: Sequence[Window]) -> Region | None:
    """Return what of a region lies in any of some windows; None if nothing does."""
    if len(windows) == 1:
        return region.clipped(windows[0])
    mask = np.zeros((region.height, region.width), np.bool_)
    for window in windows:
        shared = intersection(region.box, window)
        mask[shared.within(region.box).slices] = region.part(shared)
    if not mask.any():
        return None
    return Region.from_mask(mask, region.score, region.row, region.col)


def _slack(one: Sighting, other: Sighting) -> int:
    """Return by how many px outlines of two levels may differ: a px of the coarser one."""
    return 0 if one.factor == other.factor else max(one.factor, other.factor)


def _alike(one: Region, other: Region, slack: int) -> bool:
    """Return whether two regions are one object.

    Small objects of a coarse level differ from their fine likeness in a rim that is no wider than
    a coarse pixel; what lies within such a rim does not count against them.
    """
    common = one.overlap(other)
    union = one.area + other.area - common
    if common >= SAME * union or not slack or common < _ROUGHLY * union:
        return common >= SAME * union
    row, col = min(one.row, other.row), min(one.col, other.col)
    bottom = max(one.box.row_stop, other.box.row_stop)
    right = max(one.box.col_stop, other.box.col_stop)
    box = Window(row, col, bottom - row, right - col)
    ours, theirs = one.part(box), other.part(box)
    beyond = (ours & ~_widened(theirs, slack)) | (theirs & ~_widened(ours, slack))
    return int(np.count_nonzero(beyond)) <= _EXCESS * union


def _widened(mask: Mask, by: int) -> Mask:
    wide: Mask = maximum_filter(mask.view(np.uint8), 2 * by + 1, mode="constant").astype(np.bool_)
    return wide
