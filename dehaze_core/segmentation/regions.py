# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of single segments, stored compactly: one bit for every pixel of the bounding box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dehaze_core.grid import Window

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Region:
    """The pixels of one segment in a picture; they need not be connected.

    Attributes:
        box: Bounding box in the picture; every side of it holds a pixel of the region.
        area: Number of pixels.
        score: How sure the segmenter is, 0 to 1.
        packed: The mask within the box, row by row, eight pixels a byte, rows filled with zeros.
    """

    box: Window
    area: int
    score: float
    packed: bytes

    @classmethod
    def from_mask(cls, mask: Mask, score: float = 1.0, row: int = 0, col: int = 0) -> Region:
        """Return the region that a mask describes.

        Args:
            mask: True where the segment is, (H, W); at least one pixel.
            score: How sure the segmenter is, 0 to 1.
            row: Row of the mask's corner in the picture.
            col: Column of the same.

        Raises:
            ValueError: If the mask is empty.
        """
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            raise ValueError("a mask without a pixel is no region")
        inner = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        box = Window(int(rows[0]) + row, int(cols[0]) + col, *inner.shape)
        packed = np.packbits(inner, axis=1).tobytes()
        return cls(box, int(np.count_nonzero(inner)), float(score), packed)

    @property
    def row(self) -> int:
        """First row of the bounding box."""
        return self.box.row

    @property
    def col(self) -> int:
        """First column of the bounding box."""
        return self.box.col

    @property
    def height(self) -> int:
        """Rows of the bounding box."""
        return self.box.height

    @property
    def width(self) -> int:
        """Columns of the bounding box."""
        return self.box.width

    @property
    def mask(self) -> Mask:
        """True where the segment is within the bounding box, (height, width)."""
        return np.unpackbits(self._bytes, axis=1, count=self.width).view(np.bool_)

    @property
    def _bytes(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.packed, np.uint8).reshape(self.height, -1)

    def part(self, window: Window) -> Mask:
        """Return the region in a window of the picture, (h, w), False beyond the bounding box.

        Only the bytes of the window are unpacked.
        """
        mask = np.zeros((window.height, window.width), np.bool_)
        shared = intersection(self.box, window)
        if shared.height and shared.width:
            inner = shared.within(self.box)
            first = inner.col // 8
            part = self._bytes[inner.row : inner.row_stop, first : -(-inner.col_stop // 8)]
            bits = np.unpackbits(part, axis=1).view(np.bool_)
            begin = inner.col - 8 * first
            mask[shared.within(window).slices] = bits[:, begin : begin + inner.width]
        return mask

    def moved(self, rows: int, cols: int) -> Region:
        """Return the region moved by `rows` and `cols` px."""
        return replace(self, box=self.box.shifted(rows, cols))

    def enlarged(self, factor: int, height: int, width: int) -> Region:
        """Return the region in a picture whose pixels are smaller by a whole factor.

        Args:
            factor: Every pixel becomes a square of this side.
            height: Rows of the finer picture, which cuts the last squares.
            width: Columns of the same.
        """
        if factor == 1:
            return self
        box = self.box.scaled(factor).clipped(height, width)
        mask = self.mask.repeat(factor, axis=0)[: box.height]
        mask = mask.repeat(factor, axis=1)[:, : box.width]
        return Region.from_mask(mask, self.score, box.row, box.col)

    def clipped(self, window: Window) -> Region | None:
        """Return what of the region lies in a window of the picture; None if nothing does."""
        shared = intersection(self.box, window)
        if shared == self.box:
            return self
        return _region_or_none(self.part(shared), self.score, shared)

    def where(self, picture: Mask) -> Region | None:
        """Return the pixels of the region where a mask of the picture is True; None without any."""
        allowed = picture[self.box.slices]
        if allowed.all():
            return self
        return _region_or_none(self.mask & allowed, self.score, self.box)

    def overlap(self, other: Region, window: Window | None = None) -> int:
        """Return how many pixels (of a window of the picture) belong to both regions."""
        shared = intersection(self.box, other.box)
        if window is not None:
            shared = intersection(shared, window)
        if not (shared.height and shared.width):
            return 0
        return int(np.count_nonzero(self.part(shared) & other.part(shared)))

    def iou(self, other: Region) -> float:
        """Return intersection over union of two regions, 0 to 1."""
        common = self.overlap(other)
        return common / (self.area + other.area - common)


def united(regions: Sequence[Region]) -> Region:
    """Return one region with the pixels of some, and the best of their scores."""
    if len(regions) == 1:
        return regions[0]
    row, col = min(region.row for region in regions), min(region.col for region in regions)
    height = max(region.box.row_stop for region in regions) - row
    width = max(region.box.col_stop for region in regions) - col
    mask = np.zeros((height, width), np.bool_)
    for region in regions:
        mask[region.box.shifted(-row, -col).slices] |= region.mask
    return Region.from_mask(mask, max(region.score for region in regions), row, col)


def intersection(one: Window, other: Window) -> Window:
    """Return what two windows share; a window without rows or columns if nothing."""
    row, col = max(one.row, other.row), max(one.col, other.col)
    return Window(
        row,
        col,
        max(min(one.row_stop, other.row_stop) - row, 0),
        max(min(one.col_stop, other.col_stop) - col, 0),
    )


def _region_or_none(mask: Mask, score: float, place: Window) -> Region | None:
    return Region.from_mask(mask, score, place.row, place.col) if mask.any() else None
