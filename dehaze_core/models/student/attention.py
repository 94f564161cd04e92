# SPDX-License-Identifier: GPL-3.0-or-later
"""Attention over channels and pixels, as in FFA-Net (Qin et al. 2020, arXiv 1911.07559).

The scales of channels depend on means over the whole raster. `LiveAttention` takes the means of
what it is shown; `FrozenAttention` is given the scales, so that only local operations remain and a
block of a raster comes out like the same pixels of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.models.streaming import TOKEN_PX, SceneStatistics


class ChannelAttention(nn.Module):
    """From the means of channels to the scales they are multiplied with.

    Attributes:
        place: Where the scales are in `SceneStatistics.values`.

    Args:
        width: Channels C.
        reduced: Channels between the two layers.
        start: First place of the scales.
    """

    def __init__(self, width: int, reduced: int, start: int) -> None:
        super().__init__()
        self.place = slice(start, start + width)
        self.squeeze = nn.Linear(width, reduced)
        self.excite = nn.Linear(reduced, width)

    def forward(self, means: Tensor) -> Tensor:
        """Map means (N, C) to scales (N, C) in (0, 1)."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(means))))


class PixelAttention(nn.Module):
    """From the features of a pixel to the scale they are multiplied with.

    Args:
        width: Channels C.
        reduced: Channels between the two layers.
    """

    def __init__(self, width: int, reduced: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, reduced, 1)
        self.excite = nn.Conv2d(reduced, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, C, H, W) to scales (N, 1, H, W) in (0, 1)."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(features))))


class Attention(Protocol):
    """Where the scales of channels come from."""

    def scales(self, layer: ChannelAttention, features: Sequence[Tensor]) -> Tensor:
        """Return the scales of the channels of all features one after another.

        Args:
            layer: The attention that is asked.
            features: (N, C, H, W) each.

        Returns:
            (N, sum of C) float32.
        """


def pixel_shares(valid: Tensor, weight: Tensor) -> Tensor:
    """Return what every pixel counts in a mean over a raster; the sum is 1, or 0 without data.

    Args:
        valid: (N, 1, H, W) float32 mask.
        weight: (N, H/32, W/32) share of real, valid pixels of every token; the valid pixels of a
            token share its weight evenly.

    Returns:
        (N, 1, H, W) float32.
    """
    known = F.avg_pool2d(valid, TOKEN_PX)
    # Of a token with valid pixels at least one pixel in 32 x 32 is.
    each = weight[:, None] / known.clamp_min(TOKEN_PX**-2)
    shares = valid * F.interpolate(each, scale_factor=TOKEN_PX, mode="nearest")
    return shares / shares.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)


class LiveAttention:
    """Scales from means over the valid pixels of the whole raster, which is in memory.

    With valid pixels only, the means are those of plain global average pooling. An image without a
    valid pixel has the mean 0.

    Args:
        valid: As for `pixel_shares`.
        weight: As for `pixel_shares`.
    """

    def __init__(self, valid: Tensor, weight: Tensor) -> None:
        self._shares = pixel_shares(valid, weight).flatten(1)[..., None]
        self._found: dict[int, Tensor] = {}

    def scales(self, layer: ChannelAttention, features: Sequence[Tensor]) -> Tensor:
        """Return scales from the means of features, and remember them by their place."""
        # In float32 also under autocast: the sum over a raster leaves the range of half precision.
        with torch.autocast(self._shares.device.type, enabled=False):
            means = [(each.float().flatten(2) @ self._shares)[..., 0] for each in features]
            scales: Tensor = layer(torch.cat(means, dim=1))
        # Without their history: training may keep this object in the graph it computes again.
        self._found[layer.place.start] = scales.detach()
        return scales

    def statistics(self) -> SceneStatistics:
        """Return all scales found so far, in the order of their places."""
        return SceneStatistics(torch.cat([self._found[at] for at in sorted(self._found)], dim=1))


class FrozenAttention:
    """Scales that were found before, on an overview of the raster.

    Args:
        statistics: What `LiveAttention.statistics` returned.
    """

    def __init__(self, statistics: SceneStatistics) -> None:
        self._values = statistics.values

    def scales(self, layer: ChannelAttention, features: Sequence[Tensor]) -> Tensor:
        """Return the scales that belong to a layer, whatever the features are."""
        return self._values[:, layer.place]
