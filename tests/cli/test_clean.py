# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze clean` finds what runs have left, and removes that and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.engine import leftovers
from dehaze_core.engine.journal import BlockRecord, Journal
from dehaze_core.engine.output.formats import check_output
from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.workspace import Workspace
from dehaze_core.errors import InputError
from dehaze_core.scene import Frame


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(
        app, ["clean", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def listed(*arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(invoke("--json", *arguments))
    return found


def unfinished(output: Path, finished: int = 1, days: float = 0.0) -> Path:
    """Leave the state of a run over 2 x 2 blocks of 64 px."""
    with Workspace(output) as workspace:
        workspace.prepare({"block_size": 64})
        ResultStore.open(
            workspace.folder / "result",
            shape=(1, 100, 100),
            dtype="uint8",
            chunk=64,
            settings_hash="a",
        )
        journal = Journal(workspace.folder / "blocks.jsonl")
        for index in range(finished):
            journal.add(BlockRecord(index, 10, 1.0))
        journal.close()
    age(workspace.folder, days)
    return workspace.folder


def temporary(folder: Path, *names: str, days: float = 1.0) -> Path:
    made = folder / ".out-abcd1234.part"
    made.mkdir()
    for name in names:
        (made / name).write_bytes(b"x" * 5000)
    age(made, days)
    return made


def age(folder: Path, days: float) -> None:
    then = time.time() - days * 86400
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then))


def test_unfinished_run_is_described(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "out.tif", finished=3, days=2.5)

    (found,) = listed(tmp_path)

    assert found["folder"] == str(folder)
    assert found["output"] == "out.tif"
    assert found["kind"] == "unfinished"
    assert (found["finished_blocks"], found["blocks"]) == (3, 4)
    assert found["age_days"] == pytest.approx(2.5, abs=0.01)
    assert found["bytes"] > 0
    assert not found["in_use"]
    assert not found["removed"]
    assert folder.exists()


def test_table_shows_state_and_says_what_can_be_done(tmp_path: Path) -> None:
    unfinished(tmp_path / "a [b] ü.tif", finished=1)

    text = invoke(tmp_path)

    for part in ("a [b] ü.tif", "unfinished", "25%", "--remove"):
        assert part in text


def test_clean_folder_has_nothing_to_list(tmp_path: Path) -> None:
    assert "Nothing" in invoke(tmp_path)
    assert listed(tmp_path) == []


def test_current_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished(tmp_path / "out.tif")
    monkeypatch.chdir(tmp_path)

    assert [found["output"] for found in listed()] == ["out.tif"]


def test_folders_below_are_looked_at_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    unfinished(tmp_path / "deep" / "deeper" / "out.tif")

    assert listed(tmp_path) == []
    assert len(listed(tmp_path, "--recursive")) == 1


def test_same_folder_given_twice_counts_once(tmp_path: Path) -> None:
    unfinished(tmp_path / "out.tif")

    assert len(listed(tmp_path, tmp_path / ".", "--recursive")) == 1


def test_removal_takes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    keep = [tmp_path / "out.tif", tmp_path / ".secret", tmp_path / "notes.dehaze"]
    for path in keep:
        path.write_text("dear")
    own = tmp_path / ".git"
    own.mkdir()
    gone = [unfinished(tmp_path / "out.tif"), temporary(tmp_path, "pixels.tif", "result.tif")]

    found = listed(tmp_path, "--remove", "--recursive")

    assert all(item["removed"] for item in found)
    assert {item["folder"] for item in found} == {str(path) for path in gone}
    assert not any(path.exists() for path in gone)
    assert all(path.read_text() == "dear" for path in keep)
    assert own.is_dir()


def test_folders_that_only_look_like_ours_are_left_alone(tmp_path: Path) -> None:
    no_lock = tmp_path / ".photos.dehaze"
    no_lock.mkdir()
    (no_lock / "photo.jpg").write_text("dear")
    strange = temporary(tmp_path, "pixels.tif", "photo.jpg")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    real = unfinished(elsewhere / "out.tif")
    (tmp_path / ".out.tif.dehaze").symlink_to(real)

    assert listed(tmp_path, "--remove") == []
    assert (no_lock / "photo.jpg").exists()
    assert (strange / "photo.jpg").exists()
    assert (real / "job.json").exists()


def test_run_in_progress_is_shown_and_not_removed(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "out.tif")

    with Workspace(tmp_path / "out.tif"):
        (found,) = listed(tmp_path, "--remove")
        text = invoke(tmp_path, "--remove")

    assert found["in_use"]
    assert not found["removed"]
    assert "in use" in text
    assert "0 of 1 removed" in text
    assert (folder / "job.json").exists()


def test_temporary_folder_being_written_is_not_removed(tmp_path: Path) -> None:
    folder = temporary(tmp_path, "pixels.tif", days=0.01)

    (found,) = listed(tmp_path, "--remove")

    assert found["kind"] == "temporary"
    assert found["in_use"]
    assert folder.exists()


def test_folder_that_cannot_be_looked_into_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = temporary(tmp_path, "pixels.tif")
    unfinished(tmp_path / "out.tif")
    genuine = os.listdir

    def listdir(path: Path) -> list[str]:
        if path == locked:
            raise PermissionError(path)
        return genuine(path)

    monkeypatch.setattr(os, "listdir", listdir)

    assert [found["output"] for found in listed(tmp_path, "--recursive")] == ["out.tif"]


def test_run_that_ends_during_the_listing_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished(tmp_path / "out.tif")
    genuine = leftovers.output_name

    def ending(folder: Path) -> str | None:
        name = genuine(folder)
        shutil.rmtree(folder)
        return name

    monkeypatch.setattr(leftovers, "output_name", ending)

    assert listed(tmp_path) == []


def test_folder_of_a_trial_output_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *arguments, **options: None)
        check_output(
            "cog", Frame(width=16, height=16, count=1, dtype="uint8"), tmp_path / "out.tif"
        )
    (folder,) = tmp_path.iterdir()
    age(folder, 1.0)

    (found,) = listed(tmp_path, "--remove")

    assert (found["kind"], found["output"], found["removed"]) == ("temporary", "out", True)
    assert os.listdir(tmp_path) == []


def test_age_limits_what_is_removed(tmp_path: Path) -> None:
    young = unfinished(tmp_path / "young.tif", days=1)
    old = unfinished(tmp_path / "old.tif", days=10)

    (found,) = listed(tmp_path, "--remove", "--older-than", 7)

    assert found["output"] == "old.tif"
    assert young.exists()
    assert not old.exists()


def test_damaged_records_do_not_stop_the_listing(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "out.tif", finished=2)
    (folder / "job.json").write_bytes(b"\xff")
    (folder / "result" / "zarr.json").write_bytes(b"[]")
    (folder / "blocks.jsonl").write_bytes(b"\xff\n")

    (found,) = listed(tmp_path)

    assert found["finished_blocks"] == 0
    assert found["blocks"] is None
    assert listed(tmp_path, "--remove")[0]["removed"]


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        invoke(tmp_path / "none")

    assert caught.value.code == "INPUT_MISSING"
