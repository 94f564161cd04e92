# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: it learns, resumes, and writes weights that load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dehaze_core.engine.device import choose_device
from dehaze_core.errors import SettingsError
from dehaze_core.haze.noise import fractal_noise
from dehaze_core.models import load_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig
from dehaze_core.training.batches import HazyBatches, stack
from dehaze_core.training.imagery import ImagePool
from dehaze_core.training.loop import Trainer, TrainRecipe
from dehaze_core.training.losses import LossWeights, evaluate
from dehaze_core.training.session import TrainFolders, train_lite

TINY = LiteConfig(
    widths=(8, 12, 16, 24),
    encoder_blocks=(1, 1, 1, 1),
    decoder_blocks=(1, 1, 1),
    context_layers=1,
    context_heads=2,
    context_head_dim=8,
)
RECIPE = TrainRecipe(minutes=0.02, config=TINY, workers=0)


def ground(seed: int, side: int = 256) -> np.ndarray:
    y, x = np.meshgrid(np.arange(side) / 40.0, np.arange(side) / 40.0, indexing="ij")
    bands = [90 + 35 * fractal_noise(y, x, seed * 10 + band, 5) for band in range(3)]
    return np.clip(np.stack(bands, -1), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def batches() -> HazyBatches:
    pool = ImagePool({"a": [ground(seed) for seed in range(3)]})
    return HazyBatches(pool, [], seed=2, shapes=((64, 4),), shape_weights=(1.0,))


def trainer(folder: Path, batches: HazyBatches, recipe: TrainRecipe = RECIPE) -> Trainer:
    return Trainer(recipe, batches, batches, folder, choose_device("cpu"), lambda _: None)


def test_steps_lower_the_loss(batches: HazyBatches) -> None:
    torch.manual_seed(0)
    model = DehazeXLLite(TINY)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    rng = np.random.default_rng(1)
    fixed = stack([batches.sample(rng, 64, level) for level in ("L2", "L3", "L3", "L4")])
    losses = []

    for _ in range(25):
        loss = evaluate(model, fixed, LossWeights()).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.8 * losses[0]


def test_invalid_pixels_have_no_part_in_the_loss(batches: HazyBatches) -> None:
    torch.manual_seed(0)
    model = DehazeXLLite(TINY).eval()
    sample = batches.sample(np.random.default_rng(1), 64, "L2")
    sample.valid[..., 32:] = False
    first = evaluate(model, sample, LossWeights()).loss
    sample.clear[..., 32:] = 255 - sample.clear[..., 32:]
    sample.hazy[..., 32:] = 0

    assert torch.allclose(first, evaluate(model, sample, LossWeights()).loss)


def test_a_stopped_training_goes_on(tmp_path: Path, batches: HazyBatches) -> None:
    first = trainer(tmp_path, batches)
    first.run()
    steps = first.state.step

    second = trainer(tmp_path, batches, TrainRecipe(minutes=0.04, config=TINY, workers=0))

    assert second.state.step == steps > 0
    second.run()
    assert second.state.step > steps
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_a_training_run_writes_weights_that_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for seed in range(10):
        Image.fromarray(ground(seed)).save(data / f"{seed}.png")
    monkeypatch.setattr("dehaze_core.training.loop.VALIDATION_IMAGES", 1)

    card = train_lite(
        TrainFolders(data, None, tmp_path / "out"), RECIPE, "cpu", None, lambda _: None
    )

    model = load_model("dehazexl-lite", tmp_path / "out")
    assert model.card == card
    assert card.training["images"] == 9
    assert set(card.scores["held_out"]) >= {"L0_rms_dn", "L1", "L4"}


def test_a_budget_of_nothing_is_refused(tmp_path: Path, batches: HazyBatches) -> None:
    with pytest.raises(SettingsError, match="minutes"):
        trainer(tmp_path, batches, TrainRecipe(minutes=0))
