# SPDX-License-Identifier: GPL-3.0-or-later
"""HyperAttention over more tokens than fit into memory: sorted on disk, attended block by block.

Same arithmetic as `hyper_attention` on all tokens at once. Four sweeps over the strips of a raster:
hash, write queries and keys where they belong in the sorted sequence, attend there, collect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dehaze_core.engine.tokens.context_backends import ContextBackend, ExactAttention, Told
from dehaze_core.engine.tokens.hidden_tokens import Floats, HiddenTokens, Strip, to_cpu
from dehaze_core.engine.tokens.token_file import TokenFile
from dehaze_core.grid import Window
from dehaze_core.models.dehazexl.context import GlobalLayer
from dehaze_core.models.dehazexl.hyper_attention import (
    BLOCK,
    BUCKETS,
    EXACT_BELOW,
    HeadSeed,
    Sample,
    attend_sorted,
    buckets,
)

RUN = 64 * BLOCK
"""Sorted queries of a head attended at a time."""

Hashes = NDArray[np.uint8]


class SortedVectors:
    """Vectors of every head on disk, in the order of their buckets; within one, of their tokens.

    A counting sort. The buckets of all tokens are known, so a strip of tokens is written as one run
    for each bucket, and collected the same way. In memory there is one byte for each token and
    head.

    Args:
        file: (heads, n) vectors: a row for each head.
        hashes: (heads, n) the bucket of each token.
    """

    def __init__(self, file: TokenFile, hashes: Hashes) -> None:
        self.file = file
        self._hashes = hashes
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first token: `put` and `take` work through all tokens in order."""
        sizes = np.stack([np.bincount(head, minlength=BUCKETS) for head in self._hashes])
        self._next = np.cumsum(sizes, axis=1) - sizes

    def put(self, first: int, vectors: Floats) -> None:
        """Write the next vectors (heads, n, width), from token `first` on."""
        for head, tokens, place in self._runs(first, vectors.shape[1]):
            self.file.write(place, vectors[None, head, tokens])

    def take(self, first: int, count: int) -> Floats:
        """Return the next vectors (heads, count, width), from token `first` on."""
        vectors = np.empty((self.file.rows, count, self.file.width), np.float32)
        for head, tokens, place in self._runs(first, count):
            vectors[head, tokens] = self.file.read(place)[0]
        return vectors

    def _runs(self, first: int, count: int) -> Iterator[tuple[int, NDArray[np.intp], Window]]:
        """Yield head, tokens counted from `first` on, and their place in the file."""
        for head, hashes in enumerate(self._hashes[:, first : first + count]):
            order = np.argsort(hashes, kind="stable")
            sizes = np.bincount(hashes, minlength=BUCKETS)
            begins = np.cumsum(sizes) - sizes
            for bucket in np.flatnonzero(sizes):
                begin, size = int(begins[bucket]), int(sizes[bucket])
                place = Window(head, int(self._next[head, bucket]), 1, size)
                yield head, order[begin : begin + size], place
            self._next[head] += sizes


@dataclass(frozen=True, slots=True)
class HyperAttention(ContextBackend):
    """The published approximation, seeded; see `dehaze_core.models.dehazexl.hyper_attention`.

    Two bytes for each token and head are in memory: 150 MiB for 9.8 million tokens and 8 heads. A
    token without data gathers nothing, and is neither a key nor counted.

    Attributes:
        exact_below: With fewer tokens with data, attention is exact.
    """

    name: ClassVar[str] = "hyper"
    exact_below: int = EXACT_BELOW

    def update(self, layer: GlobalLayer, number: int, hidden: HiddenTokens, progress: Told) -> None:
        """Put all tokens through a layer; see `ContextBackend.update`."""
        count = hidden.valid_count
        if count < self.exact_below:
            ExactAttention().update(layer, number, hidden, progress)
            return
        query_hashes, key_hashes = _hash(layer, number, hidden)
        heads, head_dim = layer.heads, layer.head_dim
        with (
            hidden.scratch("queries", heads, count, head_dim) as query_file,
            hidden.scratch("keys", heads, count, 2 * head_dim) as key_file,
        ):
            queries = SortedVectors(query_file, query_hashes)
            keys = SortedVectors(key_file, key_hashes)
            for strip in hidden.strips():
                query, key, value = _ask(layer, hidden, strip)
                queries.put(strip.first, to_cpu(query))
                keys.put(strip.first, to_cpu(torch.cat((key, value), dim=-1)))
            for head in range(heads):
                _attend_head(HeadSeed(number, head), query_file, key_file, hidden)
            queries.rewind()
            for strip in hidden.strips():
                _finish(layer, hidden, strip, queries)
                progress(strip.row_stop / hidden.rows)

    def scratch_bytes(self, layer: GlobalLayer, tokens: int) -> int:
        """Return the size of queries, keys and values."""
        if tokens < self.exact_below:
            return ExactAttention().scratch_bytes(layer, tokens)
        return tokens * 3 * layer.heads * layer.head_dim * 4


def _ask(layer: GlobalLayer, hidden: HiddenTokens, strip: Strip) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value (heads, n, d) of the tokens with data in a strip."""
    normalised = layer.normalise(hidden.read(strip).flatten(1, 2)[:, strip.valid])
    key, value = layer.keys_values(normalised)
    return layer.queries(normalised)[0], key[0], value[0]


def _hash(layer: GlobalLayer, number: int, hidden: HiddenTokens) -> tuple[Hashes, Hashes]:
    """Return the buckets of the queries and keys of all tokens with data, each (heads, n)."""
    directions = torch.stack(
        [HeadSeed(number, head).directions(layer.head_dim) for head in range(layer.heads)]
    ).to(hidden.device)
    of_queries = np.empty((layer.heads, hidden.valid_count), np.uint8)
    of_keys = np.empty_like(of_queries)
    for strip in hidden.strips():
        query, key, _ = _ask(layer, hidden, strip)
        tokens = slice(strip.first, strip.first + strip.count)
        of_queries[:, tokens] = buckets(query, directions).cpu().numpy()
        of_keys[:, tokens] = buckets(key, directions).cpu().numpy()
    return of_queries, of_keys


def _attend_head(seed: HeadSeed, queries: TokenFile, keys: TokenFile, hidden: HiddenTokens) -> None:
    """Replace the sorted queries of a head by what they gather."""
    count = queries.cols
    position = seed.sample(count)
    drawn = [keys.read(Window(seed.head, int(each), 1, 1))[0] for each in position]
    key, value = hidden.to_device(np.concatenate(drawn)).chunk(2, dim=-1)
    sample = Sample(position.to(hidden.device), key, value, count)
    for start in range(0, count, RUN):
        place = Window(seed.head, start, 1, min(RUN, count - start))
        query = hidden.to_device(queries.read(place)[0])
        key, value = hidden.to_device(keys.read(place)[0]).chunk(2, dim=-1)
        queries.write(place, to_cpu(attend_sorted(query, key, value, sample, start))[None])


def _finish(
    layer: GlobalLayer, hidden: HiddenTokens, strip: Strip, gathered: SortedVectors
) -> None:
    states = hidden.read(strip)
    x = states.flatten(1, 2)
    attended = x.new_zeros(1, layer.heads, x.shape[1], layer.head_dim)
    attended[0, :, strip.valid] = hidden.to_device(gathered.take(strip.first, strip.count))
    hidden.write(strip.row, layer.finish(x, attended).view_as(states))
