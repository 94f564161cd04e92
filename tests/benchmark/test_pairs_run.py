# SPDX-License-Identifier: GPL-3.0-or-later
"""Every method restores every pair once, and what is scored is on disk."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from dehaze_core.benchmark.methods import Contest
from dehaze_core.benchmark.pairs_run import run_pairs, spread_out
from dehaze_core.engine.progress import Silent
from dehaze_core.errors import OutputError
from dehaze_core.metrics.pairs import load_picture


def test_scores_pictures_and_rows_are_complete(
    contest: Contest, pairs_folder: Path, tmp_path: Path
) -> None:
    results = run_pairs(pairs_folder, tmp_path / "out", contest, None, Silent())

    assert list(results.scores) == ["ours", "identity", "theirs"]
    assert {score.level for score in results.first} == {"L0", "L1", "L3"}
    hazy = load_picture(pairs_folder / "hazy" / "c_L1.png")
    assert np.array_equal(load_picture(tmp_path / "out/restored/ours/c_L1.png"), hazy - 50)
    for kind in ("hazy", "clear", "restored/theirs"):
        assert (tmp_path / "out/thumbnails" / kind / "large_f_L3.jpg").is_file()
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert {"method", "name", "level", "psnr_out", "angle_out", "seam", "seconds"} <= set(rows[0])
    assert sum(row["method"] == "ours" for row in rows) == 5


def test_identity_scores_as_its_input(contest: Contest, pairs_folder: Path, tmp_path: Path) -> None:
    results = run_pairs(pairs_folder, tmp_path / "out", contest, None, Silent())

    for score in results.scores["identity"]:
        assert score.change_dn == 0
        assert (score.psnr_out, score.ssim_out) == (score.psnr_in, score.ssim_in)
        assert (score.ciede_out, score.angle_out) == (score.ciede_in, score.angle_in)


def test_a_few_pairs_hold_clear_ones_and_large_scenes(
    contest: Contest, pairs_folder: Path, tmp_path: Path
) -> None:
    results = run_pairs(pairs_folder, tmp_path / "out", contest, 3, Silent())

    assert [score.name for score in results.first] == ["a_L0", "c_L1", "large_f_L3"]


def test_a_folder_that_cannot_be_written_is_an_output_error(
    contest: Contest, pairs_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("in the way")

    with pytest.raises(OutputError) as caught:
        run_pairs(pairs_folder, tmp_path / "out", contest, None, Silent())
    assert caught.value.code == "OUTPUT_FOLDER"


def test_choice_is_even_and_keeps_both_ends() -> None:
    assert spread_out(range(10), 4) == [0, 3, 6, 9]
    assert spread_out(range(3), 5) == spread_out(range(3), None) == [0, 1, 2]
    assert spread_out(range(10), 1) == [0]
