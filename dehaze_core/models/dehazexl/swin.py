# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoder of the published DehazeXL: Swin Transformer blocks (Liu et al. 2021, arXiv 2103.14030).

Pre-norm residuals and a table of biases by relative position. From stage to stage the map grows to
twice its side, and the features of the encoder are put beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dehaze_core.models.dehazexl.windows import (
    Mlp,
    StochasticDepth,
    WindowAttention,
    depth_rates,
)

BLOCKS = 2
"""Blocks of a stage: one of windows in place, one of windows moved by half their side."""


class TableAttention(WindowAttention):
    """Window attention of Swin V1; see `WindowAttention` for the arguments."""

    def __init__(self, width: int, heads: int, size: int, side: int, moved: bool) -> None:
        super().__init__(width, heads, size, side, moved)
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.relative_position_bias_table = nn.Parameter(
            torch.empty((2 * self.side - 1) ** 2, heads)
        )
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def queries_keys_values(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return plain linear maps of windows."""
        return self.split(self.qkv(windows))

    def position_parameters(self) -> Iterable[Tensor]:
        """Return the table."""
        return (self.relative_position_bias_table,)

    def position_bias(self) -> Tensor:
        """Return the bias of each relative position, (positions, heads)."""
        return self.relative_position_bias_table.float()


class DecoderBlock(nn.Module):
    """Attention and an MLP, each of normalised features.

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
        self.norm1 = nn.LayerNorm(width)
        self.attn = TableAttention(width, heads, size, side, moved)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, S, S, C) to features of the same shape."""
        x = x + self.drop(self.attn(self.norm1(x)))
        mixed: Tensor = x + self.drop(self.mlp(self.norm2(x)))
        return mixed


class PatchExpand(nn.Module):
    """One feature to 2 x 2; cells do not overlap."""

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.expand = nn.ConvTranspose2d(width, width_out, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, S, S, C) to (N, 2S, 2S, C_out)."""
        expanded: Tensor = self.expand(x.permute(0, 3, 1, 2))
        return expanded.permute(0, 2, 3, 1)


class DecoderStage(nn.Module):
    """Blocks of one resolution, then the step to the next."""

    def __init__(self, blocks: Iterable[DecoderBlock], upsample: PatchExpand) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, S, S, C) to (N, 2S, 2S, C/4)."""
        expanded: Tensor = self.upsample(self.blocks(x))
        return expanded


class Decoder(nn.Module):
    """Tokens that know the raster, and the encoder's features, to what is added to the pixels.

    Args:
        width: Channels of the encoder's first stage.
        heads: Attention heads of the stages, of the finest first as in the encoder.
        side: Side of a window.
        tokens: Side of a patch in tokens.
    """

    def __init__(self, width: int, heads: tuple[int, ...], side: int, tokens: int) -> None:
        super().__init__()
        stages = len(heads)
        # The deepest stage is left out most often.
        rates = depth_rates([BLOCKS] * stages)[::-1]
        self.layers_up = nn.ModuleList()
        for stage in range(stages):
            size, channels = tokens << stage, (2 * width << stages - 1) >> stage
            blocks = (
                DecoderBlock(channels, heads[-1 - stage], size, side, bool(i), rate)
                for i, rate in enumerate(rates[stage])
            )
            self.layers_up.append(DecoderStage(blocks, PatchExpand(channels, channels // 4)))
        self.up_x2 = PatchExpand(width // 2, width // 8)
        self.output = nn.Conv2d(width // 8, 3, 1, bias=False)

    def forward(self, hidden: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Decode patches.

        Args:
            hidden: (N, P/32, P/32, 8 width) their tokens after the context.
            features: Their features from the encoder, finest first.

        Returns:
            (N, 3, P, P) differences to the pixels.
        """
        x = hidden
        for stage, skip in zip(self.layers_up, reversed(features), strict=True):
            x = stage(torch.cat((x, skip), dim=-1))
        painted: Tensor = self.output(self.up_x2(x).permute(0, 3, 1, 2))
        return painted
