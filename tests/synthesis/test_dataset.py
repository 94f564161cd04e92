# SPDX-License-Identifier: GPL-3.0-or-later
"""A data set from a folder of clear rasters: layout, split by site, truth, going on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dehaze_core.engine import Silent
from dehaze_core.errors import DehazeError
from dehaze_core.haze.synthesis import LEVELS
from dehaze_core.synthesis import SynthesisSettings, dataset, job
from dehaze_core.synthesis.dataset import SetReport, SetSettings, split_of, synthesize_set
from tests.conftest import write_raster
from tests.synthesis.conftest import clear_pixels, read

SITES = ("airport", "bay", "coast", "dunes")


@pytest.fixture
def clear(tmp_path: Path) -> Path:
    """Four sites as subfolders, of which one has two rasters, and a raster on its own."""
    folder = tmp_path / "clear rasters"
    for site in SITES:
        (folder / site).mkdir(parents=True)
        write_raster(folder / site / "a.tif", data=clear_pixels("uint8", 40, 50))
    write_raster(folder / "bay" / "b.png", data=clear_pixels("uint8", 30, 30), driver="PNG")
    write_raster(folder / "alone.tif", data=clear_pixels("uint16", 40, 50), nodata=0)
    return folder


@pytest.fixture
def alone(clear: Path) -> Path:
    """A folder of one clear raster."""
    folder = clear.parent / "one"
    folder.mkdir()
    shutil.copy(clear / "alone.tif", folder)
    return folder


@pytest.fixture
def textures(clear: Path) -> Path:
    """A folder of one texture."""
    values = np.random.default_rng(3).uniform(10, 200, (1, 32, 40)).astype("uint8")
    folder = clear.parent / "textures"
    folder.mkdir()
    write_raster(folder / "cirrus.tif", data=values)
    return folder


def make(
    clear: Path, seed: int = 1, test_share: float = 0.5, textures: Path | None = None
) -> SetReport:
    settings = SetSettings(
        source=clear,
        destination=clear.parent / "set",
        textures=textures,
        seed=seed,
        test_share=test_share,
    )
    return synthesize_set(settings, Silent())


def manifest(clear: Path) -> list[dict[str, str]]:
    with (clear.parent / "set" / "MANIFEST.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_set_has_the_same_names_at_every_level_and_the_truth_beside_them(clear: Path) -> None:
    report = make(clear)

    rows = manifest(clear)
    folder = clear.parent / "set"
    assert (report.train + report.test, report.written, report.kept) == (6, 30, 0)
    assert len(rows) == 30
    for split in {row["split"] for row in rows}:
        names = [
            {path.name for path in (folder / split / level).glob("*.tif")}
            for level in ("clear", "L1", "L2", "L3", "L4")
        ]
        assert all(these == names[0] for these in names)
    for row in rows:
        name = Path(row["path"]).stem
        truth = json.loads(
            (folder / row["split"] / "truth" / f"{name}_{row['level']}.json").read_text()
        )
        low, high = LEVELS[row["level"]]
        assert low <= float(row["thickness"]) <= high
        assert str(truth["seed"]) == row["seed"]
        source, copy = read(clear / row["source"]), read(folder / row["clear"])
        assert np.array_equal(source, copy)
        assert (row["level"] == "L0") == np.array_equal(read(folder / row["path"]), source)


def test_no_site_is_on_both_sides(clear: Path) -> None:
    make(clear)

    sides: dict[str, set[str]] = {}
    for row in manifest(clear):
        sides.setdefault(row["site"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert set(sides) == {*SITES, "alone"}
    assert {split for splits in sides.values() for split in splits} == {"train", "test"}


def test_the_split_is_by_name_and_has_about_the_share_asked_for() -> None:
    splits = [split_of(f"site {number}", 0.2) for number in range(1000)]

    assert splits.count("test") == pytest.approx(200, abs=40)


def test_a_manifest_gives_the_sites(clear: Path) -> None:
    (clear / "MANIFEST.csv").write_text("path,site\nbay/a.tif,coast\nalone.tif,coast\n")

    make(clear)

    assert {row["site"] for row in manifest(clear) if row["source"] == "alone.tif"} == {"coast"}


def test_what_is_there_is_kept_and_the_rest_is_made(
    clear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = dataset.synthesize
    left = iter(range(7))

    def failing(settings: SynthesisSettings, progress: object) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return work(settings, progress)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "synthesize", failing)
        with pytest.raises(KeyboardInterrupt):
            make(clear)
    assert not (clear.parent / "set" / "MANIFEST.csv").exists()

    report = make(clear)
    again = make(clear)
    reseeded = make(clear, seed=2)

    assert (report.kept, report.written) == (7, 23)
    assert (again.kept, again.written) == (30, 0)
    # The clear copies have no seed.
    assert (reseeded.kept, reseeded.written) == (6, 24)


def test_haze_of_other_textures_is_made_again(alone: Path, textures: Path) -> None:
    make(alone, textures=textures)
    elsewhere = textures.with_name("elsewhere")
    shutil.copytree(textures, elsewhere)
    moved = make(alone, textures=elsewhere)
    write_raster(elsewhere / "cirrus.tif", data=255 - read(textures / "cirrus.tif"))
    changed = make(alone, textures=elsewhere)

    of_texture = [row for row in manifest(alone) if row["kind"] == "texture"]
    assert of_texture
    assert (moved.kept, moved.written) == (5, 0)
    assert changed.written == len(of_texture)


@pytest.mark.parametrize("text", ["{}", "[]", "not JSON", '{"source": 1}'])
def test_a_raster_whose_truth_is_damaged_is_made_again(alone: Path, text: str) -> None:
    make(alone, test_share=0.0)
    truth = alone.parent / "set" / "train" / "truth" / "alone_L2.json"
    good = json.loads(truth.read_text())
    truth.write_text(text)

    report = make(alone, test_share=0.0)

    assert (report.kept, report.written) == (4, 1)
    again = json.loads(truth.read_text())
    assert again["request"] == good["request"]


def test_a_raster_is_not_kept_where_only_its_truth_is_new(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(alone, seed=1)

    def failing(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "write_output", failing)
        with pytest.raises(KeyboardInterrupt):
            make(alone, seed=2)
    report = make(alone, seed=2)

    # The clear copy has no seed.
    assert (report.kept, report.written) == (1, 4)


def test_no_raster_changes_sides(clear: Path) -> None:
    make(clear)
    folder = clear.parent / "set"
    there = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    with pytest.raises(DehazeError) as caught:
        make(clear, test_share=0.0)

    assert caught.value.code == "OUTPUT_SPLIT"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == there


def test_folders_that_make_no_sense_are_refused(clear: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_raster(clear / "bay_a.tif", data=clear_pixels("uint8", 20, 20))

    with pytest.raises(DehazeError) as empty:
        synthesize_set(SetSettings(source=tmp_path / "empty", destination=tmp_path / "o"), Silent())
    with pytest.raises(DehazeError) as within:
        SetSettings(source=clear, destination=clear / "set")
    with pytest.raises(DehazeError) as twice:
        make(clear)
    with pytest.raises(DehazeError) as share:
        SetSettings(source=clear, destination=tmp_path / "o", test_share=0.9)

    codes = [caught.value.code for caught in (empty, within, twice, share)]
    assert codes == ["INPUT_EMPTY", "SETTINGS", "INPUT_NAMES", "SETTINGS"]
