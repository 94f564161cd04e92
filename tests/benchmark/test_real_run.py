# SPDX-License-Identifier: GPL-3.0-or-later
"""Real haze: any raster is read as a scene; pixels without data stay as they are."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dehaze_core.benchmark.methods import Contest, Method
from dehaze_core.benchmark.real_run import read_display, run_real
from dehaze_core.benchmark.real_tables import real_tables
from dehaze_core.engine.progress import Silent
from dehaze_core.errors import InputError, ModelError
from dehaze_core.metrics.pairs import load_picture
from tests.benchmark.conftest import put


def test_16_bit_rasters_are_scaled_once_and_not_cut_to_their_low_bytes(
    make_raster: Callable[..., Path],
) -> None:
    ramp = np.linspace(300, 9000, 64 * 48).reshape(1, 48, 64).repeat(3, axis=0).astype(np.uint16)

    picture, valid = read_display(make_raster(data=ramp))

    assert picture.shape == (48, 64, 3)
    assert valid.all()
    assert (np.diff(picture[..., 0].ravel().astype(int)) >= 0).all()
    assert picture.max() == 255


def test_a_gray_raster_is_shown_as_three_equal_bands(make_raster: Callable[..., Path]) -> None:
    picture, _ = read_display(make_raster(count=1))

    assert picture.shape == (48, 64, 3)
    assert (picture[..., 0] == picture[..., 2]).all()


def test_pixels_without_data_stay_black_and_do_not_count(
    make_raster: Callable[..., Path], contest: Contest, tmp_path: Path
) -> None:
    data = np.random.default_rng(0).integers(60, 200, (3, 48, 64)).astype(np.float32) / 255
    data[:, :, 40:] = np.nan
    path = make_raster(data=data)

    results = run_real(path.parent, tmp_path / "out", contest, None, Silent())

    restored = load_picture(tmp_path / "out/real/restored/ours/scene.tif.png")
    assert not restored[:, 40:].any()
    assert results.first[0].before.clipped < 0.05, "black wedge is not clipped ground"


def test_no_method_sees_a_black_wedge(make_raster: Callable[..., Path], tmp_path: Path) -> None:
    data = np.full((3, 48, 64), 0.7, np.float32)
    data[:, :, 40:] = np.nan
    data[:, :2, :2] = 1.0
    seen = []

    def look(hazy: np.ndarray) -> np.ndarray:
        seen.append(hazy.min())
        return hazy

    path = make_raster(data=data)
    run_real(
        path.parent, tmp_path / "out", Contest((Method("look", "", look),), ()), None, Silent()
    )

    assert seen[0] > 150


def test_a_raster_without_any_data_has_no_numbers(
    make_raster: Callable[..., Path], contest: Contest, tmp_path: Path
) -> None:
    path = make_raster(data=np.full((3, 48, 64), np.nan, np.float32))

    results = run_real(path.parent, tmp_path / "out", contest, None, Silent())

    assert math.isnan(results.first[0].after.haze)
    assert math.isnan(results.first[0].change_dn)


def test_subfolders_are_groups_and_rows_are_complete(contest: Contest, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("aerial/a.png", "aerial/b.jpg", "ground/a.png"):
        put(tmp_path / "real" / name, rng.integers(80, 200, (40, 40, 3)).astype(np.uint8))
    (tmp_path / "real" / "MANIFEST.csv").write_text("path\n")

    results = run_real(tmp_path / "real", tmp_path / "out", contest, None, Silent())

    by_method, by_folder = real_tables(results)
    assert [row[0] for row in by_method.rows] == ["input", "ours", "theirs"]
    assert [row[0] for row in by_folder.rows] == ["aerial (2)", "ground (1)"]
    with (tmp_path / "out" / "real.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    ours = next(row for row in rows if row["method"] == "ours")
    assert float(ours["haze_out"]) < float(ours["haze_in"])
    assert float(ours["change_dn"]) == pytest.approx(50)


def test_a_raster_that_cannot_be_read_is_an_input_error(contest: Contest, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.tif").write_bytes(b"not a raster")

    with pytest.raises(InputError, match="broken"):
        run_real(tmp_path / "in", tmp_path / "out", contest, None, Silent())


def test_a_method_that_returns_another_shape_is_named(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", np.full((40, 40, 3), 90, np.uint8))
    shrinking = Contest((Method("shrinking", "", lambda hazy: hazy[1:]),), ())

    with pytest.raises(ModelError, match="shrinking"):
        run_real(tmp_path / "in", tmp_path / "out", shrinking, None, Silent())
