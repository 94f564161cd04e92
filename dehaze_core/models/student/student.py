# SPDX-License-Identifier: GPL-3.0-or-later
"""`distilled`: the student of Rich Feature Distillation (Mitheran et al. 2022, arXiv 2207.11250).

An FFA-Net (Qin et al. 2020) made small: 3 x 3 convolutions at full resolution, attention over
channels and pixels, no normalisation. What it adds to the image is all it paints.

Its convolutions reach 42 px. Only the attention over channels knows more, through means over the
whole raster; a raster that does not fit into memory is looked at once, scaled down (`look`), and
every block is painted with the scales found there (`estimate`).

The published code adds what it paints to an image normalised with means and deviations of another
data set, and compares with one that is not. Here the image is only centred, for the first layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.models.config import NetworkConfig
from dehaze_core.models.streaming import (
    FILL,
    TOKEN_PX,
    Footprint,
    OverviewNetwork,
    PaintedImage,
    SceneStatistics,
)
from dehaze_core.models.student.attention import (
    Attention,
    ChannelAttention,
    FrozenAttention,
    LiveAttention,
    PixelAttention,
)

REDUCTION = 8
"""Channels for one of those between the layers of an attention."""

GROUP_REDUCTION = 16
"""The same for the attention over the groups, with the width of one group in view."""


@dataclass(frozen=True, slots=True)
class StudentConfig(NetworkConfig):
    """Shape of a `Student`; the default is the published one.

    Attributes:
        bands: Bands of the image, hazy and clear.
        width: Channels of the features.
        outer: Groups of blocks; the features of all of them are merged.
        inner: Blocks of a group.
    """

    bands: int = 3
    width: int = 16
    outer: int = 3
    inner: int = 6

    @property
    def reach(self) -> int:
        """Pixels around a pixel that can influence it: one for every 3 x 3 convolution."""
        first, last = 1, 2
        return first + self.outer * (2 * self.inner + 1) + last

    @property
    def groups_start(self) -> int:
        """Where the scales of the groups begin in the statistics, behind those of the blocks."""
        return self.outer * self.inner * self.width


class Block(nn.Module):
    """Two convolutions, then attention over channels and over pixels, around a residual.

    Args:
        width: Channels C.
        start: First place of its scales in the statistics.
    """

    def __init__(self, width: int, start: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = _conv(width, width)
        self.channels = ChannelAttention(width, max(width // REDUCTION, 1), start)
        self.pixels = PixelAttention(width, max(width // REDUCTION, 1))

    def forward(self, x: Tensor, attention: Attention) -> Tensor:
        """Map features (N, C, H, W) to features of the same shape."""
        y = self.second(F.relu(self.first(x)) + x)
        y = y * _as_maps(attention.scales(self.channels, (y,)), y)
        return torch.addcmul(x, y, self.pixels(y))


class Group(nn.Module):
    """Blocks and a convolution around a residual.

    Args:
        config: Shape of the network.
        index: Position of the group in it.
    """

    def __init__(self, config: StudentConfig, index: int) -> None:
        super().__init__()
        first = index * config.inner
        self.blocks = nn.ModuleList(
            Block(config.width, (first + i) * config.width) for i in range(config.inner)
        )
        self.last = _conv(config.width, config.width)

    def forward(self, x: Tensor, attention: Attention) -> Tensor:
        """Map features (N, C, H, W) to features of the same shape."""
        y = x
        for block in self.blocks:
            y = block(y, attention)
        added: Tensor = self.last(y)
        return x + added


class Student(OverviewNetwork):
    """The network.

    Args:
        config: Bands, width and depth.
    """

    architecture = "distilled"
    config: StudentConfig
    paints = True
    unit_px = TOKEN_PX
    overview_px = 1024

    def __init__(self, config: StudentConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StudentConfig()
        width, merged = config.width, config.outer * config.width
        self.bands = config.bands
        self.halo_px = -(-config.reach // TOKEN_PX) * TOKEN_PX
        self.footprint = _footprint(config)
        self.pre = _conv(config.bands, width)
        self.groups = nn.ModuleList(Group(config, i) for i in range(config.outer))
        self.merge = ChannelAttention(merged, max(width // GROUP_REDUCTION, 1), config.groups_start)
        self.pixels = PixelAttention(width, max(width // REDUCTION, 1))
        self.post = nn.Sequential(_conv(width, width), _conv(width, config.bands))

    def stages(self) -> list[nn.Module]:
        """Return the groups."""
        return list(self.groups)

    def look(self, rgb: Tensor, valid: Tensor, weight: Tensor) -> SceneStatistics:
        """Return the scales of all channels, (N, V); see `OverviewNetwork.look`.

        V is `outer * inner * width` for the blocks, in the order they are run, and `outer * width`
        for the features of the groups.
        """
        attention = LiveAttention(valid, weight)
        self._merged(self._features(rgb, valid, attention), attention)
        return attention.statistics()

    def estimate(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor, scene: SceneStatistics
    ) -> PaintedImage:
        """Paint a block with the scales from `look`; see `StreamedNetwork.estimate`."""
        return self._painted(rgb, valid, FrozenAttention(scene))

    def forward(
        self, rgb: Tensor, valid: Tensor, weight: Tensor, budget: int | None = None
    ) -> PaintedImage:
        """Paint a raster in memory in one pass, with the scales of its own means.

        Args:
            rgb: (N, B, H, W) float32 display-encoded, [0, 1], `FILL` where there is no data; H and
                W are multiples of 32.
            valid: (N, 1, H, W) float32 mask.
            weight: (N, H/32, W/32) share of real, valid pixels of every token.
            budget: Nothing to this network, which has no keys.

        Returns:
            The image; in training with the features of the groups, (N, width, H, W) each.
        """
        return self._painted(rgb, valid, LiveAttention(valid, weight))

    def first_features(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Return what the first layer makes of pixels, (N, width, H, W)."""
        features: Tensor = self.pre(rgb - FILL)
        return features

    def _painted(self, rgb: Tensor, valid: Tensor, attention: Attention) -> PaintedImage:
        features = self._features(rgb, valid, attention)
        y = self._merged(features, attention)
        kept = tuple(features) if self.training else ()
        features.clear()  # what follows takes memory of its own
        added: Tensor = self.post(y * self.pixels(y))
        return PaintedImage(rgb[:, : self.bands] + added.float(), kept)

    def _features(self, rgb: Tensor, valid: Tensor, attention: Attention) -> list[Tensor]:
        """Return the features of every group, (N, width, H, W) each."""
        x = self.first_features(rgb, valid)
        features = []
        for group in self.groups:
            x = group(x, attention)
            features.append(x)
        return features

    def _merged(self, features: list[Tensor], attention: Attention) -> Tensor:
        """Return the sum of the groups' features, each channel of each with its own scale."""
        scales = attention.scales(self.merge, features).chunk(len(features), dim=1)
        y = features[0] * _as_maps(scales[0], features[0])
        for each, scale in zip(features[1:], scales[1:], strict=True):
            y = torch.addcmul(y, each, _as_maps(scale, each))
        return y


def _conv(width: int, width_out: int) -> nn.Conv2d:
    return nn.Conv2d(width, width_out, 3, padding=1)


def _as_maps(scales: Tensor, features: Tensor) -> Tensor:
    """Return scales (N, C) as (N, C, 1, 1), in the type of the features they are for."""
    return scales[:, :, None, None].to(features.dtype)


def _footprint(config: StudentConfig) -> Footprint:
    """Return the memory of a block at the peak, a convolution in the last group.

    There the features of the groups before it are kept, and the last of them is the residual's; of
    a block there are its input, the input and the output of the convolution; the image is there
    twice. As many again as a block has take PyTorch's convolutions, by what `benchmarks.backends`
    prints.
    """
    features = config.outer - 1 + 3 + 6
    return Footprint(fixed_mib=2, bytes_per_px=4 * (features * config.width + 2 * config.bands))
