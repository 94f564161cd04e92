# SPDX-License-Identifier: GPL-3.0-or-later
"""Guided models from the command line: `dehaze run`, `score` and `benchmark`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.errors import InputError, SettingsError
from dehaze_core.models import save_model
from tests.engine.guided import bright_scene, tiny_guided

MakeRaster = Callable[..., Path]


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A guided model of the user's own."""
    folder = tmp_path / "models"
    monkeypatch.setenv("DEHAZE_MODELS", str(folder))
    save_model(tiny_guided(), "segments-help", folder, {})
    return "segments-help"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    hazy = bright_scene(96, 96).transpose(1, 2, 0)
    for part, image in (("clear", hazy // 2), ("hazy", hazy)):
        path = tmp_path / "set" / part / "a_L2.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(image).save(path)
    return tmp_path / "set"


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(
        app, [str(each) for each in arguments], catch_exceptions=False, env={"COLUMNS": "160"}
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_run_with_a_mask(make_raster: MakeRaster, tmp_path: Path, model: str) -> None:
    source = make_raster(data=bright_scene(64, 96))
    labels = np.arange(1, 25, dtype=np.int32).reshape(1, 4, 6)
    mask = make_raster("mask.tif", data=labels.repeat(16, axis=1).repeat(16, axis=2))
    out, other = tmp_path / "out.tif", tmp_path / "other.tif"

    report = json.loads(invoke("run", source, out, "--model", model, "--mask", mask, "--json"))
    invoke("run", source, other, "--model", model, "--structure", "haze_gray", "--json")

    assert report["model"] == model
    with rasterio.open(out) as one, rasterio.open(other) as two:
        assert not np.array_equal(one.read(), two.read())
        assert json.loads(one.tags()["DEHAZE_GUIDE"])["mask"] == str(mask)


def test_run_with_segments_of_its_own(make_raster: MakeRaster, tmp_path: Path, model: str) -> None:
    pytest.importorskip("skimage")
    source, out = make_raster(data=bright_scene(64, 96)), tmp_path / "out.tif"

    invoke(
        "run", source, out, "--model", model, "--structure", "dehaze_mask", "--segmenter",
        "felzenszwalb", "--coding", "paper_sum_wrap", "--json",
    )  # fmt: skip

    with rasterio.open(out) as raster:
        told = json.loads(raster.tags()["DEHAZE_GUIDE"])
    assert (told["structure"], told["coding"]) == ("dehaze_mask", "paper_sum_wrap")
    assert "felzenszwalb" in told["segmenter"]
    assert told["dehazed_by"].startswith("dehazexl-lite")


def test_plan_refuses_what_run_would(make_raster: MakeRaster, model: str) -> None:
    source = make_raster(data=bright_scene(64, 96))
    mask = make_raster("mask.tif", count=2)

    with pytest.raises(InputError, match="2 bands"):
        invoke("plan", source, "--model", model, "--mask", mask)


def test_score_depends_on_what_guides(pairs: Path, model: str) -> None:
    pytest.importorskip("skimage")

    def score(*options: str) -> float:
        summary = json.loads(invoke("score", pairs, "--model", model, "--json", *options))
        number: float = summary["hazy"]["psnr_out"]
        return number

    gray = score("--structure", "haze_gray")
    segments = score("--segmenter", "felzenszwalb")

    assert gray != segments
    with pytest.raises(SettingsError, match="no structure 'magic'"):
        score("--structure", "magic")


def test_a_benchmark_has_a_method_for_every_structure(
    pairs: Path, tmp_path: Path, model: str
) -> None:
    pytest.importorskip("skimage")
    out = tmp_path / "out"

    text = invoke(
        "benchmark", pairs, "--out", out, "--models", model, "--baselines", "identity",
        "--structure", "haze_gray,haze_mask,dehaze_mask", "--segmenter", "felzenszwalb",
        "--record", "--title", "one pair",
    )  # fmt: skip

    for structure in ("haze_gray", "haze_mask", "dehaze_mask"):
        assert f"{model}+{structure}" in text
        assert (out / "restored" / f"{model}+{structure}" / "a_L2.png").is_file()
    card = json.loads((tmp_path / "models" / f"{model}.json").read_text(encoding="utf-8"))
    assert set(card["scores"]) == {"one pair+haze_gray"}
