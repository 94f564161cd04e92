# SPDX-License-Identifier: GPL-3.0-or-later
"""A run with everything it needs opened and decided, and how it sees a block of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dehaze_core.engine.compute import Compute
from dehaze_core.engine.segments.guide import Guide
from dehaze_core.grid import Block, BlockGrid, Window
from dehaze_core.grid.blocks import mirrored
from dehaze_core.models.streaming import FILL
from dehaze_core.scene import Radiometry, Scene

Pixels = NDArray[np.generic]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Job:
    """What the passes work with.

    Attributes:
        scene: The source, already cropped to the extent.
        model_bands: 0-based bands that stand for red, green and blue, or one band for all three.
        radiometry: Stored values to linear light and back.
        compute: The model and where it runs.
        grid: Blocks and halos.
        strength: Share of the haze to remove.
        guide: What the network is shown beside the bands, if it has guides.
    """

    scene: Scene
    model_bands: tuple[int, ...]
    radiometry: Radiometry
    compute: Compute
    grid: BlockGrid
    strength: float
    guide: Guide | None = None

    def read(self, window: Window, bands: tuple[int, ...]) -> tuple[Pixels, Mask]:
        """Read a window of the padded raster; pixels beyond the edge are mirrored.

        Returns:
            (B, h, w) stored values and (h, w) validity of the mirrored pixels.
        """
        rows = mirrored(window.row, window.row_stop, self.grid.height)
        cols = mirrored(window.col, window.col_stop, self.grid.width)
        inside = Window(
            int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1
        )
        pixels, valid = self.scene.read(inside, bands)
        if (inside.row, inside.col, inside.height, inside.width) != (
            window.row,
            window.col,
            window.height,
            window.width,
        ):
            rows, cols = rows - inside.row, cols - inside.col
            pixels, valid = pixels[:, rows][:, :, cols], valid[rows][:, cols]
        return pixels, valid

    def network_input(self, pixels: Pixels, valid: Mask, window: Window) -> tuple[Tensor, Tensor]:
        """Return display-encoded RGB (1, 3, H, W) and mask (1, 1, H, W) for the network.

        The guide of a network that has one follows as a fourth channel.

        Args:
            pixels: (3, H, W) or (1, H, W) stored values of the model bands.
            valid: (H, W).
            window: Where they lie in the padded raster.
        """
        device = self.compute.device.torch
        mask = torch.from_numpy(valid).to(device)
        stored = torch.from_numpy(pixels).to(device)
        display = self.radiometry.display(stored)
        display = torch.where(mask, display, FILL).clamp_(0.0, 1.0)
        rgb = display.expand(3, -1, -1)[None]
        if self.guide is not None:
            guide = torch.where(mask, self.guide.at(window, display), 0.0)
            rgb = torch.cat((rgb, guide[None]), dim=1)
        return rgb, mask.float()[None, None]

    def token_weight(self, block: Block, valid: Mask) -> NDArray[np.float32]:
        """Return the share of real, valid pixels of each token of a block's core.

        Args:
            block: The block.
            valid: (H, W) validity of its outer window.
        """
        inset = block.inset
        real = valid[inset.slices].copy()
        real[self.grid.height - block.core.row :] = False
        real[:, self.grid.width - block.core.col :] = False
        cell = self.grid.cell
        cells = real.reshape(inset.height // cell, cell, inset.width // cell, cell)
        weight: NDArray[np.float32] = cells.mean(axis=(1, 3), dtype=np.float32)
        return weight
