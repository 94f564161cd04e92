# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guided network is shown beside the bands: for every pixel the code of its segment.

Codes come from a picture of the scene or from a raster of any resolution. A pixel has the code that
its centre lies on (nearest neighbour): codes are names, and between two names there is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from torch import Tensor

from dehaze_core.grid import Window
from dehaze_core.grid.blocks import mirrored
from dehaze_core.scene import Scene
from dehaze_core.segmentation.coding import CODES, code_of

MOST_READ_PX = 1 << 24
"""Codes read at once, px: those of a block may be many where the mask is finer than the raster."""

_CODES = np.array([code_of(number) for number in range(CODES)], np.uint8)

# A centre this close to a border between codes (in pixels of the mask) is meant to be on it, and
# belongs to what lies right of it or below.
_SNAP = 1e-6

Numbers = NDArray[np.floating]
Positions = NDArray[np.int64]
CodePixels = NDArray[np.uint8]


class Guide(Protocol):
    """The channel that guides a network."""

    def at(self, window: Window, display: Tensor) -> Tensor:
        """Return the guide of a window of the padded, mirrored raster.

        Args:
            window: The window, as `Job.read` takes it.
            display: (B, h, w) float32 its pixels, display-encoded, [0, 1].

        Returns:
            (1, h, w) float32, [0, 1], on the device of the pixels.
        """
        ...

    def overview(self, display: Tensor) -> Tensor:
        """Return the guide of the whole raster scaled down, (1, h, w) as `at`.

        Args:
            display: (B, h, w) float32 the raster scaled down, display-encoded, [0, 1].
        """
        ...


class GrayGuide:
    """The mean of the bands: a guide that knows no segments, to compare with."""

    def at(self, window: Window, display: Tensor) -> Tensor:
        """Return the mean of the pixels; see `Guide.at`."""
        return display.mean(dim=0, keepdim=True)

    def overview(self, display: Tensor) -> Tensor:
        """Return the mean of the pixels; see `Guide.overview`."""
        return display.mean(dim=0, keepdim=True)


class Codes(Protocol):
    """A raster of codes."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def read(self, window: Window) -> CodePixels:
        """Return the codes of a window inside, uint8 (h, w), 0 where there is no segment."""
        ...


@dataclass(frozen=True, slots=True)
class HeldCodes:
    """Codes in memory.

    Attributes:
        values: uint8 (H, W).
    """

    values: CodePixels

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.values.shape
        return height, width

    def read(self, window: Window) -> CodePixels:
        """Return the codes of a window."""
        return self.values[window.slices]


@dataclass(frozen=True, slots=True)
class StoredCodes:
    """Codes of a raster on disk, a window at a time.

    Attributes:
        scene: The raster; integers other than 8 bit unsigned are labels, which share the 255 codes.
    """

    scene: Scene

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.scene.frame.height, self.scene.frame.width

    def read(self, window: Window) -> CodePixels:
        """Return the codes of a window."""
        stored = segments_of(self.scene, window)
        if stored.dtype == np.uint8:
            return stored.astype(np.uint8, copy=False)
        return np.where(stored > 0, _CODES[(stored - 1) % CODES], np.uint8(0))


@dataclass(frozen=True, slots=True)
class MaskGuide:
    """Codes of segments as a guide.

    Attributes:
        codes: The codes.
        height: Rows of the raster that is guided.
        width: Its columns.
        to_codes: From (column, row) of that raster to those of the codes.
    """

    codes: Codes
    height: int
    width: int
    to_codes: Affine

    @classmethod
    def covering(cls, codes: Codes, height: int, width: int) -> MaskGuide:
        """Return a guide whose codes cover exactly the raster of `height` x `width` px."""
        rows, cols = codes.shape
        return cls(codes, height, width, Affine.scale(cols / width, rows / height))

    def at(self, window: Window, display: Tensor) -> Tensor:
        """Return the codes of a window; see `Guide.at`."""
        rows = mirrored(window.row, window.row_stop, self.height) + 0.5
        cols = mirrored(window.col, window.col_stop, self.width) + 0.5
        return self._channel(rows, cols, display)

    def overview(self, display: Tensor) -> Tensor:
        """Return the codes of the raster scaled down; see `Guide.overview`."""
        height, width = display.shape[-2:]
        rows = (np.arange(height) + 0.5) * (self.height / height)
        cols = (np.arange(width) + 0.5) * (self.width / width)
        return self._channel(rows, cols, display)

    def _channel(self, rows: Numbers, cols: Numbers, display: Tensor) -> Tensor:
        codes = np.zeros((len(rows), len(cols)), np.uint8)
        self._fill(codes, rows, cols)
        return torch.from_numpy(codes).to(display.device)[None].float() / 255

    def _fill(self, out: CodePixels, rows: Numbers, cols: Numbers) -> None:
        """Fill `out` (h, w) with the codes at the crossings of rows (h,) and columns (w,), px."""
        a, b, c, d, e, f = self.to_codes[:6]
        height, width = self.codes.shape
        y, x = rows[:, None], cols[None]
        # Without rotation a row of codes stands for a row, a column for a column.
        row = _floor(e * y + f if d == 0.0 else d * x + e * y + f)
        col = _floor(a * x + c if b == 0.0 else a * x + b * y + c)
        in_rows, in_cols = (row >= 0) & (row < height), (col >= 0) & (col < width)
        if not (in_rows.any() and in_cols.any()):
            return
        window = _bounding(row[in_rows], col[in_cols])
        if window.height * window.width > MOST_READ_PX and out.size > 1:
            for part in _halves(out.shape):
                self._fill(out[part], rows[part[0]], cols[part[1]])
            return
        codes = self.codes.read(window)
        row = (row - window.row).clip(0, window.height - 1)
        col = (col - window.col).clip(0, window.width - 1)
        np.copyto(out, codes[row, col], where=in_rows & in_cols)


def segments_of(scene: Scene, window: Window) -> NDArray[np.integer]:
    """Return the codes or labels of a window, 0 where there is no data."""
    pixels, valid = scene.read(window, scene.frame.color_bands)
    stored: NDArray[np.integer] = pixels[0]
    return stored if valid.all() else np.where(valid, stored, stored.dtype.type(0))


def _floor(position: Numbers) -> Positions:
    # Far outside positions may be larger than integers can say.
    whole: Positions = np.floor(position + _SNAP).clip(-1.0, 2.0**53).astype(np.int64)
    return whole


def _bounding(rows: Positions, cols: Positions) -> Window:
    row, col = int(rows.min()), int(cols.min())
    return Window(row, col, int(rows.max()) - row + 1, int(cols.max()) - col + 1)


def _halves(shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the halves of an array (h, w), cut across its longer side."""
    height, width = shape
    if height >= width:
        return np.s_[: height // 2, :], np.s_[height // 2 :, :]
    return np.s_[:, : width // 2], np.s_[:, width // 2 :]
