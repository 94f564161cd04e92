# SPDX-License-Identifier: GPL-3.0-or-later
"""The published network on whole rasters: streamed and in one piece, exact and hyper attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dehaze_core.engine import runner
from dehaze_core.models.dehazexl.hyper_attention import hyper_attention
from dehaze_core.models.dehazexl.published import DehazeXL
from tests.engine.painters import as_model, tiny_dehazexl
from tests.engine.test_painting import dehaze, whole


def attend_hyper(network: DehazeXL) -> None:
    """Let a network in memory use HyperAttention, as the published one from 4,096 tokens on."""
    context = network.context

    def forward(tokens: Tensor, weight: Tensor, budget: int) -> Tensor:
        hidden = context.embed(tokens, 0, tokens.shape[1])
        for number, layer in enumerate(context.each_layer()):
            x = hidden.flatten(1, 2)
            seen = layer.normalise(x)
            key, value = layer.keys_values(seen)
            gathered = hyper_attention(layer.queries(seen)[0], key[0], value[0], number)
            hidden = layer.finish(x, gathered[None]).view_as(hidden)
        return hidden

    context.forward = forward  # type: ignore[method-assign]


@pytest.mark.parametrize("context", ["exact", "hyper"])
@pytest.mark.parametrize("shape", [(512, 512), (768, 768), (700, 1300), (2048, 2048)])
def test_streamed_equals_whole(
    make_raster: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int],
    context: str,
) -> None:
    picture = np.random.default_rng(1).random((3, *shape), np.float32)
    source = make_raster(data=picture)
    network = tiny_dehazexl()
    monkeypatch.setattr(runner, "load_model", lambda name: as_model(network))

    streamed = dehaze(source, tmp_path / "out.tif", block_size=512, context=context)

    if context == "hyper" and min(shape) >= 2048:
        attend_hyper(network)
    with torch.inference_mode():
        assert np.abs(streamed - whole(source, network)).max() <= 1e-5
