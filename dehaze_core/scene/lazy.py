# SPDX-License-Identifier: GPL-3.0-or-later
"""Dask arrays over a source, in chunks that match how the file stores its pixels."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from dehaze_core.grid.window import Window
from dehaze_core.scene.frame import Frame
from dehaze_core.scene.source import Source

_CHUNK_SIDE = 2048
_CHUNK_BYTES = 32 << 20


def lazy_pixels(source: Source, place: Window, frame: Frame) -> Any:  # noqa: ANN401
    """Return a dask array (band, y, x) of the pixels inside `place`."""
    array = _LazyArray(source, place, (frame.count, place.height, place.width), frame.dtype)
    return _chunked(array, (frame.count, *chunk_shape(frame)))


def lazy_validity(source: Source, place: Window, frame: Frame) -> Any:  # noqa: ANN401
    """Return a dask array (y, x) bool of the validity inside `place`."""
    array = _LazyArray(source, place, (place.height, place.width), "bool")
    return _chunked(array, chunk_shape(frame))


def chunk_shape(frame: Frame) -> tuple[int, int]:
    """Return rows and columns of a chunk: whole blocks, about 2048 px a side, at most 32 MiB.

    Files stored as rows give chunks of whole rows, so that no row is decoded twice.
    """
    rows, cols = frame.block_shape
    per_pixel = frame.count * np.dtype(frame.dtype).itemsize
    width = frame.width if cols >= frame.width else _multiple(cols, _CHUNK_SIDE)
    height = _multiple(rows, min(_CHUNK_SIDE, _CHUNK_BYTES // (per_pixel * width)))
    if height * width * per_pixel > 2 * _CHUNK_BYTES and cols < frame.width:
        width = _multiple(cols, _CHUNK_BYTES // (per_pixel * height))
    return min(height, frame.height), min(width, frame.width)


def _chunked(array: _LazyArray, chunks: tuple[int, ...]) -> Any:  # noqa: ANN401
    from_array: Any = da.from_array  # dask publishes no types
    # No name from the content: that would read all of it.
    return from_array(array, chunks=chunks, name=False, asarray=False)


def _multiple(block: int, wanted: int) -> int:
    return block * max(wanted // block, 1)


class _LazyArray:
    """The little of the array protocol that dask needs to cut chunks out of a source."""

    def __init__(self, source: Source, place: Window, shape: tuple[int, ...], dtype: str) -> None:
        self._source = source
        self._place = place
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.ndim = len(shape)

    def __getitem__(self, key: Any) -> npt.NDArray[np.generic]:  # noqa: ANN401
        """Read what basic indexing by integers and slices selects."""
        keys = key if isinstance(key, tuple) else (key,)
        keys += (slice(None),) * (self.ndim - len(keys))
        spans = [_span(part, size) for part, size in zip(keys, self.shape, strict=True)]
        rest = tuple(_rest(part, size) for part, size in zip(keys, self.shape, strict=True))
        if not all(len(span) for span in spans):
            return np.asarray(np.empty([len(span) for span in spans], self.dtype)[rest])
        (row, height), (col, width) = ((span.start, len(span)) for span in spans[-2:])
        window = Window(row, col, height, width).shifted(self._place.row, self._place.col)
        bands = spans[0] if self.ndim == 3 else range(1)
        pixels, valid = self._source.read(window, bands)
        return np.asarray((pixels if self.ndim == 3 else valid)[rest])


def _span(part: Any, size: int) -> range:  # noqa: ANN401
    """Return the contiguous range of positions that a slice or integer touches."""
    if not isinstance(part, slice):
        position = int(part) % size
        return range(position, position + 1)
    touched = range(size)[part]
    if not len(touched):
        return range(0)
    return range(min(touched[0], touched[-1]), max(touched[0], touched[-1]) + 1)


def _rest(part: Any, size: int) -> slice | int:  # noqa: ANN401
    """Return the index that is left to apply to the positions of `_span`."""
    if not isinstance(part, slice):
        return 0
    step = part.indices(size)[2]
    return slice(None, None, step)
