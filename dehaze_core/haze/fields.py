# SPDX-License-Identifier: GPL-3.0-or-later
"""The haze of a recipe over the pixels of a raster, any window of it by itself.

Everything is a function of the pixel's place in the world. Windows therefore agree to the last bit
wherever they overlap, and so do rasters of one pixel grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dehaze_core.grid.window import Window
from dehaze_core.haze.noise import white_noise
from dehaze_core.haze.synthesis import HazeRecipe, refine

Image = NDArray[np.float32]

STEP = 4
"""Smooth fields are computed on every fourth pixel of the world and interpolated in between."""

_SAMPLES = 128
_NOISE_SEED = 104_729


@dataclass(frozen=True, slots=True)
class HazeFields:
    """Layers of haze over one raster.

    Attributes:
        recipe: The haze.
        row: Row of the raster's first pixel in the world's grid.
        col: Column of the same.
    """

    recipe: HazeRecipe
    row: int = 0
    col: int = 0

    def thickness(self, window: Window) -> Image:
        """Return the optical thickness at 550 nm in a window of the raster, (h, w)."""
        layers = self._refined(lambda *place: self.recipe.thickness_at(*place)[None], window)
        thickness: Image = layers[0]
        return thickness

    def airlight(self, window: Window) -> Image:
        """Return the airlight of red, green and blue in a window of the raster, (3, h, w)."""
        if self.recipe.airlight_variation == 0.0:
            colour = np.asarray(self.recipe.airlight, np.float32)[:, None, None]
            return np.broadcast_to(colour, (3, window.height, window.width))
        return self._refined(self.recipe.airlight_at, window)

    def sensor_noise(self, window: Window, band: int) -> Image:
        """Return standard normal noise of one band, (h, w), another value for every pixel."""
        rows = np.arange(window.height, dtype=np.int64) + (window.row + self.row)
        cols = np.arange(window.width, dtype=np.int64) + (window.col + self.col)
        grid = np.meshgrid(rows, cols, indexing="ij")
        return white_noise(*grid, self.recipe.seed + _NOISE_SEED * (band + 1)).astype(np.float32)

    def median_thickness(self, height: int, width: int) -> float:
        """Return the median thickness over a raster of `height` x `width` px.

        It is taken over at most 128 x 128 of its pixels, evenly spread.
        """
        rows, row_weight = self._sample(height, self.row)
        cols, col_weight = self._sample(width, self.col)
        nodes = self.recipe.thickness_at(*np.meshgrid(rows, cols, indexing="ij"))
        upper, lower = np.split(nodes, 2, axis=0)
        left, right = np.split(upper + row_weight[:, None] * (lower - upper), 2, axis=1)
        return float(np.median(left + col_weight * (right - left)))

    @staticmethod
    def _sample(size: int, origin: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the nodes before and behind some pixels of a line, and the pixels' way between."""
        pixels = np.linspace(0, size - 1, min(size, _SAMPLES)).round() + origin
        before = np.floor(pixels / STEP) * STEP
        return np.concatenate((before, before + STEP)), (pixels - before) / STEP

    def _refined(
        self,
        field: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
        window: Window,
    ) -> Image:
        """Return a field (B, ...) of world coordinates in a window, (B, h, w)."""
        place = window.shifted(self.row, self.col)
        # The same nodes for every window.
        row, col = place.row // STEP * STEP, place.col // STEP * STEP
        height, width = place.row_stop - row, place.col_stop - col
        rows = row + STEP * np.arange(-1, height // STEP + 2, dtype=np.float64)
        cols = col + STEP * np.arange(-1, width // STEP + 2, dtype=np.float64)
        planes = field(*np.meshgrid(rows, cols, indexing="ij"))
        fine = [refine(plane, STEP, height, width) for plane in planes]
        return np.stack(fine)[:, place.row - row :, place.col - col :]
