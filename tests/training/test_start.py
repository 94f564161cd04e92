# SPDX-License-Identifier: GPL-3.0-or-later
"""A training that goes on from a trained model begins where that one ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dehaze_core.errors import ModelError
from dehaze_core.models import load_model, save_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig
from dehaze_core.training.start import begin_with, find_start

TINY = LiteConfig(
    widths=(8, 12, 16, 24),
    encoder_blocks=(1, 1, 1, 1),
    decoder_blocks=(1, 1, 1),
    context_layers=1,
    context_heads=2,
    context_head_dim=8,
)


def network(seed: int, config: LiteConfig = TINY) -> DehazeXLLite:
    torch.manual_seed(seed)
    return DehazeXLLite(config).eval()


def thickness(model: DehazeXLLite) -> torch.Tensor:
    picture = torch.from_numpy(np.random.default_rng(3).random((1, 3, 64, 96), np.float32))
    with torch.inference_mode():
        maps, _ = model(picture, torch.ones(1, 1, 64, 96), torch.ones(1, 2, 3))
    return maps.thickness


@pytest.mark.parametrize("layers", [1, 3])
def test_it_begins_with_what_the_trained_model_computes(layers: int) -> None:
    trained, fresh = network(1), network(2, replace(TINY, context_layers=layers))
    assert not torch.allclose(thickness(fresh), thickness(trained))

    begin_with(fresh, trained)

    assert torch.allclose(thickness(fresh), thickness(trained), atol=1e-6)


def test_layers_that_are_new_can_learn() -> None:
    fresh = network(2, replace(TINY, context_layers=2))
    begin_with(fresh, network(1))
    picture = torch.rand(1, 3, 64, 64)

    maps, _ = fresh(picture, torch.ones(1, 1, 64, 64), torch.ones(1, 2, 2))
    maps.thickness.sum().backward()

    gradient = fresh.context.each_layer()[1].down.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    "other",
    [
        replace(TINY, widths=(8, 12, 16, 28)),
        replace(TINY, decoder_blocks=(1, 1, 2)),
        replace(TINY, context_layers=2),
    ],
)
def test_another_shape_is_refused(other: LiteConfig) -> None:
    with pytest.raises(ModelError, match="another shape") as caught:
        begin_with(network(1), network(2, other))

    assert caught.value.code == "MODEL_SHAPE"


def test_the_start_is_found_by_name_by_folder_and_by_file(tmp_path: Path) -> None:
    save_model(network(1), "mine", tmp_path, {})

    shipped = find_start("dehazexl-lite")
    by_folder, by_file = find_start(str(tmp_path)), find_start(str(tmp_path / "mine.safetensors"))

    assert shipped.card == load_model("dehazexl-lite").card
    assert by_folder.card == by_file.card
    assert by_folder.card.name == "mine"


def test_a_folder_must_hold_one_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds 0 weights files, expected one"):
        find_start(str(tmp_path))
