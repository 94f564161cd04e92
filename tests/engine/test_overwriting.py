# SPDX-License-Identifier: GPL-3.0-or-later
"""An output that another program makes during the work is replaced only where that is allowed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dehaze_core.engine.output import aside
from dehaze_core.engine.output.formats import OutputFormat
from dehaze_core.errors import OutputError
from dehaze_core.scene import open_scene
from tests.engine.outputs import LOCAL, frame_of, write

BY_FILES_AND_FOLDERS = pytest.mark.parametrize(
    ("format_name", "links"), [("cog", True), ("cog", False), ("gtiff", True), ("zarr", True)]
)


@BY_FILES_AND_FOLDERS
def test_output_that_appears_during_the_work_is_not_replaced_unless_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format_name: OutputFormat,
    links: bool,
) -> None:
    path = tmp_path / ("out.zarr" if format_name == "zarr" else "out.tif")

    def appear(share: float) -> None:
        if share < 1.0 and not path.exists():
            place = path / "zarr.json" if format_name == "zarr" else path
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(b"of another program")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OutputError) as caught:
        write(path, frame_of(), format_name=format_name, progress=appear, overwrite=False)

    assert caught.value.code == "OUTPUT_EXISTS"
    assert os.listdir(tmp_path) == [path.name]
    assert (path / "zarr.json" if path.is_dir() else path).read_bytes() == b"of another program"
    write(path, frame_of(), format_name=format_name, overwrite=True)
    with open_scene(str(path)) as scene:
        assert scene.frame.width == 70


def no_links(source: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@BY_FILES_AND_FOLDERS
def test_free_name_is_taken_without_overwriting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: OutputFormat, links: bool
) -> None:
    path = tmp_path / ("out.zarr" if format_name == "zarr" else "out.tif")
    if not links:
        monkeypatch.setattr(os, "link", no_links)

    write(path, frame_of(crs_wkt=LOCAL), format_name=format_name, overwrite=False)

    beside = [] if format_name == "zarr" else ["out.tif.aux.xml"]
    assert sorted(os.listdir(tmp_path)) == [path.name, *beside]
    with open_scene(str(path)) as scene:
        assert "pole by the gate" in str(scene.frame.crs_wkt)


@pytest.mark.parametrize("put", [aside.put_file, aside.put_folder])
def test_name_taken_at_the_very_last_moment_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., None]
) -> None:
    made, path, is_file = tmp_path / "made", tmp_path / "out", put is aside.put_file
    content = path if is_file else path / "zarr.json"
    if is_file:
        made.write_bytes(b"ours")
        (tmp_path / "made.aux.xml").write_bytes(b"ours")
    else:
        made.mkdir()
    step = "link" if is_file else "replace"
    original = getattr(os, step)

    def late(source: Path, target: Path) -> None:
        content.parent.mkdir(exist_ok=True)
        content.write_bytes(b"theirs")
        original(source, target)

    monkeypatch.setattr(os, step, late)
    with pytest.raises(OutputError) as caught:
        put(made, path, overwrite=False)

    assert caught.value.code == "OUTPUT_EXISTS"
    assert content.read_bytes() == b"theirs"
    assert not (tmp_path / "out.aux.xml").exists()
