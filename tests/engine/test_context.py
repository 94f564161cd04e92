# SPDX-License-Identifier: GPL-3.0-or-later
"""The context step: every way of attention streamed equals the same in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.tokens.context import ContextStep, SceneContext, choose_backend
from dehaze_core.engine.tokens.context_backends import (
    BoundedAttention,
    ContextBackend,
    ExactAttention,
)
from dehaze_core.engine.tokens.hidden_tokens import HiddenTokens
from dehaze_core.engine.tokens.hyper_context import HyperAttention
from dehaze_core.grid import BlockGrid
from dehaze_core.models.dehazexl.context import ContextLayer, ContextNetwork, GlobalLayer
from dehaze_core.models.dehazexl.hyper_attention import hyper_attention
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig

ROWS, COLS, WIDTH = 24, 31, 16

OUT_OF_CORE = ExactAttention(keys_bytes=0, key_block=100)
HYPER = HyperAttention(exact_below=0)
BACKENDS = [ExactAttention(), OUT_OF_CORE, BoundedAttention(50), HYPER]


@pytest.fixture(scope="module")
def layer() -> ContextLayer:
    torch.manual_seed(1)
    layer = ContextLayer(WIDTH, heads=2, head_dim=8).eval()
    layer.query.weight.data *= 6  # attention that prefers some keys to others
    return layer


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(1, ROWS, COLS, WIDTH, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def weight() -> Tensor:
    """Shares of valid pixels, with a corner and rows of several strips in which nothing is."""
    weight = torch.rand(1, ROWS, COLS, generator=torch.Generator().manual_seed(3)) + 0.01
    weight[:, 8:13] = 0
    weight[:, :5, :9] = 0
    return weight


Update = Callable[..., Tensor]


@pytest.fixture
def update(tmp_path: Path, layer: ContextLayer) -> Update:
    def run(
        backend: ContextBackend, tokens: Tensor, weight: Tensor, strip_tokens: int = 100
    ) -> Tensor:
        cpu = torch.device("cpu")
        hidden = HiddenTokens(tmp_path, weight[0].numpy(), WIDTH, cpu, strip_tokens)
        hidden.write(0, tokens)
        shares: list[float] = []
        with torch.inference_mode():
            backend.update(layer, 0, hidden, shares.append)
        result = torch.cat([hidden.read(strip) for strip in hidden.strips()], dim=1)
        hidden.delete()
        assert not list(tmp_path.iterdir()), "scratch files stay behind"
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        return result

    return run


@torch.inference_mode()
def in_memory(layer: GlobalLayer, tokens: Tensor, weight: Tensor, k: int = 1) -> Tensor:
    return layer(tokens, layer.keys(*layer.pooled(tokens, weight, k)))


@torch.inference_mode()
def hyper_in_memory(layer: GlobalLayer, tokens: Tensor, weight: Tensor) -> Tensor:
    x = tokens.flatten(1, 2)
    valid = weight.flatten() > 0
    normalised = layer.normalise(x[:, valid])
    key, value = layer.keys_values(normalised)
    attended = torch.zeros(1, layer.heads, x.shape[1], layer.head_dim)
    attended[0, :, valid] = hyper_attention(layer.queries(normalised)[0], key[0], value[0], 0)
    return layer.finish(x, attended).view_as(tokens)


@pytest.mark.parametrize("key_block", [7, 100, 10_000])
@pytest.mark.parametrize("strip_tokens", [100, 10_000])
def test_exact_out_of_core_equals_exact(
    update: Update,
    layer: ContextLayer,
    tokens: Tensor,
    weight: Tensor,
    key_block: int,
    strip_tokens: int,
) -> None:
    backend = ExactAttention(keys_bytes=0, key_block=key_block)

    found = update(backend, tokens, weight, strip_tokens)

    assert torch.allclose(found, in_memory(layer, tokens, weight), atol=1e-5)


@pytest.mark.parametrize("strip_tokens", [1, 100, 10_000])
def test_exact_and_bounded_streamed_equal_the_whole(
    update: Update, layer: ContextLayer, tokens: Tensor, weight: Tensor, strip_tokens: int
) -> None:
    exact = update(ExactAttention(), tokens, weight, strip_tokens)
    bounded = update(BoundedAttention(50), tokens, weight, strip_tokens)

    assert torch.allclose(exact, in_memory(layer, tokens, weight), atol=1e-5)
    assert torch.allclose(bounded, in_memory(layer, tokens, weight, 4), atol=1e-5)
    assert not torch.allclose(exact, bounded, atol=1e-3)


def test_bounded_equals_exact_while_the_budget_suffices(
    update: Update, tokens: Tensor, weight: Tensor
) -> None:
    exact = update(ExactAttention(), tokens, weight)

    assert torch.equal(update(BoundedAttention(ROWS * COLS), tokens, weight), exact)


@pytest.mark.parametrize("strip_tokens", [1, 100, 10_000])
@pytest.mark.parametrize("gaps", [True, False])
def test_hyper_streamed_equals_the_whole(
    update: Update,
    layer: ContextLayer,
    tokens: Tensor,
    weight: Tensor,
    strip_tokens: int,
    gaps: bool,
) -> None:
    weight = weight if gaps else torch.ones_like(weight)

    found = update(HYPER, tokens, weight, strip_tokens)

    assert torch.allclose(found, hyper_in_memory(layer, tokens, weight), atol=1e-5)
    assert not torch.allclose(found, in_memory(layer, tokens, weight), atol=1e-3)


def test_hyper_with_few_tokens_is_exact(update: Update, tokens: Tensor, weight: Tensor) -> None:
    assert torch.equal(
        update(HyperAttention(), tokens, weight), update(ExactAttention(), tokens, weight)
    )


def test_hyper_on_several_runs_of_blocks_equals_the_whole(
    tmp_path: Path, layer: ContextLayer
) -> None:
    tokens = torch.randn(1, 150, 120, WIDTH, generator=torch.Generator().manual_seed(4))
    weight = torch.ones(1, 150, 120)
    hidden = HiddenTokens(tmp_path, weight[0].numpy(), WIDTH, torch.device("cpu"))
    hidden.write(0, tokens)
    with torch.inference_mode():
        HyperAttention().update(layer, 0, hidden, lambda _: None)
    found = torch.cat([hidden.read(strip) for strip in hidden.strips()], dim=1)
    hidden.delete()

    assert torch.allclose(found, hyper_in_memory(layer, tokens, weight), atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS, ids=repr)
def test_tokens_without_data_have_no_influence(
    update: Update, tokens: Tensor, weight: Tensor, backend: ContextBackend
) -> None:
    changed = torch.where(weight[..., None] > 0, tokens, 1e3)

    first, second = update(backend, tokens, weight), update(backend, changed, weight)

    assert torch.equal(first[weight > 0], second[weight > 0])
    assert first.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS, ids=repr)
def test_one_token_with_data_sees_itself_only(
    update: Update, layer: ContextLayer, tokens: Tensor, backend: ContextBackend
) -> None:
    weight = torch.zeros(1, ROWS, COLS)
    weight[0, 17, 3] = 0.2
    alone = in_memory(layer, tokens[:, 17:18, 3:4], weight[:, 17:18, 3:4])

    found = update(backend, tokens, weight)

    assert torch.allclose(found[0, 17, 3], alone[0, 0, 0], atol=1e-5)
    assert found.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS, ids=repr)
def test_runs_repeat_bit_by_bit(
    update: Update, tokens: Tensor, weight: Tensor, backend: ContextBackend
) -> None:
    assert torch.equal(update(backend, tokens, weight), update(backend, tokens, weight))


def test_automatic_choice_is_exact_while_the_budget_suffices() -> None:
    assert choose_backend("auto", 8, 8, 64) == ExactAttention()
    assert choose_backend("auto", 8, 9, 64) == BoundedAttention(64)
    assert choose_backend("exact", 800, 900, 64).name == "exact"
    assert choose_backend("bounded", 8, 8, 64).name == "bounded"
    assert choose_backend("hyper", 8, 8, 64).name == "hyper"


@pytest.mark.parametrize("backend", BACKENDS, ids=repr)
def test_scratch_space_is_forecast(layer: ContextLayer, backend: ContextBackend) -> None:
    vectors = {"exact": 2, "bounded": 0, "hyper": 3}[backend.name]
    out_of_core = 0 if backend == ExactAttention() else vectors

    assert backend.scratch_bytes(layer, 1000) == 1000 * out_of_core * 2 * 8 * 4


class Widened(ContextNetwork):
    """A bottleneck that works on longer vectors than the tokens."""

    def __init__(self) -> None:
        super().__init__(2 * WIDTH, layers=2, heads=2, head_dim=8)

    def embed(self, tokens: Tensor, row: int, rows: int) -> Tensor:
        return super().embed(torch.cat((tokens, tokens), dim=-1), row, rows)


class WidenedNetwork(DehazeXLLite):
    """A network whose tokens and hidden states differ in length."""

    def __init__(self) -> None:
        super().__init__(LiteConfig(widths=(8, 8, 8, WIDTH)))
        self.context = Widened()
        self.condition_width = 3 * WIDTH

    def scene_sums(self, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return super().scene_sums(hidden[..., :WIDTH], weight)

    def conditions(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        return torch.cat((tokens, hidden), dim=-1)


@contextmanager
def stored(folder: Path, tokens: Tensor, weight: Tensor) -> Iterator[tuple[BlockGrid, ResultStore]]:
    _, rows, cols, width = tokens.shape
    grid = BlockGrid(rows * 32, cols * 32, 8 * 32, 0, 32)
    store = ResultStore.open(
        folder / "tokens",
        shape=(width + 1, rows, cols),
        dtype="float32",
        chunk=8,
        settings_hash="same",
    )
    values = torch.cat((tokens, weight[..., None]), dim=-1)[0].permute(2, 0, 1).numpy()
    for block in grid:
        window = grid.cells(block.core)
        store.write(window, values[(slice(None), *window.slices)])
    yield grid, store


def run_step(
    network: DehazeXLLite, folder: Path, tokens: Tensor, weight: Tensor, **options: object
) -> SceneContext:
    with stored(folder, tokens, weight) as (grid, store):
        step = ContextStep(network, torch.device("cpu"), grid, store, folder, **options)  # type: ignore[arg-type]
        context = step.run(lambda _: None)
    assert context is not None
    return context


def test_step_works_on_hidden_states_of_another_length(
    tmp_path: Path, tokens: Tensor, weight: Tensor
) -> None:
    torch.manual_seed(5)
    network = WidenedNetwork().eval()

    context = run_step(network, tmp_path, tokens, weight)

    with torch.inference_mode():
        hidden = network.context(tokens, weight, network.context_budget)
        scene = network.scene_haze(*network.scene_sums(hidden, weight))
    found = context.conditions.read_rows(0, ROWS)
    assert np.allclose(found, network.conditions(tokens, hidden)[0].numpy(), atol=1e-5)
    assert torch.allclose(context.scene.airlight, scene.airlight, atol=1e-5)


def test_step_takes_what_an_earlier_one_has_finished_unless_it_is_damaged(
    tmp_path: Path, tokens: Tensor, weight: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    network = WidenedNetwork().eval()
    first = run_step(network, tmp_path, tokens, weight).conditions.read_rows(0, ROWS)
    calls: list[int] = []
    update = ExactAttention.update
    monkeypatch.setattr(ExactAttention, "update", lambda *args: (calls.append(1), update(*args))[1])

    again = run_step(network, tmp_path, tokens, weight).conditions.read_rows(0, ROWS)
    assert not calls
    with (tmp_path / "conditions.f32").open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    repaired = run_step(network, tmp_path, tokens, weight).conditions.read_rows(0, ROWS)

    assert len(calls) == 2
    assert np.array_equal(again, first)
    assert np.array_equal(repaired, first)


def test_step_uses_the_backend_it_is_given(tmp_path: Path, tokens: Tensor, weight: Tensor) -> None:
    torch.manual_seed(5)
    network = WidenedNetwork().eval()
    found = {}
    for name, backend in (("auto", None), ("exact", OUT_OF_CORE), ("hyper", HYPER)):
        folder = tmp_path / name
        folder.mkdir()
        context = run_step(network, folder, tokens, weight, backend=backend)
        found[name] = context.conditions.read_rows(0, ROWS)

    assert np.allclose(found["auto"], found["exact"], atol=1e-5)
    assert not np.allclose(found["auto"], found["hyper"], atol=1e-5)
