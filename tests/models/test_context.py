# SPDX-License-Identifier: GPL-3.0-or-later
"""The global bottleneck: bounded context, masks, strips."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from dehaze_core.models.dehazexl.context import (
    ContextLayer,
    ContextNetwork,
    pool_strip,
    pooling_factor,
    position_code,
)


@pytest.fixture
def network() -> ContextNetwork:
    torch.manual_seed(1)
    return ContextNetwork(32, layers=2, heads=2, head_dim=8).eval()


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 5000))
def test_pooling_factor_is_the_smallest_that_fits(rows: int, cols: int, budget: int) -> None:
    k = pooling_factor(rows, cols, budget)

    assert math.ceil(rows / k) * math.ceil(cols / k) <= budget
    assert k == 1 or math.ceil(rows / (k - 1)) * math.ceil(cols / (k - 1)) > budget


@torch.no_grad()
def test_bounded_equals_exact_while_the_budget_suffices(network: ContextNetwork) -> None:
    tokens, weight = torch.randn(2, 6, 9, 32), torch.ones(2, 6, 9)

    assert torch.equal(network(tokens, weight, 54), network(tokens, weight, 100_000))
    assert not torch.allclose(network(tokens, weight, 53), network(tokens, weight, 54))


@torch.no_grad()
def test_attention_equals_the_plain_formula(network: ContextNetwork) -> None:
    layer = network.layers[0]
    assert isinstance(layer, ContextLayer)
    hidden, weight = torch.randn(1, 3, 4, 32), torch.ones(1, 3, 4)

    x = hidden.reshape(12, 32)
    normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * layer.norm_attention.weight
    query = layer.query(normed).view(12, 2, 8)
    key, value = layer.key_value(normed).chunk(2, -1)
    key, value = key.view(12, 2, 8), value.view(12, 2, 8)
    scores = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(8)
    attended = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value).reshape(12, 16)
    x = x + layer.output(attended)
    normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * layer.norm_mlp.weight
    gate, up = layer.gate_up(normed).chunk(2, -1)
    expected = x + layer.down(F.gelu(gate) * up)

    found = layer(hidden, layer.keys(*layer.pooled(hidden, weight, 1)))

    assert torch.allclose(found.view(12, 32), expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("budget", [100, 9])
def test_tokens_without_data_have_no_influence(network: ContextNetwork, budget: int) -> None:
    tokens, weight = torch.randn(1, 8, 8, 32), torch.ones(1, 8, 8)
    weight[:, 5:] = 0
    changed = tokens.clone()
    changed[:, 5:] = 1e3

    first, second = network(tokens, weight, budget), network(changed, weight, budget)

    assert torch.allclose(first[:, :5], second[:, :5], atol=1e-5)


@torch.no_grad()
def test_pooling_strip_by_strip_equals_pooling_at_once() -> None:
    values, weight = torch.randn(1, 11, 7, 5), torch.rand(1, 11, 7)

    whole, total = pool_strip(values, weight, 3)
    parts = [pool_strip(values[:, r : r + 6], weight[:, r : r + 6], 3) for r in (0, 6)]

    assert torch.allclose(torch.cat([p[0] for p in parts], 1), whole, atol=1e-6)
    assert torch.allclose(torch.cat([p[1] for p in parts], 1), total, atol=1e-6)


def test_position_code_of_a_strip_is_a_part_of_the_whole_and_relative() -> None:
    whole = position_code(0, 10, 10, 6, 16)

    assert torch.equal(position_code(3, 7, 10, 6, 16), whole[3:7])
    # The centre of a token is that of the middle one of 3 x 3 in a scene three times as large.
    assert torch.allclose(position_code(0, 30, 30, 18, 16)[1::3, 1::3], whole, atol=1e-5)
