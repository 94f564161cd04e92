# SPDX-License-Identifier: GPL-3.0-or-later
"""The global bottleneck: every token of a raster looks at the whole raster.

Tokens are the encoder's deepest features, one for 32 x 32 px. Exact attention over L tokens costs
O(L^2); with more than `budget` tokens the keys and values come from a map of area-averaged tokens,
at most `budget` of them, while every token still asks its own question: O(L * budget), streamable
in any order, and equal to exact attention as long as L <= budget. Tokens without data weigh nothing
in the averages and are never keys.

All functions work on a *strip*: some full rows of the token grid, so that the grid never has to be
in memory as a whole. A grid in memory is the case of one strip.

`GlobalLayer` and `GlobalContext` are what the engine knows of a bottleneck, and what other ways of
looking at each other are built on; `ContextLayer` and `ContextNetwork` are `dehazexl-lite`'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.models.dehazexl.attention import hiding


def pooling_factor(rows: int, cols: int, budget: int) -> int:
    """Return the smallest cell side k so that ceil(rows/k) * ceil(cols/k) <= budget."""
    k = 1
    while -(-rows // k) * -(-cols // k) > budget:
        k += 1
    return k


def position_code(row: int, row_stop: int, rows: int, cols: int, width: int) -> Tensor:
    """Return the sine/cosine code of a strip of tokens, in coordinates relative to the raster.

    Args:
        row: First token row of the strip.
        row_stop: Row behind its last.
        rows: Token rows of the whole raster.
        cols: Token columns of the whole raster.
        width: Length of the code, a multiple of 4.

    Returns:
        (row_stop - row, cols, width) float32. The longer side of the raster spans 0..64, whatever
        its size: a token sees where it lies in the scene, not how many pixels the scene has.
    """
    unit = 64.0 / max(rows, cols)
    y = (torch.arange(row, row_stop, dtype=torch.float64) + 0.5) * unit
    x = (torch.arange(cols, dtype=torch.float64) + 0.5) * unit
    return sine_code(y, x, width)


def sine_code(y: Tensor, x: Tensor, width: int) -> Tensor:
    """Return sines and cosines of positions at `width / 4` frequencies, those of `x` first.

    Args:
        y: (r,) float64 coordinates of the rows.
        x: (c,) float64 coordinates of the columns.
        width: Length of the code, a multiple of 4.

    Returns:
        (r, c, width) float32.
    """
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    y, x = y[:, None] * frequency, x[:, None] * frequency
    code_y = torch.cat((y.sin(), y.cos()), dim=-1)[:, None].expand(-1, len(x), -1)
    code_x = torch.cat((x.sin(), x.cos()), dim=-1)[None].expand(len(y), -1, -1)
    return torch.cat((code_x, code_y), dim=-1).float()


def pool_strip(values: Tensor, weight: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Average a strip of tokens over k x k cells, weighted by their share of valid pixels.

    Args:
        values: (N, r, c, D) tokens; the strip starts at a multiple of k in the token grid.
        weight: (N, r, c) share of valid pixels of each token, [0, 1].
        k: Side of a cell in tokens; incomplete cells at the right and lower end are allowed.

    Returns:
        (N, ceil(r/k), ceil(c/k), D) weighted averages (0 where nothing is valid) and
        (N, ceil(r/k), ceil(c/k)) the summed weights.
    """
    if k == 1:
        return values, weight
    _, r, c, _ = values.shape
    pad = (0, 0, 0, -c % k, 0, -r % k)
    weight4 = F.pad(weight[..., None], pad)
    weighted = F.pad(values * weight[..., None], pad)
    total = _cell_sum(weight4, k)
    return _cell_sum(weighted, k) / total.clamp_min(1e-6), total[..., 0]


def _cell_sum(x: Tensor, k: int) -> Tensor:
    n, r, c, d = x.shape
    return x.view(n, r // k, k, c // k, k, d).sum(dim=(2, 4))


@dataclass(frozen=True, slots=True)
class Keys:
    """What all tokens of a raster look at in one layer.

    Attributes:
        key: (N, heads, M, head_dim).
        value: (N, heads, M, head_dim).
        bias: (N, 1, 1, M), 0 for keys with data and -inf for keys without; None if all have data.
    """

    key: Tensor
    value: Tensor
    bias: Tensor | None


class GlobalLayer(nn.Module, ABC):
    """A transformer layer in which every token of a raster may look at every other.

    Attributes:
        heads: Number of attention heads.
        head_dim: Length of a head.
    """

    heads: int
    head_dim: int

    @abstractmethod
    def normalise(self, hidden: Tensor) -> Tensor:
        """Return tokens (..., D) as attention sees them."""

    @abstractmethod
    def queries(self, normalised: Tensor) -> Tensor:
        """Return what tokens (N, n, D) from `normalise` ask, (N, heads, n, head_dim)."""

    @abstractmethod
    def keys_values(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """Return what tokens (N, n, D) from `normalise` answer, twice (N, heads, n, head_dim)."""

    @abstractmethod
    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """Return the updated tokens.

        Args:
            hidden: (N, n, D) tokens before the layer.
            attended: (N, heads, n, head_dim) the values they have gathered.
        """

    @abstractmethod
    def branch_ends(self) -> tuple[nn.Module, ...]:
        """Return the linear maps at whose ends attention and MLP are added to the tokens."""

    def pooled(self, hidden: Tensor, weight: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the normalised tokens of a strip averaged over k x k cells, and their weights."""
        return pool_strip(self.normalise(hidden), weight, k)

    def keys(self, pooled: Tensor, weight: Tensor) -> Keys:
        """Turn the pooled tokens of the whole raster into keys and values.

        Args:
            pooled: (N, R, C, D) from `pooled`, all strips put together.
            weight: (N, R, C) their weights; cells of weight 0 are masked out.
        """
        key, value = self.keys_values(pooled.flatten(1, 2))
        mask = weight.reshape(len(weight), 1, 1, -1) > 0
        bias = None
        if not bool(mask.all()):
            bias = hiding(~mask).to(key.dtype)
        return Keys(key, value, bias)

    def forward(self, hidden: Tensor, keys: Keys) -> Tensor:
        """Update a strip of tokens (N, r, c, D); every token attends to all `keys`."""
        x = hidden.flatten(1, 2)
        query = self.queries(self.normalise(x))
        attended = F.scaled_dot_product_attention(query, keys.key, keys.value, attn_mask=keys.bias)
        return self.finish(x, attended).view_as(hidden)


class GlobalContext(nn.Module, ABC):
    """A bottleneck: what makes hidden states of tokens, and layers that update them."""

    @abstractmethod
    def embed(self, tokens: Tensor, row: int, rows: int) -> Tensor:
        """Return hidden states (N, r, c, D) of a strip (N, r, c, C) from token row `row` of `rows`.

        The strip is as wide as the raster.
        """

    @abstractmethod
    def each_layer(self) -> list[GlobalLayer]:
        """Return the layers in order."""

    def forward(self, tokens: Tensor, weight: Tensor, budget: int) -> Tensor:
        """Run the bottleneck on a token grid in memory.

        Args:
            tokens: (N, rows, cols, C) tokens of the whole raster.
            weight: (N, rows, cols) share of valid pixels of each token, [0, 1].
            budget: Largest number of keys.

        Returns:
            (N, rows, cols, D) hidden states that know the whole raster.
        """
        _, rows, cols, _ = tokens.shape
        k = pooling_factor(rows, cols, budget)
        hidden = self.embed(tokens, 0, rows)
        for layer in self.each_layer():
            hidden = layer(hidden, layer.keys(*layer.pooled(hidden, weight, k)))
        return hidden


class ContextLayer(GlobalLayer):
    """Pre-norm transformer layer over tokens: RMSNorm, attention, RMSNorm, gated MLP.

    Args:
        width: Token length D.
        heads: Number of attention heads.
        head_dim: Length of a head; heads * head_dim may be smaller than D to keep attention cheap.
    """

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.head_dim = head_dim
        self.norm_attention = nn.RMSNorm(width, eps=1e-5)
        self.query = nn.Linear(width, inner)
        self.key_value = nn.Linear(width, 2 * inner)
        self.output = nn.Linear(inner, width)
        self.norm_mlp = nn.RMSNorm(width, eps=1e-5)
        self.gate_up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def normalise(self, hidden: Tensor) -> Tensor:
        """Return tokens (..., D) of mean square 1, times learned gains."""
        normalised: Tensor = self.norm_attention(hidden)
        return normalised

    def queries(self, normalised: Tensor) -> Tensor:
        """Return queries (N, heads, n, head_dim) of tokens (N, n, D)."""
        return self._split(self.query(normalised))

    def keys_values(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (N, heads, n, head_dim), of tokens (N, n, D)."""
        key, value = self.key_value(normalised).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """Add what was gathered to tokens (N, n, D), and then the gated MLP of the sum."""
        x = hidden + self.output(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm_mlp(x)).chunk(2, dim=-1)
        out: Tensor = x + self.down(F.gelu(gate) * up)
        return out

    def branch_ends(self) -> tuple[nn.Module, ...]:
        """Return the ends of attention and MLP."""
        return self.output, self.down

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, self.heads, self.head_dim).transpose(1, 2)


class ContextNetwork(GlobalContext):
    """The bottleneck of `dehazexl-lite`: position code, then layers of global attention.

    Args:
        width: Token length D.
        layers: Number of `ContextLayer`.
        heads: Attention heads.
        head_dim: Length of a head.
    """

    def __init__(self, width: int, layers: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.width = width
        self.input = nn.Linear(width, width)
        self.layers = nn.ModuleList(ContextLayer(width, heads, head_dim) for _ in range(layers))

    def each_layer(self) -> list[GlobalLayer]:
        """Return the layers in order."""
        return [layer for layer in self.layers if isinstance(layer, GlobalLayer)]

    def embed(self, tokens: Tensor, row: int, rows: int) -> Tensor:
        """Return hidden states of a strip of tokens (N, r, c, D) from token row `row` of `rows`."""
        code = position_code(row, row + tokens.shape[1], rows, tokens.shape[2], self.width)
        embedded: Tensor = self.input(tokens) + code.to(tokens)
        return embedded
