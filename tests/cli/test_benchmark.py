# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze benchmark` from the outside, with the shipped model."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dehaze_core.baselines.aod_net import AODNet
from dehaze_core.cli import app
from dehaze_core.errors import InputError, ModelError, OutputError, SettingsError
from dehaze_core.models import load_model, save_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, transmission in (("a_L0", 1.0), ("b_L2", 0.7), ("large_c_L3", 0.5)):
        blocks = rng.integers(0, 200, (8, 12, 3)).repeat(8, axis=0).repeat(8, axis=1)
        hazy = np.rint(blocks * transmission + 230 * (1 - transmission))
        for part, image in (("clear", blocks), ("hazy", hazy)):
            path = tmp_path / "set" / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype(np.uint8)).save(path)
    return tmp_path / "set"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(
        app, ["benchmark", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "100"}
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_one_command_leaves_tables_pages_and_pictures(pairs: Path, tmp_path: Path) -> None:
    torch.save(AODNet().state_dict(), tmp_path / "aod.pth")
    out, doc = tmp_path / "out", tmp_path / "quality.md"

    text = run(
        pairs, "--out", out, "--aod-weights", tmp_path / "aod.pth", "--doc", doc,
        "--real", pairs / "hazy", "--limit", 2, "--title", "two pairs",
    )  # fmt: skip

    for method in ("dehazexl-lite", "identity", "dark-channel", "haze-thickness-map", "aod-net"):
        assert method in text
        assert (out / "restored" / method / "large_c_L3.png").is_file()
    assert "missed by" in text or "held" in text
    assert (out / "index.html").is_file()
    assert (out / "real.html").is_file()
    assert "## two pairs" in doc.read_text(encoding="utf-8")
    with (out / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 7 * 2


def test_without_weights_aod_net_is_left_out_aloud(pairs: Path, tmp_path: Path) -> None:
    text = run(pairs, "--out", tmp_path / "out", "--baselines", "identity,aod-net", "--limit", 1)

    assert "aod-net: left out" in text
    assert not (tmp_path / "out" / "restored" / "aod-net").exists()
    assert "## set" in (tmp_path / "out" / "benchmark.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--models", ""], SettingsError),
        (["--models", "nothing-like-it"], ModelError),
        (["--baselines", "magic"], SettingsError),
        (["--title", "-->"], SettingsError),
    ],
)
def test_impossible_options_end_before_any_work(
    pairs: Path, tmp_path: Path, options: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(pairs, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_used_are_explained(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OutputError, match="cannot be made"):
        run(pairs, "--out", tmp_path / "file", "--baselines", "")
    with pytest.raises(InputError, match="hazy"):
        run(tmp_path, "--out", tmp_path / "out", "--baselines", "")


def test_means_are_recorded_in_the_card_only_when_asked_for(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    save_model(DehazeXLLite(LiteConfig(widths=(8, 8, 16, 16))), "mine", tmp_path / "models", {})
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path / "models"))
    asked = (pairs, "--out", tmp_path / "out", "--models", "mine", "--baselines", "")

    run(*asked)
    assert load_model("mine").card.scores == {}
    run(*asked, "--record", "--title", "two pairs")

    assert set(load_model("mine").card.scores["two pairs"]) >= {"PSNR", "PSNR L2", "improved"}
