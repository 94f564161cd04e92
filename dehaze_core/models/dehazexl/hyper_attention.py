# SPDX-License-Identifier: GPL-3.0-or-later
"""HyperAttention, the published approximation of attention over very many tokens.

Han et al. 2023 (arXiv 2310.05869), as DehazeXL uses it (Chen et al. 2025, arXiv 2504.09621):
queries and keys are sorted by a hash that brings similar vectors together, a query attends exactly
to the keys of its own block of the sorted sequence, and to a random sample of all other keys which
stands for the rest.

Where the published code draws hashes and samples anew in each run, takes padding for keys, and lets
queries see a sampled key of their own block twice in half precision, here they come from fixed
seeds, and a key that is hidden stays so. And its order of the hashes is the inverse of a Gray code;
here neighbouring buckets really differ in one sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.models.dehazexl.attention import attend, hiding

BLOCK = 256
"""Queries, or keys, of a block of the sorted sequence."""

SAMPLES = 256
"""Keys that stand for all others."""

SIGNS = 7
"""Signs of projections that make a hash."""

BUCKETS = 1 << SIGNS
"""Number of different hashes."""

EXACT_BELOW = 4096
"""With fewer tokens, DehazeXL's attention is exact."""


@dataclass(frozen=True, slots=True)
class HeadSeed:
    """What is random in a head, the same in every run.

    Attributes:
        layer: Position of the layer in the bottleneck.
        head: Position of the head in the layer.
    """

    layer: int
    head: int

    def directions(self, head_dim: int) -> Tensor:
        """Return the Gaussian directions of the hash, (head_dim, SIGNS) float32."""
        return torch.randn(head_dim, SIGNS, generator=self._generator(0))

    def sample(self, count: int) -> Tensor:
        """Return which of `count` sorted keys stand for all, with replacement, (SAMPLES,) int64."""
        return torch.randint(count, (SAMPLES,), generator=self._generator(1))

    def _generator(self, purpose: int) -> torch.Generator:
        # On the CPU whatever the device: the numbers of a CUDA generator are other ones.
        return torch.Generator().manual_seed((self.layer * 1000 + self.head) * 2 + purpose)


def _gray_rank() -> Tensor:
    position = torch.arange(BUCKETS)
    rank = torch.empty_like(position)
    rank[position ^ (position >> 1)] = position
    return rank.to(torch.uint8)


_GRAY_RANK = _gray_rank()


def buckets(vectors: Tensor, directions: Tensor) -> Tensor:
    """Hash vectors by the signs of their projections (angular locality-sensitive hashing).

    Args:
        vectors: (..., n, d) queries or keys.
        directions: (..., d, SIGNS).

    Returns:
        (..., n) uint8 bucket, 0..BUCKETS-1; neighbouring buckets differ in one sign.
    """
    bits = 1 << torch.arange(SIGNS, device=vectors.device)
    pattern = ((vectors @ directions > 0) * bits).sum(dim=-1)
    return _GRAY_RANK.to(vectors.device)[pattern]


@dataclass(frozen=True, slots=True)
class Sample:
    """The keys that stand for all others in one head.

    Attributes:
        position: (SAMPLES,) their positions in the sorted sequence.
        key: (SAMPLES, d).
        value: (SAMPLES, d).
        count: Number of all keys.
    """

    position: Tensor
    key: Tensor
    value: Tensor
    count: int


def attend_sorted(
    query: Tensor, key: Tensor, value: Tensor, sample: Sample, start: int = 0
) -> Tensor:
    """Let a run of sorted queries attend to the keys of their blocks and to the sample.

    Args:
        query: (n, d) sorted queries from position `start` on; the run ends with a block or with the
            whole sequence.
        key: (n, d) the sorted keys at the same positions.
        value: (n, d) their values.
        sample: Keys that stand for those of other blocks.
        start: A multiple of `BLOCK`.

    Returns:
        (n, d) attended values.
    """
    count = len(query)
    block_query, block_key, block_value = (
        F.pad(x, (0, 0, 0, -count % BLOCK)).unflatten(0, (-1, BLOCK)) for x in (query, key, value)
    )
    blocks = torch.arange(len(block_query), device=query.device)[:, None, None]
    within = torch.arange(BLOCK, device=query.device)
    own = attend(block_query, block_key, block_value, hiding(blocks * BLOCK + within >= count))
    in_own_block = sample.position // BLOCK == start // BLOCK + blocks
    # A sampled key stands for count / SAMPLES keys.
    bias = hiding(in_own_block) + math.log(sample.count / SAMPLES)
    far = attend(block_query, sample.key, sample.value, bias)
    return own.merged(far).value.flatten(0, 1)[:count]


def hyper_attention(query: Tensor, key: Tensor, value: Tensor, layer: int) -> Tensor:
    """Approximate attention over tokens in memory: the reference for the streamed one.

    Args:
        query: (heads, n, d) float32, one for each token, tokens row by row.
        key: (heads, n, d).
        value: (heads, n, d).
        layer: Position of the layer, which the random choices depend on.

    Returns:
        (heads, n, d) attended values.
    """
    heads, count, head_dim = query.shape
    attended = torch.empty_like(query)
    for head in range(heads):
        seed = HeadSeed(layer, head)
        directions = seed.directions(head_dim).to(query.device)
        query_order, key_order = (
            torch.argsort(buckets(x[head], directions), stable=True) for x in (query, key)
        )
        sorted_key, sorted_value = key[head, key_order], value[head, key_order]
        position = seed.sample(count).to(query.device)
        sample = Sample(position, sorted_key[position], sorted_value[position], count)
        attended[head, query_order] = attend_sorted(
            query[head, query_order], sorted_key, sorted_value, sample
        )
    return attended
