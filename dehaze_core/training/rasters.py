# SPDX-License-Identifier: GPL-3.0-or-later
"""Large clear rasters, of which training reads only the windows it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dehaze_core.grid import Window
from dehaze_core.scene import Radiometry, open_scene

TRIES = 30
"""Windows looked at for one without nodata."""


class ClearRaster:
    """A georeferenced raster seen as a display-encoded picture.

    16-bit and float rasters are brought to [0, 255] by one scale for the whole raster. The file is
    open only while a window is drawn: there may be more rasters than a process may open files.

    Attributes:
        path: The file.
        shape: (H, W, 3).

    Raises:
        InputError: The raster cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_scene(str(path)) as scene:
            self._bands = scene.frame.rgb_bands
            self._radiometry = Radiometry.for_scene(scene, self._bands)
            self.shape = (scene.frame.height, scene.frame.width, 3)

    def window(
        self, rng: np.random.Generator, side: int
    ) -> tuple[NDArray[np.uint8], Window] | None:
        """Draw a square window (side, side, 3) without nodata, and tell where it lies.

        Args:
            rng: Source of randomness.
            side: Side in px, at most the shorter side of the raster.

        Returns:
            Pixels and window; None if none was found.
        """
        height, width, _ = self.shape
        with open_scene(str(self.path)) as scene:
            for _ in range(TRIES):
                row, col = rng.integers(height - side + 1), rng.integers(width - side + 1)
                window = Window(int(row), int(col), side, side)
                pixels, valid = scene.read(window, self._bands)
                if valid.all():
                    return self._encoded(pixels), window
        return None

    def _encoded(self, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
        display = self._radiometry.display(torch.from_numpy(pixels)).expand(3, -1, -1)
        encoded = (display * 255).round().to(torch.uint8)
        return np.ascontiguousarray(encoded.permute(1, 2, 0).numpy())
