# SPDX-License-Identifier: GPL-3.0-or-later
"""Encoder of the published DehazeXL: Swin Transformer V2 (Liu et al. 2022, arXiv 2111.09883).

Post-norm residuals, cosine attention with a learned scale for each head, and a bias by relative
position that a small network computes from coordinates on a logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.models.dehazexl.windows import (
    Mlp,
    StochasticDepth,
    WindowAttention,
    depth_rates,
)

EMBED_PX = 4
"""Side in pixels of what becomes one feature of the first stage."""

MOST_SCALE = 100.0
"""Largest factor of a cosine between query and key."""

_BIAS_WIDTH = 512
_MOST_BIAS = 16.0


class CosineAttention(WindowAttention):
    """Window attention of Swin V2; see `WindowAttention` for the arguments."""

    coordinates: Tensor

    def __init__(self, width: int, heads: int, size: int, side: int, moved: bool) -> None:
        super().__init__(width, heads, size, side, moved)
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, _BIAS_WIDTH), nn.ReLU(), nn.Linear(_BIAS_WIDTH, heads, bias=False)
        )
        self.register_buffer("coordinates", log_coordinates(self.side), persistent=False)

    def queries_keys_values(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries and keys of length 1, queries times the scale of their head, and values.

        Keys need no bias: it would add the same to all logits of a query.
        """
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        query, key, value = self.split(F.linear(windows, self.qkv.weight, bias))
        scale = self.logit_scale.clamp(max=math.log(MOST_SCALE)).exp()
        # Autocast normalises in float32.
        query, key = F.normalize(query, dim=-1) * scale, F.normalize(key, dim=-1)
        return query.to(value.dtype), key.to(value.dtype), value

    def position_parameters(self) -> Iterable[Tensor]:
        """Return the weights of the network that computes the bias."""
        return self.cpb_mlp.parameters()

    def position_bias(self) -> Tensor:
        """Return the bias of each relative position, (positions, heads), in (0, 16)."""
        bias: Tensor = _MOST_BIAS * torch.sigmoid(self.cpb_mlp(self.coordinates))
        return bias


def log_coordinates(side: int) -> Tensor:
    """Return all relative positions in a window, (2 side - 1)^2 x 2: rows first, about [-1, 1]."""
    steps = torch.arange(1 - side, side, dtype=torch.float32)
    steps = 8.0 * steps / max(side - 1, 1)
    steps = steps.sign() * torch.log2(steps.abs() + 1.0) / math.log2(8)
    return torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).flatten(0, 1)


class EncoderBlock(nn.Module):
    """Attention and an MLP, each normalised before it is added.

    Args:
        width: Channels C.
        heads: Attention heads.
        size: Side S of the map.
        side: Side of a window.
        moved: Whether the windows are moved by half their side.
        drop: Rate of stochastic depth.
    """

    def __init__(
        self, width: int, heads: int, size: int, side: int, moved: bool, drop: float
    ) -> None:
        super().__init__()
        self.attn = CosineAttention(width, heads, size, side, moved)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.norm2 = nn.LayerNorm(width)
        self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, S, S, C) to features of the same shape."""
        x = x + self.drop(self.norm1(self.attn(x)))
        mixed: Tensor = x + self.drop(self.norm2(self.mlp(x)))
        return mixed


class PatchEmbed(nn.Module):
    """4 x 4 px to one feature, normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, EMBED_PX, stride=EMBED_PX)
        self.norm = nn.LayerNorm(width)

    def forward(self, rgb: Tensor) -> Tensor:
        """Map an image (N, 3, H, W) to (N, H/4, W/4, C)."""
        embedded: Tensor = self.norm(self.proj(rgb).permute(0, 2, 3, 1))
        return embedded


class PatchMerging(nn.Module):
    """2 x 2 features to one of twice the width: columns of the cell first, then its rows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, S, S, C) to (N, S/2, S/2, 2C)."""
        n, s, _, c = x.shape
        cells = x.reshape(n, s // 2, 2, s // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        merged: Tensor = self.norm(self.reduction(cells))
        return merged


class EncoderStage(nn.Module):
    """Blocks of one resolution, after merging the features of the stage before, if there is one."""

    def __init__(self, downsample: nn.Module, blocks: Iterable[EncoderBlock]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map the features of the stage before to those of this one."""
        features: Tensor = self.blocks(self.downsample(x))
        return features


class Encoder(nn.Module):
    """Pixels of a patch to features at 1/4, 1/8, 1/16 and 1/32 of its resolution.

    Args:
        width: Channels of the first stage; each further stage has twice as many.
        depths: Blocks of the stages.
        heads: Attention heads of the stages.
        side: Side of a window.
        patch_px: Side of a patch in pixels.
    """

    def __init__(
        self,
        width: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        side: int,
        patch_px: int,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(width)
        self.layers = nn.ModuleList()
        for stage, rates in enumerate(depth_rates(depths)):
            size, channels = (patch_px // EMBED_PX) >> stage, width << stage
            self.layers.append(
                EncoderStage(
                    PatchMerging(channels // 2) if stage else nn.Identity(),
                    (
                        EncoderBlock(channels, heads[stage], size, side, bool(i % 2), rate)
                        for i, rate in enumerate(rates)
                    ),
                )
            )

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """Map patches (N, 3, P, P) to their features (N, S, S, C), finest first."""
        x = self.patch_embed(rgb)
        features = []
        for stage in self.layers:
            x = stage(x)
            features.append(x)
        return features
