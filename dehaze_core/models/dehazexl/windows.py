# SPDX-License-Identifier: GPL-3.0-or-later
"""Attention within the windows of a square feature map, common to Swin versions 1 and 2.

Maps are kept channels-last, (N, S, S, C). A map is cut into windows of `side` x `side` features,
every other block after moving it by half a window (Liu et al. 2021, arXiv 2103.14030), so that
neighbouring windows exchange what they know. Windows and moves end at the border of the map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional as F

APART = -100.0
"""Added to the logits of features that a move has brought together from opposite borders."""


def cut_windows(x: Tensor, side: int) -> Tensor:
    """Cut maps (N, S, S, C) into windows (N * windows, side * side, C), row by row."""
    n, s, _, c = x.shape
    cells = x.view(n, s // side, side, s // side, side, c).transpose(2, 3)
    return cells.reshape(-1, side * side, c)


def join_windows(windows: Tensor, size: int) -> Tensor:
    """Undo `cut_windows` for maps of `size` x `size` features."""
    _, count, c = windows.shape
    side = int(count**0.5)
    cells = windows.view(-1, size // side, size // side, side, side, c).transpose(2, 3)
    return cells.reshape(-1, size, size, c)


def relative_position_index(side: int) -> Tensor:
    """Return which of the (2 side - 1)^2 relative positions each pair of features has.

    Returns:
        (side^2, side^2) int64; rows are queries, columns keys.
    """
    row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    row, col = row.flatten(), col.flatten()
    apart_rows = row[:, None] - row + side - 1
    apart_cols = col[:, None] - col + side - 1
    return apart_rows * (2 * side - 1) + apart_cols


def move_mask(size: int, side: int, move: int) -> Tensor:
    """Return what keeps features apart that are neighbours only because a map was moved.

    Returns:
        (windows, side^2, side^2) float32, `APART` or 0.
    """
    position = torch.arange(size)
    zone = (position >= size - side).long() + (position >= size - move).long()
    zones = cut_windows((3 * zone[:, None] + zone)[None, ..., None], side)[..., 0]
    return torch.where(zones[:, :, None] == zones[:, None, :], 0.0, APART)


class WindowAttention(nn.Module, ABC):
    """Multi-head attention of each window to itself, with a bias for relative positions.

    Args:
        width: Channels C.
        heads: Attention heads.
        size: Side S of the map.
        side: Side of a window, cut down to that of the map.
        moved: Whether the map is moved by half a window; a map of one window never is.

    Attributes:
        scale: Factor of the products of queries and keys.
    """

    relative_position_index: Tensor
    mask: Tensor | None
    scale = 1.0

    def __init__(self, width: int, heads: int, size: int, side: int, moved: bool) -> None:
        super().__init__()
        self.heads = heads
        self.size = size
        self.side = side = min(side, size)
        self.move = side // 2 if moved and side < size else 0
        index = relative_position_index(side)
        mask = move_mask(size, side, self.move) if self.move else None
        self.register_buffer("relative_position_index", index, persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.proj = nn.Linear(width, width)
        self._bias: tuple[list[tuple[int, int]], Tensor] | None = None

    @abstractmethod
    def queries_keys_values(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map windows (W, n, C) to queries, keys and values, each (W, heads, n, C / heads)."""

    @abstractmethod
    def position_parameters(self) -> Iterable[Tensor]:
        """Return the parameters that `position_bias` depends on."""

    @abstractmethod
    def position_bias(self) -> Tensor:
        """Return what each of the (2 side - 1)^2 relative positions adds, (positions, heads)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, S, S, C) to features of the same shape."""
        if self.move:
            x = x.roll((-self.move, -self.move), dims=(1, 2))
        windows = cut_windows(x, self.side)
        query, key, value = self.queries_keys_values(windows)
        bias = self._whole_bias().to(value.dtype)
        if self.mask is not None:
            bias = bias.repeat(len(x), 1, 1, 1)
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=self.scale
        )
        x = join_windows(self.proj(attended.transpose(1, 2).flatten(2)), self.size)
        return x.roll((self.move, self.move), dims=(1, 2)) if self.move else x

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three parts of (W, n, 3C) by heads, each (W, heads, n, C / heads)."""
        parts = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]

    def _whole_bias(self) -> Tensor:
        """Return bias and mask, (1 or windows, heads, n, n) float32.

        Without gradients it is kept until its parameters change: it costs more than the attention.
        """
        if torch.is_grad_enabled():
            return self._made_bias()
        # Weights that were loaded in inference mode have no version; nobody trains them.
        state = [
            (p.data_ptr(), 0 if p.is_inference() else p._version)
            for p in self.position_parameters()
        ]
        if self._bias is None or self._bias[0] != state:
            self._bias = state, self._made_bias()
        return self._bias[1]

    def _made_bias(self) -> Tensor:
        with torch.autocast(self.relative_position_index.device.type, enabled=False):
            bias = self.position_bias()[self.relative_position_index].permute(2, 0, 1)[None]
        return bias if self.mask is None else bias + self.mask[:, None]


class Mlp(nn.Module):
    """Two linear layers, four times as wide between them, with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (..., C) to features of the same shape."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class StochasticDepth(nn.Module):
    """Leaves a residual out for some patches of a training batch (Huang et al. 2016).

    Args:
        rate: Probability of leaving it out, [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, residual: Tensor) -> Tensor:
        """Return the residual (N, S, S, C), in training dropped or scaled up to make up for it."""
        if not self.training or not self.rate:
            return residual
        kept = torch.rand(len(residual), 1, 1, 1, device=residual.device) >= self.rate
        return residual * kept / (1 - self.rate)


def depth_rates(depths: Iterable[int], highest: float = 0.1) -> list[list[float]]:
    """Return the rates of `StochasticDepth`, rising evenly from 0 to `highest` over all blocks."""
    depths = list(depths)
    blocks = count()
    step = highest / max(sum(depths) - 1, 1)
    return [[next(blocks) * step for _ in range(depth)] for depth in depths]
