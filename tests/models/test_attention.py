# SPDX-License-Identifier: GPL-3.0-or-later
"""Attention in parts, and the published approximation of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.models.dehazexl.attention import attend, hiding
from dehaze_core.models.dehazexl.hyper_attention import (
    BLOCK,
    BUCKETS,
    SAMPLES,
    HeadSeed,
    buckets,
    hyper_attention,
)


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cut", [1, 40, 99])
def test_parts_merged_equal_attention_to_all_keys(cut: int) -> None:
    query, key, value = (
        3 * random(2, 30, 8),
        3 * random(2, 100, 8, seed=2),
        random(2, 100, 8, seed=3),
    )

    first = attend(query, key[:, :cut], value[:, :cut])
    second = attend(query, key[:, cut:], value[:, cut:])

    expected = F.scaled_dot_product_attention(query, key, value)
    assert torch.allclose(first.merged(second).value, expected, atol=1e-5)
    assert torch.allclose(second.merged(first).value, expected, atol=1e-5)


def test_scores_beyond_the_range_of_exponentials_do_no_harm() -> None:
    query, key, value = 1e3 * random(5, 8), 1e3 * random(20, 8, seed=2), random(20, 8, seed=3)

    merged = attend(query, key[:10], value[:10]).merged(attend(query, key[10:], value[10:]))

    expected = F.scaled_dot_product_attention(query, key, value)
    assert torch.allclose(merged.value, expected, atol=1e-5)


def test_hidden_keys_count_for_nothing_even_where_all_are_hidden() -> None:
    query, key, value = random(6, 8), random(10, 8, seed=2), random(10, 8, seed=3)
    none = attend(query, key, value, hiding(torch.ones(10, dtype=torch.bool)))
    some = attend(query, key, value, hiding(torch.arange(10) >= 4))

    assert torch.equal(none.value, torch.zeros(6, 8))
    assert torch.allclose(some.value, attend(query, key[:4], value[:4]).value, atol=1e-6)
    assert torch.allclose(none.merged(some).value, some.value)
    assert torch.equal(none.merged(none).value, none.value)


def test_neighbouring_buckets_differ_in_one_sign() -> None:
    patterns = torch.arange(BUCKETS)
    signs = ((patterns[:, None] >> torch.arange(7)) & 1) * 2.0 - 1
    order = buckets(signs, torch.eye(7)).long()
    in_order = signs[torch.argsort(order)]

    assert sorted(order.tolist()) == list(range(BUCKETS))
    assert (in_order[1:] != in_order[:-1]).sum(dim=1).eq(1).all()


def test_random_choices_are_a_part_of_the_model_that_must_not_change() -> None:
    seed = HeadSeed(layer=1, head=2)

    assert torch.equal(seed.directions(8), HeadSeed(1, 2).directions(8))
    assert not torch.equal(seed.directions(8), HeadSeed(1, 3).directions(8))
    assert not torch.equal(seed.directions(8), HeadSeed(2, 2).directions(8))
    # Another version of PyTorch must not silently make another model of it.
    expected = torch.tensor([0.09023604, -0.23683299, -0.28694966])
    assert torch.allclose(seed.directions(8)[0, :3], expected, atol=1e-6)
    assert seed.sample(10_000)[:4].tolist() == [4745, 7009, 4399, 9001]


@pytest.mark.parametrize("count", [700, 1024])
def test_hyper_attention_is_attention_with_weights_for_the_sample(count: int) -> None:
    query, key, value = (random(2, count, 8, seed=s) for s in (1, 2, 3))

    found = hyper_attention(query, key, value, layer=4)

    for head in range(2):
        expected = naive(query[head], key[head], value[head], HeadSeed(4, head))
        assert torch.allclose(found[head], expected, atol=1e-5)


def naive(query: Tensor, key: Tensor, value: Tensor, seed: HeadSeed) -> Tensor:
    """Follow the definition query by query."""
    directions = seed.directions(query.shape[1])
    query_order = torch.argsort(buckets(query, directions), stable=True)
    key_order = torch.argsort(buckets(key, directions), stable=True)
    drawn = torch.bincount(key_order[seed.sample(len(key))], minlength=len(key))
    out = torch.empty_like(query)
    for place, token in enumerate(query_order.tolist()):
        multiplicity = drawn * len(key) / SAMPLES
        own = place // BLOCK * BLOCK
        multiplicity[key_order[own : own + BLOCK]] = 1.0
        scores = key @ query[token] / math.sqrt(len(query[token]))
        weight = multiplicity * (scores - scores.max()).exp()
        out[token] = weight @ value / weight.sum()
    return out


def test_hyper_attention_is_close_to_exact_where_similar_tokens_come_in_clusters() -> None:
    centres = 6 * F.normalize(random(8, 16), dim=-1)
    member = torch.arange(2000) % 8
    query, key = (centres[member] + 0.1 * random(1, 2000, 16, seed=s) for s in (2, 3))
    value = centres[member] + 0.1 * random(1, 2000, 16, seed=4)

    exact = F.scaled_dot_product_attention(query, key, value)
    hyper = hyper_attention(query, key, value, layer=0)

    assert (hyper - exact).square().mean() < 0.01 * exact.square().mean()


def test_hyper_attention_of_one_block_is_exact() -> None:
    query, key, value = (random(2, BLOCK, 8, seed=s) for s in (1, 2, 3))

    found = hyper_attention(query, key, value, layer=0)

    assert torch.allclose(found, F.scaled_dot_product_attention(query, key, value), atol=1e-5)
