# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: it learns, resumes, and writes weights that load."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dehaze_core.engine.device import choose_device
from dehaze_core.errors import SettingsError
from dehaze_core.haze.noise import fractal_noise
from dehaze_core.models import load_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig
from dehaze_core.training.batches import HazyBatches, StepSampler, stack
from dehaze_core.training.imagery import ImagePool
from dehaze_core.training.log import TrainLog
from dehaze_core.training.loop import Trainer, _recompute_stages
from dehaze_core.training.losses import evaluate
from dehaze_core.training.recipe import BatchRecipe, LossWeights, TrainRecipe
from dehaze_core.training.session import HAZE_LIMITS, LIMITS, TrainFolders, prior_correction, train

TINY = LiteConfig(
    widths=(8, 12, 16, 24),
    encoder_blocks=(1, 1, 1, 1),
    decoder_blocks=(1, 1, 1),
    context_layers=1,
    context_heads=2,
    context_head_dim=8,
)
SMALL = BatchRecipe(shapes=((64, 4, 1.0),))
RECIPE = TrainRecipe(minutes=0.02, config=TINY, workers=0, batches=SMALL)


def ground(seed: int, side: int = 256) -> np.ndarray:
    y, x = np.meshgrid(np.arange(side) / 40.0, np.arange(side) / 40.0, indexing="ij")
    bands = [90 + 35 * fractal_noise(y, x, seed * 10 + band, 5) for band in range(3)]
    return np.clip(np.stack(bands, -1), 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dehaze_core.training.loop.VALIDATION_IMAGES", 1)


@pytest.fixture(scope="module")
def batches() -> HazyBatches:
    pool = ImagePool({"a": [ground(seed) for seed in range(3)]})
    return HazyBatches(pool, [], seed=2, recipe=SMALL)


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

    second = trainer(tmp_path, batches, replace(RECIPE, minutes=0.04, clear_in_use=0.3))

    assert second.state.step == steps > 0
    second.run()
    assert second.state.step > steps
    assert [row["step"] for row in TrainLog(tmp_path).rows()] == [0, steps, second.state.step]
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_training_of_steps_is_the_same_when_it_is_stopped(
    tmp_path: Path, batches: HazyBatches
) -> None:
    recipe = replace(RECIPE, minutes=None, steps=4)
    whole = trainer(tmp_path / "whole", batches, recipe).run().state_dict()
    first = trainer(tmp_path / "parts", batches, recipe)
    for batch in islice(DataLoader(batches, batch_size=None, sampler=StepSampler(0)), 2):
        first._step(batch, recipe.budget.used(first.state.step, 0.0))
    first._save()

    parts = trainer(tmp_path / "parts", batches, recipe).run().state_dict()

    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 21, "learning_rate": 2e-3}, "learning_rate, seed"),
        ({"config": replace(TINY, context_layers=2)}, "config"),
        ({"weights": LossWeights(frequency=0.1)}, "weights"),
    ],
)
def test_a_training_does_not_go_on_with_another_recipe(
    tmp_path: Path, batches: HazyBatches, changes: dict[str, Any], named: str
) -> None:
    first = trainer(tmp_path, batches)
    first._save()

    with pytest.raises(SettingsError, match=f"other values of {named}\\..*--out"):
        trainer(tmp_path, batches, replace(RECIPE, **changes))


def test_a_checkpoint_that_does_not_tell_its_recipe_is_resumed(
    tmp_path: Path, batches: HazyBatches
) -> None:
    first = trainer(tmp_path, batches)
    first.state.step = 7
    first._save()
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    del saved["recipe"]
    torch.save(saved, tmp_path / "state.pt")

    assert trainer(tmp_path, batches).state.step == 7


def test_a_training_run_writes_weights_that_load(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for seed in range(6):
        (data / f"site-{seed % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(ground(seed)).save(data / f"site-{seed % 3}" / f"{seed}.png")

    card = train(TrainFolders(data, None, tmp_path / "out"), RECIPE, "cpu", None, lambda _: None)

    model = load_model("dehazexl-lite", tmp_path / "out")
    assert model.card == card
    assert card.training["images"] == 4
    assert len(card.training["held_out_sites"]) == 1
    assert {*LIMITS, *HAZE_LIMITS} == {*card.limits}
    assert set(card.scores["held_out"]) >= {"L0_rms_dn", "L1", "L4"}


def test_a_training_goes_on_from_a_model_without_its_adjusted_presence(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for site in ("a", "b"):
        (data / site).mkdir(parents=True)
        Image.fromarray(ground(ord(site))).save(data / site / "0.png")
    still = replace(RECIPE, learning_rate=1e-12)
    first = train(TrainFolders(data, None, tmp_path / "first"), still, "cpu", None, lambda _: None)
    start = load_model("dehazexl-lite", tmp_path / "first")

    second = train(
        TrainFolders(data, None, tmp_path / "second"), still, "cpu", None, lambda _: None, start
    )

    found = load_model("dehazexl-lite", tmp_path / "second").network.state_dict()
    wanted = load_model("dehazexl-lite", tmp_path / "first").network.state_dict()
    assert all(torch.allclose(found[key], value, atol=2e-3) for key, value in wanted.items())
    assert second.training["start"] == {"sha256": first.sha256, "training": first.training}


def test_a_run_that_has_stopped_to_learn_ends_early(
    tmp_path: Path, batches: HazyBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, minutes=60, learning_rate=1e-12, validate_every=0.001, patience=2)
    run = trainer(tmp_path, batches, recipe)
    # Weights that hardly move: whether the loss falls is up to the last bits.
    monkeypatch.setattr(run, "validate", lambda: {"held_out_loss": 1.0, "L1": 20.0})

    run.run()

    assert len(run.log.rows()) == 3


def test_a_run_that_ends_early_returns_its_best_weights(
    tmp_path: Path, batches: HazyBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, minutes=60, validate_every=0.001, patience=2)
    run = trainer(tmp_path, batches, recipe)
    losses, averages = iter([3.0, 1.0, 2.0, 2.0]), []

    def validate() -> dict[str, float]:
        averages.append({k: v.clone() for k, v in run.state.average.state_dict().items()})
        return {"held_out_loss": next(losses), "L1": 20.0}

    monkeypatch.setattr(run, "validate", validate)

    returned = run.run().state_dict()

    assert len(averages) == 4
    assert all(torch.equal(value, averages[1][key]) for key, value in returned.items())
    assert not all(torch.equal(value, averages[3][key]) for key, value in returned.items())


def test_recomputed_stages_give_the_same_gradients(batches: HazyBatches) -> None:
    sample = batches.sample(np.random.default_rng(1), 64, "L2")
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = DehazeXLLite(TINY)
        if recompute:
            _recompute_stages(model)
        evaluate(model, sample, LossWeights()).loss.backward()
        gradients.append([p.grad for p in model.parameters()])

    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_the_frequency_part_of_the_loss_counts(batches: HazyBatches) -> None:
    torch.manual_seed(0)
    model = DehazeXLLite(TINY).eval()
    sample = batches.sample(np.random.default_rng(1), 64, "L3")

    plain, more = (evaluate(model, sample, LossWeights(frequency=w)).loss for w in (0.0, 1.0))

    assert more > plain


def test_presence_is_adjusted_to_the_share_of_clear_scenes_in_use() -> None:
    trained = {"L0": 0.25, "L2": 0.75}

    same, half = prior_correction(trained, 0.25), prior_correction(trained, 0.5)

    assert same == pytest.approx(0.0)
    assert half == pytest.approx(-np.log(3))


def test_a_raised_presence_changes_only_what_is_taken_for_hazy(batches: HazyBatches) -> None:
    torch.manual_seed(0)
    network = DehazeXLLite(TINY).eval()
    sample = batches.sample(np.random.default_rng(1), 64, "L2")
    view = (sample.hazy.float() / 255, sample.valid.float(), torch.ones(1, 2, 2))
    with torch.inference_mode():
        before, _ = network(*view)
        network.raise_presence(-1.5)
        after, _ = network(*view)

    assert torch.allclose(after.presence, before.presence - 1.5)
    assert torch.equal(after.airlight, before.airlight)
