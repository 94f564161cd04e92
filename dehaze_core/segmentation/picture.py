# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of any shape cut into segments, level by level and tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from dehaze_core.segmentation.coding import painted_labels, painting_order
from dehaze_core.segmentation.merging import Sighting, merged
from dehaze_core.segmentation.regions import Mask, Region
from dehaze_core.segmentation.tiles import Limits, View, plan_levels

if TYPE_CHECKING:
    from dehaze_core.segmentation.segmenter import Segmenter

__all__ = ["Limits", "Segments", "segment_picture"]

Picture = NDArray[np.uint8]

_NEAR = 65
"""Side in px of the square whose mean stands for a pixel without data."""

_STRIP = 64
"""Rows of a shrunk tile that are made at once."""


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of a picture.

    Attributes:
        labels: Which segment a pixel belongs to, 1 to n; 0 where there is none. (H, W).
        regions: Masks in the order they were painted, later ones on top: `regions[i]` has the
            label i + 1. One that others cover wholly has no pixel in `labels`.
        levels: Number of levels of detail that were segmented.
        tiles: Number of tiles the segmenter was called on.
        valid: Number of pixels with data.
        left_out: Number of finer levels that the budget of tiles did not allow.
    """

    labels: NDArray[np.int32]
    regions: tuple[Region, ...]
    levels: int
    tiles: int
    valid: int
    left_out: int = 0

    @property
    def count(self) -> int:
        """Number of segments."""
        return len(self.regions)

    @property
    def coverage(self) -> float:
        """Share of the pixels with data that belong to a segment, 0 to 1."""
        return int(np.count_nonzero(self.labels)) / self.valid if self.valid else 0.0


def segment_picture(
    picture: Picture,
    valid: Mask,
    segmenter: Segmenter,
    limits: Limits,
    advance: Callable[[float], None],
) -> Segments:
    """Return the segments of a picture: coarse levels first, finer ones over them.

    Args:
        picture: Red, green and blue, (H, W, 3).
        valid: Where the picture has data, (H, W). Other pixels never get a label.
        segmenter: Finds the segments of one tile.
        limits: How many tiles there may be.
        advance: Told how much is done after every tile, 0 to 1.
    """
    levels = plan_levels(valid, segmenter.side, limits)
    sightings: list[Sighting] = []
    done = 0
    for level in levels.chosen:
        for view in level.views:
            tile = _tile(picture, valid, view)
            for region in segmenter(tile):
                sighting = _sighting(region, view, valid)
                if sighting is not None:
                    sightings.append(sighting)
            done += 1
            advance(done / levels.tiles)
    regions = painting_order(merged(sightings))
    return Segments(
        labels=painted_labels(regions, valid.shape),
        regions=regions,
        levels=len(levels.chosen),
        tiles=done,
        valid=int(np.count_nonzero(valid)),
        left_out=levels.left_out,
    )


def _sighting(region: Region, view: View, valid: Mask) -> Sighting | None:
    """Return a region of a tile as one of the picture; None where nothing of it has data."""
    frame = view.frame
    enlarged = region.enlarged(view.factor, frame.height, frame.width)
    seen = enlarged.moved(frame.row, frame.col).where(valid)
    return None if seen is None else Sighting(seen, (view,))


def _tile(picture: Picture, valid: Mask, view: View) -> Picture:
    """Return what a tile shows, shrunk to its level, without gaps, (h, w, 3)."""
    window = view.frame.slices
    pixels, weights = _shrunk(picture[window], valid[window], view.factor)
    gaps = weights == 0
    if not gaps.any():
        return np.ascontiguousarray(pixels)
    known = (~gaps)[..., None].astype(np.float32)
    share = uniform_filter(known, (_NEAR, _NEAR, 1), mode="constant")
    near = uniform_filter(pixels * known, (_NEAR, _NEAR, 1), mode="constant")
    everywhere = pixels[~gaps].mean(axis=0, dtype=np.float64)
    found = share > 0.5 / _NEAR**2
    fill = np.where(found, near / np.where(found, share, 1.0), everywhere)
    return np.where(gaps[..., None], fill.round().astype(np.uint8), pixels)


def _shrunk(picture: Picture, valid: Mask, factor: int) -> tuple[Picture, NDArray[np.uint32]]:
    """Return means over squares of pixels with data, and how many these are.

    Args:
        picture: Pixels, (H, W, 3).
        valid: Where they have data, (H, W).
        factor: Side of the squares; those at the lower and right edge may be cut.

    Returns:
        Means, (h, w, 3), 0 where a square has no data; number of pixels with data, (h, w).
    """
    if factor == 1:
        return picture, valid.astype(np.uint32)
    rows = -(-valid.shape[0] // factor)
    cols = -(-valid.shape[1] // factor)
    means = np.empty((rows, cols, picture.shape[2]), np.uint8)
    counts = np.empty((rows, cols), np.uint32)
    for row in range(0, rows, _STRIP):
        strip = slice(row * factor, (row + _STRIP) * factor)
        known = valid[strip]
        count = _sums(known, factor)
        sums = _sums(picture[strip] * known[..., None], factor)
        divisor = np.maximum(count, 1)[..., None]
        means[row : row + _STRIP] = (sums + divisor // 2) // divisor
        counts[row : row + _STRIP] = count
    return means, counts


def _sums(pixels: NDArray[np.uint8] | Mask, factor: int) -> NDArray[np.uint32]:
    """Return sums over squares of an array (H, W, ...)."""
    height, width = pixels.shape[:2]
    rows, cols = np.arange(0, height, factor), np.arange(0, width, factor)
    lines = np.add.reduceat(pixels, rows, axis=0, dtype=np.uint32)
    sums: NDArray[np.uint32] = np.add.reduceat(lines, cols, axis=1, dtype=np.uint32)
    return sums
