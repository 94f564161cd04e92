# SPDX-License-Identifier: GPL-3.0-or-later
"""`guided-unet`: a U-Net (Ronneberger et al. 2015, arXiv 1505.04597) of ten million parameters.

The smallest of the networks that "Let Segment Anything Help Image Dehaze" (Jin et al. 2023, arXiv
2306.15870) guides by masks. It has no normalisation, and cells of its levels never overlap, so that
a block with its halo is painted like the same pixels of the whole raster. What it adds to the bands
is all it paints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dehaze_core.models.config import NetworkConfig
from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.sam_guided.gate import centred
from dehaze_core.models.streaming import (
    TOKEN_PX,
    Footprint,
    OverviewNetwork,
    PaintedImage,
    SceneStatistics,
)

LEAK = 0.2
"""Slope of the rectifiers below zero."""

CONVOLUTIONS = 2
"""3 x 3 convolutions of a level, on the way down and on the way up."""


@dataclass(frozen=True, slots=True)
class UNetConfig(NetworkConfig):
    """Shape of a `UNet`.

    Attributes:
        widths: Channels at 1, 1/2, 1/4, 1/8 and 1/16 of the resolution.
    """

    widths: tuple[int, int, int, int, int] = (32, 64, 128, 256, 512)

    @property
    def reach(self) -> int:
        """Pixels around a block of whole cells of the deepest level that can influence it."""
        reach, deepest = 1, len(self.widths) - 1  # the last layer
        for level in range(deepest + 1):
            cell = 1 << level
            reach = -(-reach // cell) * cell + CONVOLUTIONS * cell
        # On the way down it stays a whole number of cells.
        return reach + CONVOLUTIONS * ((1 << deepest) - 1)


class UNet(OverviewNetwork):
    """The network. All it knows of a pixel lies within its halo, so it needs no overview.

    Args:
        config: Widths of its levels.
    """

    architecture = "guided-unet"
    config: UNetConfig
    guides = 1
    paints = True
    unit_px = TOKEN_PX
    overview_px = 1024  # looked at for whether there is data at all

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        w = config.widths
        steps = range(len(w) - 1)
        self.halo_px = -(-config.reach // TOKEN_PX) * TOKEN_PX
        self.encoder = nn.ModuleList(
            _level(w[i] if i else self.bands + self.guides, w[i]) for i in range(len(w))
        )
        self.down = nn.ModuleList(nn.Conv2d(w[i], w[i + 1], 2, stride=2) for i in steps)
        self.up = nn.ModuleList(nn.ConvTranspose2d(w[i + 1], w[i], 2, stride=2) for i in steps)
        self.decoder = nn.ModuleList(_level(2 * w[i], w[i]) for i in steps)
        self.last = nn.Conv2d(w[0], self.bands, 3, padding=1)
        self._initialise()
        self.footprint = _footprint(config, parameter_count(self))

    def _initialise(self) -> None:
        """Keep the size of features from layer to layer, which no normalisation does here."""
        for stage in self.stages():
            for layer in stage.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, LEAK, nonlinearity="leaky_relu")
                    nn.init.zeros_(layer.get_parameter("bias"))
        # Start by painting nearly what is seen.
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(self.last.get_parameter("bias"))

    def stages(self) -> list[nn.Module]:
        """Return the levels of encoder and decoder."""
        return [*self.encoder, *self.decoder]

    def look(self, rgb: Tensor, valid: Tensor, weight: Tensor) -> SceneStatistics:
        """Return no statistics, (N, 0)."""
        return SceneStatistics(rgb.new_zeros(len(rgb), 0))

    def estimate(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor, scene: SceneStatistics
    ) -> PaintedImage:
        """Paint a block; see `StreamedNetwork.estimate`."""
        skips: list[Tensor] = []
        x = self.encoder[0](centred(rgb, valid, self.bands))
        for down, level in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(x)
            x = level(down(x))
        for up, level in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = level(torch.cat((up(x), skips.pop()), dim=1))
        added: Tensor = self.last(x)
        return PaintedImage(rgb[:, : self.bands] + added.float())

    def forward(
        self, rgb: Tensor, valid: Tensor, weight: Tensor, budget: int | None = None
    ) -> PaintedImage:
        """Paint a raster in memory in one pass.

        Args:
            rgb: (N, 4, H, W) float32: bands, display-encoded, [0, 1], `FILL` where there is no
                data, and the guide; H and W are multiples of 32.
            valid: (N, 1, H, W) float32 mask.
            weight: (N, H/32, W/32) nothing to this network, which takes no means.
            budget: Nothing to this network, which has no keys.
        """
        nothing = rgb.new_zeros(len(rgb), rgb.shape[2] // TOKEN_PX, rgb.shape[3] // TOKEN_PX, 0)
        return self.estimate(rgb, valid, nothing, self.look(rgb, valid, weight))


def _level(width: int, width_out: int) -> nn.Sequential:
    """Return the convolutions of a level, each with a rectifier."""
    layers: list[nn.Module] = []
    for i in range(CONVOLUTIONS):
        layers.append(nn.Conv2d(width_out if i else width, width_out, 3, padding=1))
        layers.append(nn.LeakyReLU(LEAK, inplace=True))
    return nn.Sequential(*layers)


def _footprint(config: UNetConfig, parameters: int) -> Footprint:
    """Return the memory at the peak, the first convolution of the last level.

    There are what was put together, what comes of it, and as much again as PyTorch's convolution
    takes of both; and the image, with the guide weighted and not.
    """
    each = 4 * (6 * config.widths[0] + 24)
    return Footprint(fixed_mib=(4 * parameters >> 20) + 20, bytes_per_px=each)
