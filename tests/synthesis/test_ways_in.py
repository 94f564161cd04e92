# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthesis from the command line and as a task of the worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.engine import Silent
from dehaze_core.errors import SettingsError
from dehaze_core.worker.protocol import TASKS, Job
from dehaze_core.worker.tasks import TASKS as FUNCTIONS
from tests.conftest import write_raster
from tests.synthesis.conftest import clear_pixels, read

MakeRaster = Callable[..., Path]


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_all_that_is_asked_for(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(data=clear_pixels("uint8", 40, 50))

    ended = invoke(
        "synthesize", source, tmp_path / "hazy.tif", "--kind", "plume", "--level", "L3",
        "--seed", 6, "--wavelength", 90, "--alpha", 1.2, "--airlight", "0.6,0.7,0.8",
        "--adjacency", 1, "--noise", "1e-4,1e-3", "--thickness-out", tmp_path / "tau.tif",
        "--airlight-out", tmp_path / "air.tif", "--truth", tmp_path / "truth.json", "--json",
    )  # fmt: skip

    assert ended.exit_code == 0, ended.output
    report = json.loads(ended.stdout)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert report["level"] == truth["level"] == "L3"
    assert truth["recipe"]["airlight"] == [0.6, 0.7, 0.8]
    assert truth["recipe"]["noise"] == [1e-4, 1e-3]
    assert (truth["recipe"]["alpha"], truth["recipe"]["wavelength"]) == (1.2, 90)
    assert read(tmp_path / "air.tif").shape == (3, 40, 50)
    assert read(tmp_path / "tau.tif").shape == (1, 40, 50)


def test_nonsense_on_the_command_line_is_explained(make_raster: MakeRaster, tmp_path: Path) -> None:
    ended = invoke("synthesize", make_raster(), tmp_path / "hazy.tif", "--airlight", "white")

    assert isinstance(ended.exception, SettingsError)
    assert "--airlight" in ended.exception.message


def test_the_command_for_sets_makes_one(tmp_path: Path) -> None:
    (tmp_path / "clear").mkdir()
    write_raster(tmp_path / "clear" / "a.tif", data=clear_pixels("uint8", 30, 40))

    ended = invoke("synthesize-set", tmp_path / "clear", tmp_path / "set", "--test-share", 0)

    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "set" / "train" / "L4" / "a.tif").is_file()


def test_the_worker_does_it_as_a_task(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(data=clear_pixels("uint8", 40, 50))
    parameters = {
        "source": str(source),
        "destination": str(tmp_path / "hazy.tif"),
        "level": "L1",
        "noise": [0.0, 0.001],
        "airlight": None,
    }
    job = Job.from_json(Job("synthesize", parameters).to_json())

    report = FUNCTIONS[job.task](job.parameters, Silent())

    assert set(FUNCTIONS) == set(TASKS)
    assert report["output"] == str(tmp_path / "hazy.tif")
    assert (tmp_path / "hazy.tif").is_file()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"source": "a.tif", "destination": "b.tif", "haze": 1}, "Unknown settings haze"),
        ({"source": "a.tif"}, "destination are missing"),
        ({"source": "a.tif", "destination": "b.tif", "thickness": "much"}, "wrong kind"),
    ],
)
def test_the_worker_refuses_settings_it_does_not_know(
    parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        FUNCTIONS["synthesize"](parameters, Silent())
