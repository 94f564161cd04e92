# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasters found in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_core.errors import InputError
from dehaze_core.scene import manifest_rows, manifest_sites, raster_files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_rasters_are_found_in_order_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "b.TIF", "a/c.vrt", "a.jp2", "notes.txt", "a.tif.aux.xml")

    found = [path.relative_to(tmp_path).as_posix() for path in raster_files(tmp_path)]

    assert found == ["a/c.vrt", "a.jp2", "b.TIF"]


def test_what_is_hidden_or_a_folder_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", ".b.tif", ".out.tif.dehaze/c.tif", "d.tif/notes.txt")

    assert raster_files(tmp_path) == [tmp_path / "a.tif"]


def test_a_hidden_folder_can_be_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, ".mine/a.tif")

    assert raster_files(tmp_path / ".mine") == [tmp_path / ".mine" / "a.tif"]


@pytest.mark.parametrize(("name", "code"), [("none", "INPUT_MISSING"), ("", "INPUT_EMPTY")])
def test_a_folder_without_rasters_is_refused(tmp_path: Path, name: str, code: str) -> None:
    touch(tmp_path, "notes.txt")

    with pytest.raises(InputError) as caught:
        raster_files(tmp_path / name)
    assert caught.value.code == code


def test_a_manifest_gives_sites_to_the_rasters_that_have_one(tmp_path: Path) -> None:
    table = "path,site,licence\na.tif,north,CC0 1.0\nb/c.tif,,CC0 1.0\nd.tif\n"
    (tmp_path / "MANIFEST.csv").write_text(table, encoding="utf-8")

    assert manifest_sites(tmp_path) == {"a.tif": "north"}
    assert [row["licence"] for row in manifest_rows(tmp_path)] == ["CC0 1.0", "CC0 1.0", None]


@pytest.mark.parametrize("table", [None, "site,licence\nnorth,CC0 1.0\n"])
def test_without_a_manifest_of_sites_there_are_none(tmp_path: Path, table: str | None) -> None:
    if table is not None:
        (tmp_path / "MANIFEST.csv").write_text(table, encoding="utf-8")

    assert manifest_sites(tmp_path) == {}


def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.csv").write_bytes("path,site\nMünchen.tif,Süd\n".encode("latin-1"))

    with pytest.raises(InputError, match=r"MANIFEST\.csv cannot be read") as caught:
        manifest_sites(tmp_path)
    assert caught.value.code == "INPUT_MANIFEST"
