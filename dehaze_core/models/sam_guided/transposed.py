# SPDX-License-Identifier: GPL-3.0-or-later
"""Attention over channels, as in Restormer (Zamir et al. 2022, arXiv 2111.09881).

Channels look at channels (equation 1): how alike they are is a sum over all pixels of the raster,
and what follows from it a small matrix, the same for every pixel. `LiveMatrices` computes the
matrices of what it is shown; `FrozenMatrices` is given them, so that only local operations remain
and a block of a raster comes out like the same pixels of the whole.

Features are kept channels-last, (N, H, W, C), see `dehaze_core.models.dehazexl.layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.models.streaming import SceneStatistics
from dehaze_core.models.student.attention import pixel_shares

STRIP_ROWS = 64
"""Rows computed at a time where nothing is learned: wide hidden features are never kept whole."""

_SMALLEST = 1e-20
"""Smallest square of a channel's length, so that a channel of zeros can be divided by its own."""


class PointAndDepth(nn.Module):
    """A 1 x 1 convolution and a depthwise 3 x 3 convolution.

    Args:
        width: Channels C.
        width_out: Channels of the result.
    """

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.point = nn.Linear(width, width_out, bias=False)
        self.depth = nn.Conv2d(width_out, width_out, 3, padding=1, groups=width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, H, W, C) to (N, H, W, C_out)."""
        y: Tensor = self.depth(self.point(x).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1)


class TransposedAttention(nn.Module):
    """Multi-head attention of channels to channels.

    Attributes:
        place: Where its matrices are in `SceneStatistics.values`.

    Args:
        width: Channels C.
        heads: Heads, each of which sees C / heads channels.
        start: First place of its matrices.
    """

    def __init__(self, width: int, heads: int, start: int) -> None:
        super().__init__()
        self.shape = (heads, width // heads, width // heads)
        self.place = slice(start, start + width * (width // heads))
        self.norm = nn.LayerNorm(width)
        self.queries_keys = PointAndDepth(width, 2 * width)
        self.values = PointAndDepth(width, width)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = nn.Linear(width, width, bias=False)

    def matrices(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return how much every channel takes of every other one.

        Args:
            x: (N, H, W, C) features of the whole raster.
            shares: (N, H, W) float32, what each counts.

        Returns:
            (N, heads, C/heads, C/heads) float32, rows add up to 1.
        """
        heads, width, _ = self.shape
        products = x.new_zeros(len(x), heads, width, width, dtype=torch.float32)
        squares = x.new_zeros(len(x), 2, heads, width, dtype=torch.float32)
        for outer, inset, core in strips(x.shape[1], self.training):
            both = self.queries_keys(self.norm(x[:, outer]))[:, inset].flatten(1, 2)
            # In float32 also under autocast: the sum over a raster leaves the range of half.
            with torch.autocast(x.device.type, enabled=False):
                both = both.float().unflatten(-1, (2, heads, width))
                counted = both * shares[:, core].flatten(1)[..., None, None, None]
                query, key = counted[:, :, 0].transpose(1, 2), both[:, :, 1].transpose(1, 2)
                products = products + query.mT @ key
                squares = squares + (counted * both).sum(dim=1)
        lengths = squares.clamp_min(_SMALLEST).sqrt()
        alike = products / (lengths[:, 0, :, :, None] * lengths[:, 1, :, None, :])
        return torch.softmax(alike * self.temperature, dim=-1)

    def forward(self, x: Tensor, matrices: Tensor) -> Tensor:
        """Map features (N, H, W, C) to what is added to them, given the matrices."""
        heads, width, _ = self.shape
        out = self.project.weight.unflatten(1, (heads, width))
        # What follows the mixing is linear as well, so that both are one product.
        mixing = torch.einsum("ohi,nhij->nohj", out, matrices.to(out.dtype)).flatten(2)
        values: Tensor = self.values(self.norm(x))
        return (values.flatten(1, 2) @ mixing.to(values.dtype).mT).view_as(x)


class Matrices(Protocol):
    """Where the matrices of attention over channels come from."""

    def of(self, layer: TransposedAttention, features: Tensor) -> Tensor:
        """Return the matrices of a layer.

        Args:
            layer: The attention that is asked.
            features: (N, H, W, C).

        Returns:
            (N, heads, C/heads, C/heads) float32.
        """


class LiveMatrices:
    """Matrices from the valid pixels of the whole raster, which is in memory.

    With valid pixels only, they are those of plain attention over channels. A cell of a deeper
    level counts as much as its pixels together.

    Args:
        valid: (N, 1, H, W) float32 mask.
        weight: (N, H/32, W/32) share of real, valid pixels of every token.
    """

    def __init__(self, valid: Tensor, weight: Tensor) -> None:
        self._shares = pixel_shares(valid, weight)
        self._found: dict[int, Tensor] = {}

    def of(self, layer: TransposedAttention, features: Tensor) -> Tensor:
        """Return the matrices of features, and remember them by their place."""
        side = self._shares.shape[-1] // features.shape[2]
        shares = F.avg_pool2d(self._shares, side)[:, 0] * side**2
        matrices = layer.matrices(features, shares)
        # Without their history: training may keep this object in the graph it computes again.
        self._found[layer.place.start] = matrices.detach().flatten(1)
        return matrices

    def statistics(self) -> SceneStatistics:
        """Return all matrices found so far, in the order of their places."""
        return SceneStatistics(torch.cat([self._found[at] for at in sorted(self._found)], dim=1))


class FrozenMatrices:
    """Matrices that were found before, on an overview of the raster.

    Args:
        statistics: What `LiveMatrices.statistics` returned.
    """

    def __init__(self, statistics: SceneStatistics) -> None:
        self._values = statistics.values

    def of(self, layer: TransposedAttention, features: Tensor) -> Tensor:
        """Return the matrices that belong to a layer, whatever the features are."""
        matrices: Tensor = self._values[:, layer.place].unflatten(1, layer.shape)
        return matrices


def strips(height: int, whole: bool) -> Iterator[tuple[slice, slice, slice]]:
    """Yield strips of rows that 3 x 3 convolutions can be computed on.

    Args:
        height: Rows there are.
        whole: Take all at once.

    Yields:
        Rows of a strip with a row around it, its own rows in these, and its own rows.
    """
    step = height if whole else STRIP_ROWS
    for start in range(0, height, step):
        stop, top = min(start + step, height), max(start - 1, 0)
        yield slice(top, min(stop + 1, height)), slice(start - top, stop - top), slice(start, stop)


def add_in_strips(x: Tensor, branch: Callable[[Tensor], Tensor], whole: bool) -> Tensor:
    """Return x (N, H, W, C) plus what a branch that reaches one row far makes of it."""
    if whole:
        return x + branch(x)
    out = torch.empty_like(x)
    for outer, inset, core in strips(x.shape[1], whole):
        out[:, core] = x[:, core] + branch(x[:, outer])[:, inset]
    return out
