# SPDX-License-Identifier: GPL-3.0-or-later
"""Bottleneck of the published DehazeXL (Chen et al. 2025, arXiv 2504.09621).

Pre-norm transformer layers over the tokens of the whole raster, with a fixed code of sines for the
place of a token and gated MLPs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.models.dehazexl.context import GlobalContext, GlobalLayer, sine_code

Positions = Literal["absolute", "rescaled"]
"""Coordinates of tokens: their numbers, as published, or a scene of 64 tokens whatever its size."""

TRAINED_TOKENS = 64
"""Side in tokens of the crops that the published network was trained on."""

_NORM_EPS = 1e-5


class SelfAttention(nn.Module):
    """The linear maps of attention; `GlobalLayer` says who attends to whom."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)


class GatedMlp(nn.Module):
    """Two linear maps, one gated by the GELU of the other, and a third back (GeGLU)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, 4 * width, bias=False)
        self.up_proj = nn.Linear(width, 4 * width, bias=False)
        self.down_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (..., D) to tokens of the same shape."""
        mixed: Tensor = self.down_proj(F.gelu(self.gate_proj(x)) * self.up_proj(x))
        return mixed


class BottleneckLayer(GlobalLayer):
    """RMSNorm, attention, RMSNorm, gated MLP.

    Args:
        width: Token length D.
        heads: Attention heads, which share the whole width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = width // heads
        self.input_layernorm = nn.RMSNorm(width, eps=_NORM_EPS)
        self.attn = SelfAttention(width)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=_NORM_EPS)
        self.mlp = GatedMlp(width)

    def normalise(self, hidden: Tensor) -> Tensor:
        """Return tokens (..., D) of mean square 1, times learned gains."""
        normalised: Tensor = self.input_layernorm(hidden)
        return normalised

    def queries(self, normalised: Tensor) -> Tensor:
        """Return queries (N, heads, n, head_dim) of tokens (N, n, D)."""
        return self._project(normalised, slice(0, 1))[0]

    def keys_values(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (N, heads, n, head_dim), of tokens (N, n, D)."""
        key, value = self._project(normalised, slice(1, 3))
        return key, value

    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """Add what was gathered to tokens (N, n, D), and then the gated MLP of the sum."""
        x = hidden + self.attn.proj(attended.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out

    def branch_ends(self) -> tuple[nn.Module, ...]:
        """Return the ends of attention and MLP."""
        return self.attn.proj, self.mlp.down_proj

    def _project(self, x: Tensor, parts: slice) -> tuple[Tensor, ...]:
        """Return some of queries, keys and values, all of which one linear map gives."""
        weight = self.attn.qkv.weight.unflatten(0, (3, -1))[parts].flatten(0, 1)
        bias = self.attn.qkv.bias.unflatten(0, (3, -1))[parts].flatten()
        heads = F.linear(x, weight, bias).unflatten(-1, (-1, self.heads, self.head_dim))
        return tuple(heads.permute(2, 0, 3, 1, 4))


class Bottleneck(GlobalContext):
    """Linear map, code of the position, layers.

    Args:
        width: Token length D, a multiple of 4 and of `heads`.
        layers: Number of layers.
        heads: Attention heads.
        positions: Coordinates in the code.
    """

    def __init__(self, width: int, layers: int, heads: int, positions: Positions) -> None:
        super().__init__()
        self.width = width
        self.positions = positions
        self.input_proj = nn.Linear(width, width)
        self.layers = nn.ModuleList(BottleneckLayer(width, heads) for _ in range(layers))

    def each_layer(self) -> list[GlobalLayer]:
        """Return the layers in order."""
        return [layer for layer in self.layers if isinstance(layer, GlobalLayer)]

    def embed(self, tokens: Tensor, row: int, rows: int) -> Tensor:
        """Return hidden states of a strip of tokens (N, r, c, D) from token row `row` of `rows`."""
        height, cols = tokens.shape[1:3]
        unit = TRAINED_TOKENS / max(rows, cols) if self.positions == "rescaled" else 1.0
        y = torch.arange(row, row + height, dtype=torch.float64) * unit
        x = torch.arange(cols, dtype=torch.float64) * unit
        embedded: Tensor = self.input_proj(tokens) + sine_code(y, x, self.width).to(tokens)
        return embedded
