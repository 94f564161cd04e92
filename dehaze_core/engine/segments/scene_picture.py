# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene of any size as a small 8-bit picture, read in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dehaze_core.grid.window import Window
from dehaze_core.scene import Radiometry, Scene
from dehaze_core.scene.lazy import chunk_shape

Dehazed = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]]
"""From a picture (h, w, 3) and which of its pixels are valid (h, w) to the picture without haze."""

_DARK, _BRIGHT = 2.0, 98.0


@dataclass(frozen=True, slots=True, eq=False)
class ScenePicture:
    """A scene as people and segmenters look at it.

    Attributes:
        pixels: Red, green and blue, display-encoded, uint8 (h, w, 3); anything where not valid.
        valid: Which pixels hold data, bool (h, w).
    """

    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_]


def scene_picture(
    scene: Scene,
    bands: Sequence[int],
    radiometry: Radiometry,
    side: int,
    advance: Callable[[float], None],
) -> ScenePicture:
    """Return a scene as a picture with no side longer than `side` px.

    Pixels are means over the valid ones of the scene, or come from the file's overviews. 8-bit
    scenes keep their values. Others are display-encoded, and every band is stretched such that 2 %
    of the valid pixels are black and 2 % white.

    Args:
        scene: The scene.
        bands: 0-based bands for red, green and blue, or one for a gray picture.
        radiometry: Of the whole raster.
        side: Longest side, px.
        advance: Told the share done, 0 to 1; what it raises ends the work.

    Raises:
        InputError: The scene cannot be read.
    """
    pixels, valid = _shrunk(scene, bands, side, advance)
    if radiometry.encoding != "srgb":
        display = radiometry.display(torch.from_numpy(pixels.astype(np.float32))).numpy()
        pixels = np.stack([_stretched(band, valid) for band in display])
    picture = np.broadcast_to(pixels, (3, *valid.shape)).transpose(1, 2, 0)
    return ScenePicture(np.ascontiguousarray(picture, dtype=np.uint8), valid)


def shrunk_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """Return rows and columns of a raster shrunk until no side is longer than `side` px."""
    shrink = max(height, width) / side
    if shrink <= 1:
        return height, width
    return max(round(height / shrink), 1), max(round(width / shrink), 1)


def _shrunk(
    scene: Scene, bands: Sequence[int], side: int, advance: Callable[[float], None]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Return values (B, h, w) and validity (h, w); values are 0 where averaging found no data."""
    frame = scene.frame
    if scene.has_overviews or max(frame.height, frame.width) <= side:
        found = scene.overview(side, bands)
        advance(1.0)
        return found
    height, width = shrunk_shape(frame.height, frame.width, side)
    kind = np.uint8 if frame.dtype == "uint8" else np.float32
    pixels: NDArray[np.generic] = np.empty((len(bands), height, width), kind)
    valid = np.empty((height, width), np.bool_)
    cells = list(_cells(scene, height, width))
    for number, (rows, cols) in enumerate(cells):
        place = np.s_[rows.start : rows.stop, cols.start : cols.stop]
        pixels[(slice(None), *place)], valid[place] = _means(
            scene, bands, _edges(rows, height, frame.height), _edges(cols, width, frame.width)
        )
        advance((number + 1) / len(cells))
    return pixels, valid


def _cells(scene: Scene, height: int, width: int) -> Iterator[tuple[range, range]]:
    """Yield rows and columns of the small picture whose pixels are read at once.

    About as much as the file stores together, so that little is decoded twice.
    """
    frame = scene.frame
    chunk_height, chunk_width = chunk_shape(frame)
    rows = max(chunk_height * height // frame.height, 1)
    cols = max(chunk_width * width // frame.width, 1)
    for row in range(0, height, rows):
        for col in range(0, width, cols):
            yield range(row, min(row + rows, height)), range(col, min(col + cols, width))


def _edges(cells: range, count: int, size: int) -> NDArray[np.int64]:
    """Return where cells of `size` px cut into `count` begin, and where the last one ends."""
    return np.arange(cells.start, cells.stop + 1, dtype=np.int64) * size // count


def _means(
    scene: Scene, bands: Sequence[int], rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Return means over the valid pixels of cells between edges, and which cells have any."""
    (top, bottom), (left, right) = (rows[[0, -1]].tolist(), cols[[0, -1]].tolist())
    pixels, valid = scene.read(Window(top, left, bottom - top, right - left), bands)
    starts = rows[:-1] - top, cols[:-1] - left
    counts = _sums(valid, *starts)
    known = pixels if valid.all() else np.where(valid, pixels, np.zeros((), pixels.dtype))
    means = _sums(known, *starts) / np.maximum(counts, 1)
    if pixels.dtype == np.uint8:
        return means.round().astype(np.uint8), counts > 0
    return means.astype(np.float32), counts > 0


def _sums(
    values: NDArray[np.generic], rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return sums over cells of an array (..., h, w), given the first row and column of each."""
    heights = np.diff(rows, append=values.shape[-2])
    lines = np.zeros((*values.shape[:-2], len(rows), values.shape[-1]), np.float32)
    # The first row of all cells, then the second: thirteen times as fast as NumPy's reduceat, which
    # is good enough for the little that is left for the columns.
    for below in range(int(heights.max())):
        here = heights > below
        lines[..., here, :] += values[..., rows[here] + below, :]
    sums: NDArray[np.float32] = np.add.reduceat(lines, cols, axis=-1)
    return sums


def _stretched(band: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a band as 8-bit numbers that use the whole range."""
    low, high = np.percentile(band[valid], (_DARK, _BRIGHT)) if valid.any() else (0.0, 1.0)
    if high <= low:
        # All pixels alike, or nearly: nothing to be seen either way.
        low, high = 0.0, 1.0
    bright = np.where(valid, (band - low) * (255.0 / (high - low)), 0.0)
    return bright.round().clip(0.0, 255.0).astype(np.uint8)
