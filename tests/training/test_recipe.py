# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipes are files, and a wrong one says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_core.errors import SettingsError
from dehaze_core.training.recipe import (
    RECIPES_FOLDER,
    BatchRecipe,
    Distillation,
    TrainRecipe,
    load_recipe,
)


@pytest.mark.parametrize("path", sorted(RECIPES_FOLDER.glob("*.toml")), ids=lambda p: p.stem)
def test_recipes_of_ours_can_be_read(path: Path) -> None:
    recipe = load_recipe(path.stem)

    assert recipe == load_recipe(str(path))
    assert recipe.budget.used(10**9, 10**9) > 1


def test_the_defaults_are_the_recipe_of_the_shipped_weights() -> None:
    assert load_recipe("lite-cpu", steps=7, seed=None) == TrainRecipe(steps=7)


def test_a_budget_of_minutes_takes_the_place_of_steps() -> None:
    assert load_recipe("lite-cpu", minutes=7) == TrainRecipe(minutes=7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minutes = 1\nspeed = 3", "has speed, expected only architecture"),
        ("minutes = 1\n[loss]\nbeauty = 1.0", "has beauty, expected only airlight"),
        ("seed = 1", "'minutes' None and 'steps' None, expected one of both"),
        ("minutes = 1\nsteps = 2", "'minutes' 1 and 'steps' 2, expected one of both"),
        ("steps = 2.0", "'steps' .* 2.0, expected a whole number > 0"),
        ("minutes = -1", "expected > 0"),
        ("minutes = 1\nlearning_rate = 'x'", "'learning_rate' .* 'x', expected > 0"),
        ("minutes = 1\nlearning_rate = true", "expected > 0"),
        ("minutes = 1\nwarmup = 1.0", "'warmup' .* 1.0, expected 0 or more"),
        ("minutes = 1\nema = 1.5", "'ema' .* 1.5"),
        ("minutes = 1\nworkers = 1.5", "'workers' .* whole number"),
        ("minutes = 1\nbatches = 3", "has 3 for a table of levels, shapes"),
        ("minutes = 1\n[batches]\nshapes = [[256, 8]]", "batch shape is \\(256, 8\\)"),
        ("minutes = 1\n[batches]\nshapes = 5", "shapes 5"),
        ("minutes = 1\n[batches]\nlevels = { L1 = -1.0, L2 = 2.0 }", "at least 0"),
        ("minutes = 1\n[batches]\nlevels = 3", "levels 3"),
        ("minutes = 1\n[loss]\nimage = 'much'", "weight 'image' of the loss is 'much'"),
        ("minutes = 1\n[network]\nwidths = [32, 64]", "'widths' .* expected something like"),
        ("minutes = 1\n[network]\ndecoder_kernels = [5, 4, 3]", "kernels are even"),
        ("minutes = 1\n[network]\nwidths = [8, 8, 8, 30]", "last width is 30"),
        ("minutes = 1\n[network]\ncontext_layers = 0", "'context_layers' is 0"),
        ("minutes = 1\n[distillation]\nkind = 'magic'", "'kind' .* expected one of outputs, feat"),
        ("minutes = 1\n[distillation]\nloss = 3", "'loss' .* 3, expected one of l2, l1, kl"),
        ("minutes = 1\n[distillation]\nweight = -1", "weight of a distillation is -1"),
        ("minutes = 1\n[distillation]\nteacher = 5", "'teacher' .* 5, expected a name"),
        ("minutes = 1\n[distillation]\nbeauty = 1", "has beauty, expected only kind"),
        ("minutes = 1\nstart = 5", "'start' .* 5, expected the name of a model"),
        ("minutes = 1\n[guide]\nsources = { magic = 1 }", "sources .* expected shares .* of clear"),
        ("minutes = 1\n[guide]\nsources = { clear = 0 }", "at least 0, not all 0"),
        ("minutes = 1\n[guide]\nsegmenter = 'mobile'", "one of felzenszwalb, slic, files"),
        ("minutes = 1\n[guide]\ncoding = 3", "'coding' .* 3, expected one of paint"),
        ("minutes = 1\n[guide]\nsegmenter = 'files'\ncoding = 'paper_sum_clip'", "do not overlap"),
        ("minutes = 1\n[guide]\nbeauty = 1", "has beauty, expected only coding"),
        ("minutes", "not TOML"),
        ("minutes = 1\n[batches]\nshapes = [[100, 1, 1.0]]", "multiples of 32 px"),
        ("minutes = 1\n[batches]\nlevels = { L9 = 1.0 }", "of the levels L0"),
    ],
)
def test_a_wrong_recipe_is_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)

    with pytest.raises(SettingsError, match=message):
        load_recipe(str(path))


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(
        SettingsError, match=r"known are base-published, distilled-cpu, .* small-gpu, or give"
    ):
        load_recipe("lite-quantum")


def test_levels_and_shapes_must_be_given() -> None:
    with pytest.raises(SettingsError, match="expected some"):
        BatchRecipe(shapes=())


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        (None, None, Distillation()),
        ("none", None, None),
        ("outputs", None, Distillation("outputs")),
        (None, "mine", Distillation(teacher="mine")),
        ("model", "mine", Distillation("model", model="mine")),
    ],
)
def test_the_guide_of_a_recipe_can_be_replaced(
    kind: str | None, source: str | None, expected: Distillation | None
) -> None:
    recipe = load_recipe("distilled-cpu")

    assert recipe.guided_by(kind, source).distillation == expected
    assert TrainRecipe(minutes=1).guided_by("features", None).distillation == Distillation()
    assert TrainRecipe(minutes=1).guided_by(None, None).distillation is None
