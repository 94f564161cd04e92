# SPDX-License-Identifier: GPL-3.0-or-later
"""Under the output's name there is the old file, none, or the whole new one, whatever happens."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio

from dehaze_core.engine.output.finalise import write_cog
from dehaze_core.engine.output.tiff_blocks import missing_tiles, raw_bytes
from dehaze_core.errors import OutputError
from dehaze_core.grid import Window
from tests.engine.outputs import assert_carries, frame_of, pixels_of, write


class Stop(Exception):
    """Raised by a test in the middle of the work."""


@pytest.mark.parametrize("share", [0.0, 0.2, 0.3, 0.8, 0.95])
@pytest.mark.parametrize("old", [False, True])
def test_interruption_leaves_the_old_file_or_none(tmp_path: Path, share: float, old: bool) -> None:
    path = tmp_path / "out.tif"
    if old:
        path.write_bytes(b"old")
    seen: list[list[str]] = []

    def progress(done: float) -> None:
        seen.append(sorted(os.listdir(tmp_path)))
        if done > share:
            raise Stop

    with pytest.raises(Stop):
        write(path, frame_of(height=3000, width=100), progress=progress)

    assert os.listdir(tmp_path) == (["out.tif"] if old else [])
    assert not old or path.read_bytes() == b"old"
    assert all(old or "out.tif" not in names for names in seen)


def test_error_of_the_store_ends_the_work_cleanly(tmp_path: Path) -> None:
    def broken(window: Window) -> np.ndarray:
        raise Stop

    with pytest.raises(Stop):
        write_cog(
            broken, frame_of(), None, tmp_path / "out.tif", provenance={}, progress=lambda s: None
        )

    assert os.listdir(tmp_path) == []


def test_old_file_and_its_sidecars_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    path.write_bytes(b"old")
    for suffix in (".aux.xml", ".ovr", ".msk"):
        (tmp_path / f"out.tif{suffix}").write_bytes(b"old")

    write(path, frame_of())

    assert os.listdir(tmp_path) == ["out.tif"]
    assert_carries(path, frame_of())


def test_temporary_files_may_live_elsewhere(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    seen: set[str] = set()

    write(
        tmp_path / "out.tif",
        frame_of(),
        work_folder=work,
        progress=lambda share: seen.update(os.listdir(tmp_path)),
    )

    assert seen - {"out.tif"} == {"work"}
    assert os.listdir(work) == []


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    seen: list[float] = []

    write(tmp_path / "out.tif", frame_of(height=3000), progress=seen.append)

    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert 0 < seen[0] < 1


def test_difference_between_store_and_file_is_noticed(tmp_path: Path) -> None:
    frame = frame_of()
    data = pixels_of(frame)

    def progress(share: float) -> None:
        if share == 0.8:
            damage(next(tmp_path.glob(".out-*/result.tif")))

    with pytest.raises(OutputError) as caught:
        write(
            tmp_path / "out.tif", frame, data, progress=progress, creation_options=["COMPRESS=NONE"]
        )

    assert caught.value.code == "OUTPUT_VERIFY"
    assert os.listdir(tmp_path) == []


def test_tiles_that_are_absent_or_cut_off_are_found(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16, "SPARSE_OK": True}
    with rasterio.open(
        path, "w", driver="GTiff", height=40, width=40, count=1, dtype="uint8", **options
    ) as raster:
        raster.write(np.ones((1, 40, 16), np.uint8), window=((0, 40), (0, 16)))
        raster.write(np.ones((1, 16, 40), np.uint8), window=((0, 16), (0, 40)))

    with rasterio.open(path) as raster:
        found = missing_tiles(raster, path.stat().st_size)
        cut = missing_tiles(raster, path.stat().st_size - 10)

    assert [text.split(" of ")[0] for text in found] == ["tile 1, 1", "tile 1, 2", "tile 2, 1"]
    assert len(cut) == 3
    assert cut != found


def damage(path: Path) -> None:
    with rasterio.open(path) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset + 10)
        byte = file.read(1)
        file.seek(offset + 10)
        file.write(bytes([byte[0] ^ 1]))


# ------------------------------------------------------------------ disks and folders


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.74, 0.8, 0.9, 0.99])
def test_full_disk_is_explained_and_leaves_the_old_file(tmp_path: Path, share: float) -> None:
    frame, path = frame_of(height=1500, width=1500), tmp_path / "out.tif"
    path.write_bytes(b"old")

    with file_size_limit(int(share * raw_bytes(frame))), pytest.raises(OutputError) as caught:
        write(path, frame)

    assert caught.value.code == "OUTPUT_DISK_FULL"
    assert f"({2 * raw_bytes(frame)} bytes) are needed" in caught.value.message
    assert "free" in caught.value.message
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.tif"]
    write(path, frame)
    assert_carries(path, frame)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no small disk may be mounted here")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


@pytest.mark.parametrize("share", [0.1, 0.7, 0.9, 1.05, 1.3])
def test_really_full_disk_leaves_nothing(small_disk: Callable[[int], Path], share: float) -> None:
    frame = frame_of(height=1500, width=1500)
    folder = small_disk(int(share * raw_bytes(frame)))
    noise = np.random.default_rng(0).integers(1, 255, (3, 1500, 1500), dtype=np.uint8)

    with pytest.raises(OutputError) as caught:
        write(folder / "out.tif", frame, noise)

    assert caught.value.code == "OUTPUT_DISK_FULL"
    assert os.listdir(folder) == []


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write(tmp_path / "none" / "out.tif", frame_of())

    assert caught.value.code == "OUTPUT_FOLDER"
    assert str(tmp_path / "none") in caught.value.message


def test_path_with_blanks_and_foreign_letters_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / "Žluťoučký 漢 dir"
    folder.mkdir()
    path = folder / ("a b'c " + "x" * 200 + ".tif")

    write(path, frame_of())

    assert_carries(path, frame_of())


def test_mask_must_come_with_frames_that_have_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mask_read"):
        write(tmp_path / "out.tif", frame_of(mask="internal"))
