# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze score` from the outside: what is printed, written and refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.errors import InputError, SettingsError

DARKEN = "tests.cli.restorers:darken"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, haze in (("a_L0", 0), ("b_L1", 60), ("large_c_L3", 90)):
        clear = rng.integers(0, 100, (20, 30, 3)).astype(np.uint8)
        for part, image in (("clear", clear), ("hazy", clear + np.uint8(haze))):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / part / f"{name}.png")
    return tmp_path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(
        app, ["score", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "80"}
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_table_names_every_level_and_the_means(folder: Path) -> None:
    text = run(folder, "--method", DARKEN)

    for row in ("L0", "L1", "L3", "all hazy", "chips", "large scenes", "improved", "DN RMS"):
        assert row in text


def test_json_holds_input_and_output_numbers(folder: Path) -> None:
    summary = json.loads(run(folder, "--method", DARKEN, "--json"))

    assert summary["method"] == DARKEN
    assert summary["hazy"]["images"] == 2
    assert summary["hazy"]["psnr_out"] > summary["hazy"]["psnr_in"]
    assert summary["improved"] == 1
    assert summary["clear"]["psnr_in"] is None, "infinite is not JSON"
    assert 0 < summary["clear"]["change_dn"] <= 50


def test_csv_has_one_row_an_image(folder: Path, tmp_path: Path) -> None:
    run(folder, "--method", DARKEN, "--csv", tmp_path / "scores.csv")

    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["name"] for row in rows] == ["a_L0", "b_L1", "large_c_L3"]
    assert float(rows[1]["angle_out"]) < float(rows[1]["angle_in"])
    assert float(rows[1]["psnr_out"]) > float(rows[1]["psnr_in"])


def test_written_pictures_score_as_they_did_when_written(folder: Path, tmp_path: Path) -> None:
    first = json.loads(run(folder, "--method", DARKEN, "--out", tmp_path / "out", "--json"))

    second = json.loads(run(folder, "--predictions", tmp_path / "out", "--json"))

    assert second["hazy"] == first["hazy"]


def test_a_missing_prediction_is_an_input_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    with pytest.raises(InputError, match="a_L0"):
        run(folder, "--predictions", tmp_path / "out")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("restorers", "module:function"),
        ("no_such_module:restore", "no_such_module"),
        ("tests.cli.restorers:nothing", "nothing"),
    ],
)
def test_a_method_that_cannot_be_loaded_is_explained(
    folder: Path, method: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        run(folder, "--method", method)


def test_method_and_predictions_exclude_each_other(folder: Path) -> None:
    with pytest.raises(SettingsError, match="exclude"):
        run(folder, "--method", DARKEN, "--predictions", folder)


def test_the_dark_channel_baseline_removes_synthetic_haze(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 200, (12, 12, 3)).repeat(10, axis=0).repeat(10, axis=1)
    hazy = np.rint(blocks * 0.5 + 230 * 0.5)
    for part, image in (("clear", blocks), ("hazy", hazy)):
        (tmp_path / part).mkdir()
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / part / "blocks_L3.png")

    summary = json.loads(
        run(tmp_path, "--method", "dehaze_core.baselines.dark_channel:restore", "--json")
    )

    assert summary["hazy"]["psnr_out"] > summary["hazy"]["psnr_in"] + 3
