# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that paint clear pixels are trained by the same loop, on pixels alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.errors import SettingsError
from dehaze_core.models import load_model
from dehaze_core.models.dehazexl.published import DehazeXL
from dehaze_core.models.dehazexl.published_config import DehazeXLConfig
from dehaze_core.training.batches import HazyBatches, stack
from dehaze_core.training.imagery import ImagePool
from dehaze_core.training.loop import _recompute_stages
from dehaze_core.training.losses import evaluate
from dehaze_core.training.recipe import BatchRecipe, LossWeights, TrainRecipe, load_recipe
from dehaze_core.training.session import LIMITS, PAINTING_LIMITS, TrainFolders, train
from dehaze_core.training.start import begin_with
from tests.training.test_training import ground

TINY = DehazeXLConfig(
    width=8, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), context_layers=1, context_heads=2
)
RECIPE = TrainRecipe(
    minutes=0.02,
    architecture="dehazexl-small",
    config=TINY,
    workers=0,
    batches=BatchRecipe(shapes=((256, 1, 1.0),)),
)


@pytest.fixture
def sample() -> object:
    batches = HazyBatches(ImagePool({"a": [ground(1)]}), [], seed=2)
    rng = np.random.default_rng(1)
    return stack([batches.sample(rng, 256, level) for level in ("L2", "L3")])


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dehaze_core.training.loop.VALIDATION_IMAGES", 1)


def test_steps_lower_the_loss(sample: object) -> None:
    torch.manual_seed(0)
    model = DehazeXL(TINY)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []

    for _ in range(12):
        loss = evaluate(model, sample, LossWeights()).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))

    assert losses[-1] < losses[0] - 0.1


def test_recomputed_stages_give_the_same_gradients(sample: object) -> None:
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = DehazeXL(TINY).eval()
        if recompute:
            _recompute_stages(model)
        evaluate(model, sample, LossWeights()).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])

    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


@pytest.mark.usefixtures("few_images")
def test_a_training_run_writes_weights_of_its_architecture(tmp_path: Path) -> None:
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        Image.fromarray(ground(ord(site))).save(tmp_path / site / "0.png")
    folders = TrainFolders(tmp_path, None, tmp_path / "out")

    card = train(folders, RECIPE, "cpu", None, lambda _: None)

    model = load_model("dehazexl-small", tmp_path / "out")
    assert model.card == card
    assert card.architecture == "dehazexl-small"
    assert isinstance(model.network, DehazeXL)
    assert model.network.config == TINY
    # What goes wrong where an airlight is wrong is no failure of a network that paints.
    assert {*LIMITS, *PAINTING_LIMITS} == {*card.limits}


def test_new_context_layers_begin_as_identities() -> None:
    torch.manual_seed(0)
    trained, deeper = DehazeXL(TINY).eval(), DehazeXL(replace(TINY, context_layers=3)).eval()
    picture = torch.rand(1, 3, 256, 256)
    view = picture, torch.ones(1, 1, 256, 256), torch.ones(1, 8, 8)

    begin_with(deeper, trained)

    with torch.inference_mode():
        assert torch.allclose(deeper(*view).clear, trained(*view).clear, atol=1e-5)


@pytest.mark.usefixtures("few_images")
def test_crops_must_be_whole_patches(tmp_path: Path) -> None:
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        Image.fromarray(ground(ord(site))).save(tmp_path / site / "0.png")
    odd = replace(RECIPE, batches=BatchRecipe(shapes=((320, 1, 1.0),)))

    with pytest.raises(SettingsError, match="crops of 320 px, expected multiples of 256 px"):
        train(TrainFolders(tmp_path, None, tmp_path / "out"), odd, "cpu", None, lambda _: None)


def test_recipes_of_the_published_network_have_its_shape() -> None:
    assert load_recipe("small-gpu").config == DehazeXLConfig(width=32, heads=(1, 2, 4, 8))
    assert load_recipe("base-published").config == DehazeXLConfig()


def test_a_recipe_of_another_model_is_refused(tmp_path: Path) -> None:
    arguments = ["train", "dehazexl-lite", "--data", str(tmp_path), "--recipe", "small-gpu"]

    with pytest.raises(SettingsError, match="small-gpu is for dehazexl-small, not for"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
