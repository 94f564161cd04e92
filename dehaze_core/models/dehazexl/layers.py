# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of `dehazexl-lite`: convolutional blocks without any spatial normalisation.

Features are kept channels-last, (N, H, W, C): normalisation and 1x1 convolutions are then plain
matrix products over the last axis, and a block of a raster computed with a halo equals the same
pixels computed at once, because no statistic is ever taken over rows or columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Residual block: depthwise convolution, per-pixel norm, gated pointwise mixing.

    Args:
        width: Number of channels C.
        kernel: Side of the depthwise kernel, odd; the receptive field grows by `kernel // 2` px
            a side.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, H, W, C) to features of the same shape."""
        y = self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        value, gate = self.expand(self.norm(y)).chunk(2, dim=-1)
        return torch.addcmul(x, self.project(value * gate), self.scale)


class Stem(nn.Module):
    """4 x 4 px patches to features, with the darkest and brightest value of each patch beside them.

    A dark pixel is the classical evidence against haze (dark channel prior, He et al. 2009); a
    linear patch embedding averages it away, so the extremes are offered to the network as they are.

    Args:
        width: Number of output channels.
    """

    patch = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(4, width, self.patch, stride=self.patch)
        self.extremes = nn.Linear(6, width, bias=False)

    def forward(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Embed an image.

        Args:
            rgb: (N, 3, H, W) float32, display-encoded, [0, 1]; H and W multiples of 4.
            valid: (N, 1, H, W) float32, 1 where the pixel holds data, else 0.

        Returns:
            (N, H/4, W/4, width) features.
        """
        embedded: Tensor = self.embed(torch.cat((rgb * 2 - 1, valid), dim=1))
        return self.with_extremes(embedded, rgb)

    def with_extremes(self, embedded: Tensor, rgb: Tensor) -> Tensor:
        """Return embedded patches (N, width, H/4, W/4) with their extremes, channels last."""
        extremes = torch.cat((_reduce4(rgb, torch.minimum), _reduce4(rgb, torch.maximum)), dim=1)
        # Channels last from here on: the whole encoder takes its memory layout from this tensor.
        features: Tensor = self.extremes(extremes.permute(0, 2, 3, 1).contiguous())
        return features + embedded.permute(0, 2, 3, 1)


class CellExtremes(nn.Module):
    """The darkest and brightest value of every band in a token, as an addition to its features.

    One dark object anywhere in a token bounds the veil over all of it (dark-object subtraction,
    Chavez 1988), and the context can look for it over the whole raster.

    Args:
        width: Number of output channels.
        cell: Side of a token in units of 4 px.
    """

    def __init__(self, width: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.project = nn.Linear(6, width, bias=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """Map an image (N, 3, H, W) to (N, H/side, W/side, width)."""
        lowest = self._cells(_reduce4(rgb, torch.minimum)).amin(dim=(3, 5))
        highest = self._cells(_reduce4(rgb, torch.maximum)).amax(dim=(3, 5))
        features: Tensor = self.project(torch.cat((lowest, highest), dim=1).permute(0, 2, 3, 1))
        return features

    def _cells(self, x: Tensor) -> Tensor:
        cells: Tensor = x.unflatten(3, (-1, self.cell)).unflatten(2, (-1, self.cell))
        return cells


def _reduce4(x: Tensor, op: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Reduce 4 x 4 cells with a binary operator: on a CPU ten times faster than max_pool2d."""
    rows = x.unflatten(2, (-1, 4))
    x = op(op(rows[:, :, :, 0], rows[:, :, :, 1]), op(rows[:, :, :, 2], rows[:, :, :, 3]))
    return op(op(x[..., 0::4], x[..., 1::4]), op(x[..., 2::4], x[..., 3::4]))


class Downsample(nn.Module):
    """Merge 2 x 2 features into one with more channels; cells do not overlap, so no halo."""

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(width, width_out, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H/2, W/2, C_out)."""
        merged: Tensor = self.merge(x.permute(0, 3, 1, 2))
        return merged.permute(0, 2, 3, 1)


class Upsample(nn.Module):
    """Spread one feature over 2 x 2 cells (pixel shuffle); no halo."""

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.spread = nn.Linear(width, 4 * width_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, 2H, 2W, C_out)."""
        n, h, w, _ = x.shape
        y: Tensor = self.spread(x).view(n, h, w, 2, 2, -1)
        return y.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, -1)
