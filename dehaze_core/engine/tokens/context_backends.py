# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways in which the tokens of a raster look at each other, for any number of tokens.

In all of them every token with data asks, and none without data answers. They give the
same numbers in every run, and need memory for a strip of tokens, not for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dehaze_core.engine.tokens.hidden_tokens import HiddenTokens, Strip, to_cpu
from dehaze_core.engine.tokens.token_file import TokenFile
from dehaze_core.grid import Window
from dehaze_core.models.dehazexl.attention import Attended, attend
from dehaze_core.models.dehazexl.context import GlobalLayer, Keys, pooling_factor

ContextKind = Literal["auto", "exact", "bounded", "hyper"]

Told = Callable[[float], None]

KEYS_BYTES = 256 * 2**20
"""Keys and values of exact attention up to this size stay in memory; what they are made of comes on
top while they are made."""

KEY_BLOCK = 512
"""Keys read at a time where they are not in memory."""


class ContextBackend(ABC):
    """A way in which all tokens of a raster look at each other.

    Attributes:
        name: What the plan and the report call it.
    """

    name: ClassVar[str]

    @abstractmethod
    def update(self, layer: GlobalLayer, number: int, hidden: HiddenTokens, progress: Told) -> None:
        """Put all tokens through a layer.

        Args:
            layer: The layer.
            number: Its position in the bottleneck.
            hidden: States before the layer, which are replaced by those behind it.
            progress: Told the share of the tokens that are done, 0..1.
        """

    @abstractmethod
    def scratch_bytes(self, layer: GlobalLayer, tokens: int) -> int:
        """Return the disk space needed beside the hidden states of `tokens` tokens."""


@dataclass(frozen=True, slots=True)
class BoundedAttention(ContextBackend):
    """Keys come from area-averaged tokens; exact as long as the budget suffices for all tokens.

    Attributes:
        budget: Largest number of keys.
    """

    name: ClassVar[str] = "bounded"
    budget: int

    def update(self, layer: GlobalLayer, number: int, hidden: HiddenTokens, progress: Told) -> None:
        """Put all tokens through a layer; see `ContextBackend.update`."""
        keys = self._keys(layer, hidden)
        for strip in hidden.strips():
            hidden.write(strip.row, layer(hidden.read(strip), keys))
            progress(strip.row_stop / hidden.rows)

    def scratch_bytes(self, layer: GlobalLayer, tokens: int) -> int:
        """Return 0: keys are few enough for memory."""
        return 0

    def _keys(self, layer: GlobalLayer, hidden: HiddenTokens) -> Keys:
        rows, cols = hidden.rows, hidden.cols
        k = pooling_factor(rows, cols, self.budget)
        shape = (1, -(-rows // k), -(-cols // k))
        pooled = torch.empty(*shape, hidden.width, device=hidden.device)
        weights = torch.empty(shape, device=hidden.device)
        height = max(1, hidden.strip_tokens // cols // k) * k
        width = max(1, hidden.strip_tokens // height // k) * k
        for row in range(0, rows, height):
            for col in range(0, cols, width):
                window = Window(row, col, height, width).clipped(rows, cols)
                values, weight = layer.pooled(*hidden.read_window(window), k)
                cells = (0, *Window(row // k, col // k, *weight.shape[1:]).slices)
                pooled[cells], weights[cells] = values[0], weight[0]
        return layer.keys(pooled, weights)


@dataclass(frozen=True, slots=True)
class ExactAttention(ContextBackend):
    """Every token looks at every other: the cost grows with the square of their number.

    Attributes:
        keys_bytes: Largest size of keys and values that stay in memory; larger ones are read from
            disk again for every strip of queries.
        key_block: Keys read at a time.
    """

    name: ClassVar[str] = "exact"
    keys_bytes: int = KEYS_BYTES
    key_block: int = KEY_BLOCK

    def update(self, layer: GlobalLayer, number: int, hidden: HiddenTokens, progress: Told) -> None:
        """Put all tokens through a layer; see `ContextBackend.update`."""
        tokens = hidden.rows * hidden.cols
        if not self.scratch_bytes(layer, tokens):
            BoundedAttention(tokens).update(layer, number, hidden, progress)
            return
        with hidden.scratch("keys", 1, hidden.valid_count, 2 * _inner(layer)) as keys:
            # All keys first: queries must not see what the layer has changed already.
            for strip in filter(lambda strip: strip.count, hidden.strips()):
                self._store_keys(layer, hidden, strip, keys)
            for strip in hidden.strips():
                states = hidden.read(strip)
                x = states.flatten(1, 2)
                attended = self._attend(layer.queries(layer.normalise(x)), keys)
                hidden.write(strip.row, layer.finish(x, attended).view_as(states))
                progress(strip.row_stop / hidden.rows)

    def scratch_bytes(self, layer: GlobalLayer, tokens: int) -> int:
        """Return the size of keys and values if they do not stay in memory, else 0."""
        size = tokens * 2 * _inner(layer) * 4
        return size if size > self.keys_bytes else 0

    @staticmethod
    def _store_keys(
        layer: GlobalLayer, hidden: HiddenTokens, strip: Strip, keys: TokenFile
    ) -> None:
        x = hidden.read(strip).flatten(1, 2)[:, strip.valid]
        both = torch.cat(layer.keys_values(layer.normalise(x)), dim=-1)
        window = Window(0, strip.first, 1, strip.count)
        keys.write(window, to_cpu(both.transpose(1, 2).flatten(2)))

    def _attend(self, query: Tensor, keys: TokenFile) -> Tensor:
        heads, head_dim = query.shape[1], query.shape[3]

        def part(start: int) -> Attended:
            stored = keys.read(Window(0, start, 1, self.key_block).clipped(1, keys.cols))
            both = torch.from_numpy(stored).to(query.device).unflatten(-1, (heads, 2 * head_dim))
            key, value = both.transpose(1, 2).split(head_dim, dim=-1)
            return attend(query, key, value)

        parts = map(part, range(0, keys.cols, self.key_block))
        return reduce(Attended.merged, parts).value


def _inner(layer: GlobalLayer) -> int:
    return layer.heads * layer.head_dim
