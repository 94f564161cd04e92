# SPDX-License-Identifier: GPL-3.0-or-later
"""`guided-restormer`: Restormer (Zamir et al. 2022, arXiv 2111.09881), guided by masks.

A U-shaped network of blocks that attend over channels and then mix them in a gated feed-forward
layer; the largest of the networks that "Let Segment Anything Help Image Dehaze" (Jin et al. 2023,
arXiv 2306.15870) guides. What it adds to the bands is all it paints.

Its convolutions reach some hundred pixels. Only the attention knows more, through sums over the
whole raster; a raster that does not fit into memory is looked at once, scaled down (`look`), and
every block is painted with the matrices found there (`estimate`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.models.config import NetworkConfig
from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.sam_guided.gate import centred
from dehaze_core.models.sam_guided.transposed import (
    FrozenMatrices,
    LiveMatrices,
    Matrices,
    PointAndDepth,
    TransposedAttention,
    add_in_strips,
)
from dehaze_core.models.streaming import (
    TOKEN_PX,
    Footprint,
    OverviewNetwork,
    PaintedImage,
    SceneStatistics,
)

EXPANSION = 2.66
"""Hidden channels of a feed-forward layer for each of its features."""

_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class RestormerConfig(NetworkConfig):
    """Shape of a `Restormer`; the default is small enough to be trained on a CPU.

    Attributes:
        width: Channels at full resolution; each of three further levels has twice as many, at half
            the resolution.
        blocks: Blocks of a level, on the way down and on the way up.
        heads: Attention heads of the levels.
        refinement: Blocks at full resolution before the last layer.

    Raises:
        ValueError: There is no network of this shape.
    """

    width: int = 16
    blocks: tuple[int, int, int, int] = (1, 2, 2, 2)
    heads: tuple[int, int, int, int] = (1, 2, 4, 8)
    refinement: int = 1

    def __post_init__(self) -> None:
        """Check that a network of this shape can be built and run."""
        NetworkConfig.__post_init__(self)
        if self.width % 2:
            raise ValueError(f"'width' is {self.width}, expected an even number: it is halved once")
        for level, heads in enumerate(self.heads):
            if (self.width << level) % heads:
                raise ValueError(f"{heads} heads cannot share {self.width << level} channels")

    @property
    def reach(self) -> int:
        """Pixels around a block of whole cells of the deepest level that can influence it.

        A block reaches two cells: one by the attention's values, one by the feed-forward layer.
        """
        reach = 1 + 2 * self.refinement + 2 * self.blocks[0]
        for level in range(1, _DEEPEST + 1):
            cell = 1 << level
            reach = -(-reach // cell) * cell + cell * (1 + 2 * self.blocks[level])
        # On the way down it stays a whole number of cells.
        return reach + sum((1 + 2 * self.blocks[level]) << level for level in range(_DEEPEST)) + 1


PUBLISHED = RestormerConfig(width=48, blocks=(4, 6, 6, 8), refinement=4)
"""The published network."""


class FeedForward(nn.Module):
    """Gated-Dconv feed-forward layer (equation 2), of normalised features.

    Args:
        width: Channels C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(EXPANSION * width)
        self.norm = nn.LayerNorm(width)
        self.expand = PointAndDepth(width, 2 * hidden)
        self.project = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, H, W, C) to what is added to them."""
        gate, value = self.expand(self.norm(x)).chunk(2, dim=-1)
        mixed: Tensor = self.project(F.gelu(gate) * value)
        return mixed


class Block(nn.Module):
    """Attention over channels, then a feed-forward layer.

    Args:
        width: Channels C.
        heads: Attention heads.
        start: First place of its matrices in the statistics.
    """

    def __init__(self, width: int, heads: int, start: int) -> None:
        super().__init__()
        self.attention = TransposedAttention(width, heads, start)
        self.feed = FeedForward(width)

    def forward(self, x: Tensor, attention: Matrices) -> Tensor:
        """Map features (N, H, W, C) to features of the same shape."""
        matrices = attention.of(self.attention, x)
        x = add_in_strips(x, lambda part: self.attention(part, matrices), self.training)
        return add_in_strips(x, self.feed, self.training)


class Level(nn.Module):
    """Blocks of one resolution.

    Attributes:
        stop: First place in the statistics behind its matrices.

    Args:
        width: Channels C.
        heads: Attention heads.
        blocks: How many blocks.
        start: First place of its matrices in the statistics.
    """

    def __init__(self, width: int, heads: int, blocks: int, start: int) -> None:
        super().__init__()
        each = width * (width // heads)
        self.blocks = nn.ModuleList(Block(width, heads, start + i * each) for i in range(blocks))
        self.stop = start + blocks * each

    def forward(self, x: Tensor, attention: Matrices) -> Tensor:
        """Map features (N, H, W, C) to features of the same shape."""
        for block in self.blocks:
            x = block(x, attention)
        return x


class Resample(nn.Module):
    """A 3 x 3 convolution, and half or twice the resolution by moving features into place.

    Args:
        width: Channels C.
        up: To twice the resolution and half the channels, else to half and twice.
    """

    def __init__(self, width: int, up: bool) -> None:
        super().__init__()
        self.up = up
        width_out = 2 * width if up else width // 2
        self.conv = nn.Conv2d(width, width_out, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, 2H, 2W, C/2) or (N, H/2, W/2, 2C)."""
        y = self.conv(x.permute(0, 3, 1, 2))
        moved = F.pixel_shuffle(y, 2) if self.up else F.pixel_unshuffle(y, 2)
        return moved.permute(0, 2, 3, 1).contiguous()


class Restormer(OverviewNetwork):
    """The network.

    Args:
        config: Width, depths and heads.
    """

    architecture = "guided-restormer"
    config: RestormerConfig
    guides = 1
    paints = True
    unit_px = TOKEN_PX
    overview_px = 1024

    def __init__(self, config: RestormerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or RestormerConfig()
        self.halo_px = -(-config.reach // TOKEN_PX) * TOKEN_PX
        widths = [config.width << level for level in range(_DEEPEST + 1)]
        self._values = 0
        self.first = nn.Conv2d(self.bands + self.guides, widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(self._level(i, widths[i]) for i in range(_DEEPEST + 1))
        self.down = nn.ModuleList(Resample(width, up=False) for width in widths[:-1])
        self.up = nn.ModuleList(Resample(width, up=True) for width in widths[1:])
        # At full resolution the features are left as wide as they are put together.
        self.reduce = nn.ModuleList(
            nn.Linear(2 * width, width, bias=False) for width in widths[1:-1]
        )
        last = 2 * widths[0]
        self.decoder = nn.ModuleList(
            self._level(i, widths[i] if i else last) for i in range(_DEEPEST)
        )
        self.refinement = self._level(0, last, config.refinement)
        self.last = nn.Conv2d(last, self.bands, 3, padding=1, bias=False)
        self.footprint = _footprint(config, parameter_count(self))

    def _level(self, level: int, width: int, blocks: int | None = None) -> Level:
        """Return the blocks of a level, with places in the statistics behind those made before."""
        count, heads = blocks or self.config.blocks[level], self.config.heads[level]
        made = Level(width, heads, count, self._values)
        self._values = made.stop
        return made

    def stages(self) -> list[nn.Module]:
        """Return the levels of encoder and decoder, and the refinement."""
        return [*self.encoder, *self.decoder, self.refinement]

    def look(self, rgb: Tensor, valid: Tensor, weight: Tensor) -> SceneStatistics:
        """Return the matrices of all blocks, (N, V); see `OverviewNetwork.look`.

        V is the sum of C x C / heads over the blocks: those on the way down, then those on the way
        up from the finest level to the coarsest, then those of the refinement.
        """
        attention = LiveMatrices(valid, weight)
        self._features(rgb, valid, attention)
        return attention.statistics()

    def estimate(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor, scene: SceneStatistics
    ) -> PaintedImage:
        """Paint a block with the matrices from `look`; see `StreamedNetwork.estimate`."""
        return self._painted(rgb, valid, FrozenMatrices(scene))

    def forward(
        self, rgb: Tensor, valid: Tensor, weight: Tensor, budget: int | None = None
    ) -> PaintedImage:
        """Paint a raster in memory in one pass, with the matrices of its own features.

        Args:
            rgb: (N, 4, H, W) float32: bands, display-encoded, [0, 1], `FILL` where there is no
                data, and the guide; H and W are multiples of 32.
            valid: (N, 1, H, W) float32 mask.
            weight: (N, H/32, W/32) share of real, valid pixels of every token.
            budget: Nothing to this network, which has no keys.
        """
        return self._painted(rgb, valid, LiveMatrices(valid, weight))

    def _painted(self, rgb: Tensor, valid: Tensor, attention: Matrices) -> PaintedImage:
        x = self._features(rgb, valid, attention)
        added: Tensor = self.last(x.permute(0, 3, 1, 2))
        return PaintedImage(rgb[:, : self.bands] + added.float())

    def _features(self, rgb: Tensor, valid: Tensor, attention: Matrices) -> Tensor:
        """Return the features that the last layer paints from, (N, H, W, 2 width)."""
        x = self.first(centred(rgb, valid, self.bands)).permute(0, 2, 3, 1).contiguous()
        x = self.encoder[0](x, attention)
        skips: list[Tensor] = []
        for level in range(1, _DEEPEST + 1):
            skips.append(x)
            x = self.encoder[level](self.down[level - 1](x), attention)
        for level in range(_DEEPEST - 1, -1, -1):
            x = torch.cat((self.up[level](x), skips.pop()), dim=-1)
            x = self.decoder[level](self.reduce[level - 1](x) if level else x, attention)
        refined: Tensor = self.refinement(x, attention)
        return refined


def _footprint(config: RestormerConfig, parameters: int) -> Footprint:
    """Return the memory at the peak, the attention at full resolution, which is twice as wide.

    There are its features before and after, what they came from, and those it keeps from the way
    down. Hidden features, many more, are there for a strip of rows only.
    """
    each = 4 * (8 * config.width + 70)
    return Footprint(fixed_mib=(4 * parameters >> 20) + 20, bytes_per_px=each)
