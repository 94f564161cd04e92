# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a run: one run at a time, nothing of others touched, no name taken on trust."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.tokens.token_file import TokenFile
from dehaze_core.engine.workspace import Workspace, claimed_layers, is_in_use, output_name
from dehaze_core.errors import EngineError, OutputError, ResourceError
from dehaze_core.grid import Window


def test_same_job_keeps_its_state_and_another_says_what_differs(tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with Workspace(out) as workspace:
        assert workspace.prepare({"strength": 1.0}) is None
        (workspace.folder / "result").mkdir()

    with Workspace(out) as workspace:
        assert workspace.prepare({"strength": 1.0}) is None
        assert (workspace.folder / "result").exists()
        reason = workspace.prepare({"strength": 0.5})
        assert not (workspace.folder / "result").exists()

    assert reason is not None
    assert "strength" in reason


def test_state_with_a_damaged_record_is_thrown_away_with_a_word(tmp_path: Path) -> None:
    with Workspace(tmp_path / "out.tif") as workspace:
        workspace.prepare({"strength": 1.0})
        record = workspace.folder / "job.json"
        record.write_bytes(record.read_bytes().replace(b"1.0", b"1.1"))

        reason = workspace.prepare({"strength": 1.0})

    assert reason is not None
    assert "damaged" in reason


def test_layers_are_claimed_until_the_run_has_ended(tmp_path: Path) -> None:
    out, layer = tmp_path / "out.tif", str(tmp_path / "layer.tif")
    assert not claimed_layers(out)
    with Workspace(out) as workspace:
        workspace.prepare({"strength": 1.0})
        workspace.claim([layer])
    assert claimed_layers(out) == {layer}

    with Workspace(out) as workspace:
        workspace.delete()

    assert not claimed_layers(out)
    assert not claimed_layers(Path("no\0name"))


def test_only_one_run_holds_a_workspace(tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with Workspace(out) as workspace:
        workspace.prepare({})
        assert is_in_use(workspace.folder)
        with pytest.raises(ResourceError) as caught:
            Workspace(out)
    assert caught.value.code == "OUTPUT_BUSY"
    assert not is_in_use(workspace.folder)
    Workspace(out).close()


def test_deleted_workspace_is_gone_and_can_be_made_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out.tif")
    workspace.prepare({"strength": 1.0})

    workspace.delete()

    assert os.listdir(tmp_path) == []
    Workspace(tmp_path / "out.tif").close()


def test_run_that_started_while_another_ended_keeps_its_folder(tmp_path: Path) -> None:
    with Workspace(tmp_path / "out.tif") as first:
        first.delete()
        second = Workspace(tmp_path / "out.tif")
        mine = second.empty_folder("output")

    assert mine.is_dir()
    with pytest.raises(ResourceError) as caught:
        Workspace(tmp_path / "out.tif")
    assert caught.value.code == "OUTPUT_BUSY"
    second.close()


def test_folder_that_another_run_removes_while_it_is_entered_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, removed = Path.open, []

    def late(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "lock" and not removed:
            removed.append(path.parent)
            path.parent.rmdir()
        return genuine(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", late)

    Workspace(tmp_path / "out.tif").close()

    assert removed


@pytest.mark.skipif(sys.platform == "win32", reason="locks of another kind")
def test_disk_without_locks_is_not_taken_for_a_busy_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)

    with pytest.raises(OutputError) as caught:
        Workspace(tmp_path / "out.tif")

    assert caught.value.code == "OUTPUT_FOLDER"
    assert os.strerror(errno.ENOLCK) in caught.value.message


def test_run_that_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    with Workspace(tmp_path / "out.tif") as workspace:
        workspace.empty_folder("output")

    assert os.listdir(tmp_path) == []


def test_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo.jpg").write_text("dear")
    (tmp_path / ".out.tif.dehaze").symlink_to(precious)

    with pytest.raises(OutputError) as caught:
        Workspace(tmp_path / "out.tif")

    assert caught.value.code == "OUTPUT_FOLDER"
    assert os.listdir(precious) == ["photo.jpg"]


def test_links_inside_are_removed_without_what_they_point_at(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo.jpg").write_text("dear")
    workspace = Workspace(tmp_path / "out.tif")
    (workspace.folder / "result").symlink_to(precious)

    workspace.delete()

    assert os.listdir(tmp_path) == ["precious"]
    assert os.listdir(precious) == ["photo.jpg"]


@pytest.mark.parametrize("name", ["x" * 251 + ".tif", "漢" * 84 + ".tif", "caf\udce9.tif"])
def test_names_that_cannot_be_worked_with_are_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError) as caught:
        Workspace(tmp_path / name)

    assert caught.value.code == "OUTPUT_NAME"
    assert os.listdir(tmp_path) == []


def test_workspace_tells_its_output(tmp_path: Path) -> None:
    with Workspace(tmp_path / "a.b.tif") as workspace:
        assert output_name(workspace.folder) == "a.b.tif"
    (tmp_path / ".dehaze").mkdir()
    assert output_name(tmp_path / ".dehaze") is None
    assert output_name(tmp_path) is None


def test_chunk_that_vanished_is_an_error_and_not_black(tmp_path: Path) -> None:
    store = ResultStore.open(
        tmp_path / "store", shape=(1, 64, 64), dtype="uint8", chunk=32, settings_hash="a"
    )

    with pytest.raises(EngineError) as caught:
        store.read(Window(0, 0, 40, 20))

    assert caught.value.code == "STORE_DAMAGED"
    assert "rows 0 to 39, columns 0 to 19" in caught.value.message


def test_token_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    with TokenFile(tmp_path / "tokens.f32", 4, 4, 2) as tokens:
        os.truncate(tmp_path / "tokens.f32", 100)
        with pytest.raises(EngineError) as caught:
            tokens.read_rows(0, 4)

    assert caught.value.code == "STORE_DAMAGED"
