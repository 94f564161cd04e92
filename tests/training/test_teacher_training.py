# SPDX-License-Identifier: GPL-3.0-or-later
"""A teacher learns to enlarge clear pictures, and its weights are read with suspicion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.errors import ModelError, SettingsError
from dehaze_core.models import list_models
from dehaze_core.models.registry import WEIGHTS_FOLDER
from dehaze_core.models.student.teacher import Teacher, TeacherConfig
from dehaze_core.models.teachers import TEACHERS_FOLDER, load_teacher, save_teacher
from dehaze_core.training.budget import Budget
from dehaze_core.training.imagery import ImagePool
from dehaze_core.training.teacher import (
    TeacherRecipe,
    bicubic,
    coarse,
    draw,
    psnr,
    train_teacher,
)
from tests.training.pictures import TEACHER, clear_folder, saved_teacher
from tests.training.test_training import ground

RECIPE = TeacherRecipe(Budget(steps=60), learning_rate=2e-2, side=32, count=4, config=TEACHER)


@pytest.fixture(autouse=True)
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dehaze_core.training.teacher.HELD_OUT_CROPS", 2)


def test_a_teacher_learns_and_writes_weights_that_load(tmp_path: Path) -> None:
    lines: list[str] = []

    card = train_teacher(
        clear_folder(tmp_path / "data"), tmp_path / "out", RECIPE, "cpu", 1, lines.append
    )

    found = load_teacher(str(tmp_path / "out" / "rfd-teacher-dsc.safetensors"))
    assert found.card == card
    assert found.network.config == TEACHER
    assert card.training["steps"] == 60
    assert len(card.training["held_out_sites"]) == 1
    fine = draw(ImagePool({"a": [ground(7)]}), np.random.default_rng(3), 32, 4)
    torch.manual_seed(RECIPE.seed)
    assert psnr(found.network, fine) > psnr(Teacher(TEACHER).eval(), fine) + 3
    assert set(card.scores["held_out"]) == {"PSNR", "PSNR of bicubic interpolation"}
    assert "bicubic" in lines[-1]


def test_a_training_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if "PSNR" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_teacher(clear_folder(tmp_path / "data"), tmp_path / "out", RECIPE, "cpu", 1, stop)

    assert not (tmp_path / "out").exists()


def test_coarse_pictures_are_means_and_a_constant_is_found_again() -> None:
    picture = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    flat = torch.full((1, 3, 16, 16), 0.3)

    assert coarse(picture).item() == 0.5
    assert psnr(bicubic, flat) > 90


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"config": TeacherConfig(bands=4)}])
def test_recipes_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        TeacherRecipe(**wrong)


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    network = Teacher(TEACHER)
    torch.nn.init.constant_(network.spread.weight, float("nan"))

    with pytest.raises(ModelError) as caught:
        save_teacher(network, tmp_path, {}, {})

    assert caught.value.code == "MODEL_VALUES"
    assert not list(tmp_path.iterdir())


def changed_card(key: str, value: Any) -> Callable[[Path], None]:
    def change(weights: Path) -> None:
        card = json.loads(weights.with_suffix(".json").read_text())
        card[key] = value
        weights.with_suffix(".json").write_text(json.dumps(card))

    return change


def flipped_byte(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (flipped_byte, "MODEL_DIGEST"),
        (lambda weights: weights.unlink(), "MODEL_WEIGHTS_MISSING"),
        (lambda weights: weights.with_suffix(".json").unlink(), "MODEL_UNKNOWN"),
        (changed_card("config", {**TEACHER.as_dict(), "shrunk": 5}), "MODEL_SHAPE"),
        (changed_card("config", {"mappings": 10**9}), "MODEL_CARD"),
        (changed_card("config", {"depth": 4}), "MODEL_CARD"),
        (changed_card("config", {"features": "56"}), "MODEL_CARD"),
        (changed_card("architecture", "dehazexl-lite"), "MODEL_ARCHITECTURE"),
    ],
)
def test_damaged_teachers_are_refused(
    damage: Callable[[Path], None], code: str, tmp_path: Path
) -> None:
    weights = Path(saved_teacher(tmp_path))
    damage(weights)

    with pytest.raises(ModelError) as caught:
        load_teacher(str(weights))

    assert caught.value.code == code


def test_a_name_must_be_plain() -> None:
    with pytest.raises(ModelError) as caught:
        load_teacher("../weights/dehazexl-lite")
    assert caught.value.code == "MODEL_NAME"


def test_teachers_are_no_models() -> None:
    assert TEACHERS_FOLDER.parent == WEIGHTS_FOLDER
    assert not [card.name for card in list_models() if "teacher" in card.name]


@pytest.mark.parametrize("weights", sorted(TEACHERS_FOLDER.glob("*.safetensors")), ids=str)
def test_teachers_that_come_with_dehaze_can_be_loaded(weights: Path) -> None:
    assert load_teacher(weights.stem).card.training["licences"]


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["train", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_command_trains_the_kind_of_teacher_asked_for(tmp_path: Path) -> None:
    data = clear_folder(tmp_path / "data")

    result = invoke(
        "teacher",
        "--data",
        data,
        "--out",
        tmp_path,
        "--steps",
        1,
        "--standard",
        "--seed",
        3,
        "--threads",
        1,
    )

    assert result.exit_code == 0, result.output
    card = load_teacher(str(tmp_path / "rfd-teacher-mc.safetensors")).card
    assert card.parameters == 38_427
    assert card.training["recipe"]["seed"] == 3
    assert "rfd-teacher-mc.safetensors lets it guide" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["teacher", "--guide", "model", "--recipe", "lite-cpu"], "--recipe, --guide cannot be"),
        (["distilled", "--standard"], "--separable and --standard cannot be used to train 'dis"),
        (["distilled", "--guide", "magic"], "'magic', expected one of outputs, features, model"),
        (["distilled", "--guide", "none", "--teacher", "mine"], "'mine' is to guide a training"),
        (["dehazexl-lite", "--teacher", "mine"], "'mine' is to guide a training"),
        (["student"], "known are dehazexl-lite, dehazexl-small, dehazexl-base, distilled, guided-"),
    ],
)
def test_the_command_refuses_what_does_not_fit(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = invoke(*arguments, "--data", tmp_path)

    assert isinstance(result.exception, SettingsError)
    assert message in str(result.exception)
