# SPDX-License-Identifier: GPL-3.0-or-later
"""The result store keeps what was written, knows what is whole, and never trusts what is not."""

from __future__ import annotations

import random
import resource
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.sealed import read_sealed
from dehaze_core.errors import EngineError, OutputError
from dehaze_core.grid import Window

SHAPE = (3, 100, 90)
CHUNK = 32


def open_store(folder: Path, **changes: Any) -> ResultStore:
    options = {"shape": SHAPE, "dtype": "uint8", "chunk": CHUNK, "settings_hash": "a", **changes}
    return ResultStore.open(folder / "store", **options)


def pixels(dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, SHAPE).astype(dtype)


def windows(side: int = CHUNK) -> Iterator[Window]:
    for row in range(0, SHAPE[1], side):
        for col in range(0, SHAPE[2], side):
            yield Window(row, col, side, side).clipped(SHAPE[1], SHAPE[2])


def fill(store: ResultStore, data: np.ndarray) -> None:
    for window in windows():
        store.write(window, data[(slice(None), *window.slices)])


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"]
)
def test_what_was_written_is_read_in_any_window(tmp_path: Path, dtype: str) -> None:
    store, data = open_store(tmp_path, dtype=dtype), pixels(dtype)

    fill(store, data)

    for window in (Window(0, 0, 100, 90), Window(13, 50, 40, 40), Window(99, 89, 1, 1)):
        assert np.array_equal(store.read(window), data[(slice(None), *window.slices)])
        assert store.read(window).dtype == dtype


def test_window_is_complete_when_all_its_chunks_are_there(tmp_path: Path) -> None:
    store, data = open_store(tmp_path), pixels()
    everything = Window(0, 0, 100, 90)

    assert not store.is_complete(everything)
    for window in list(windows())[:-1]:
        store.write(window, data[(slice(None), *window.slices)])
        assert store.is_complete(window)
    assert not store.is_complete(everything)
    assert not store.is_complete(Window(96, 64, 4, 26))
    assert store.is_complete(Window(0, 0, 64, 90))


def test_black_results_count_as_done(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    store.write(Window(0, 0, 32, 32), np.zeros((3, 32, 32), np.uint8))

    assert store.is_complete(Window(0, 0, 32, 32))


def test_store_of_the_same_settings_is_continued(tmp_path: Path) -> None:
    data = pixels()
    fill(open_store(tmp_path), data)

    again = open_store(tmp_path)

    assert again.restarted_because is None
    assert again.is_complete(Window(0, 0, 100, 90))
    assert np.array_equal(again.read(Window(0, 0, 100, 90)), data)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings_hash": "b"},
        {"shape": (3, 100, 91)},
        {"shape": (1, 100, 90)},
        {"dtype": "uint16"},
        {"chunk": 64},
    ],
)
def test_store_of_other_settings_is_thrown_away(tmp_path: Path, changes: dict[str, Any]) -> None:
    fill(open_store(tmp_path), pixels())

    other = open_store(tmp_path, **changes)

    assert other.restarted_because
    assert not other.is_complete(Window(0, 0, 64, 64))
    assert open_store(tmp_path, **changes).restarted_because is None


def test_flipped_bit_of_the_settings_hash_is_called_damage(tmp_path: Path) -> None:
    open_store(tmp_path)
    journal = tmp_path / "store" / "journal.json"
    journal.write_bytes(journal.read_bytes().replace(b'"a"', b'"b"'))

    assert "damaged" in (open_store(tmp_path).restarted_because or "")


@pytest.mark.parametrize("name", ["journal.json", "zarr.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", None])
def test_store_with_damaged_records_is_thrown_away(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    fill(open_store(tmp_path), pixels())
    record = tmp_path / "store" / name
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)

    again = open_store(tmp_path)

    assert again.restarted_because
    assert not again.is_complete(Window(0, 0, 64, 64))
    fill(again, pixels())
    assert again.is_complete(Window(0, 0, 100, 90))


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    fill(store, pixels())
    chunks = sorted(path for path in (tmp_path / "store" / "c").rglob("*") if path.is_file())
    chance = random.Random(0)

    for _ in range(100):
        chunk = chance.choice(chunks)
        row, col = int(chunk.parent.name) * CHUNK, int(chunk.name) * CHUNK
        window = Window(row, col, CHUNK, CHUNK).clipped(*SHAPE[1:])
        sound = chunk.read_bytes()
        bit = chance.randrange(len(sound) * 8)
        broken = bytearray(sound)
        broken[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(broken)

        assert not store.is_complete(window)
        with pytest.raises(EngineError) as caught:
            store.read(window)
        assert caught.value.code == "STORE_DAMAGED"
        chunk.write_bytes(sound)
        assert store.is_complete(window)


@pytest.mark.parametrize("size", [0, 3, 100, -1])
def test_truncated_chunk_is_not_complete_and_can_be_written_again(
    tmp_path: Path, size: int
) -> None:
    store, data = open_store(tmp_path), pixels()
    fill(store, data)
    chunk = tmp_path / "store" / "c" / "0" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:size])
    window = Window(32, 32, 32, 32)

    assert not store.is_complete(window)

    store.write(window, data[(slice(None), *window.slices)])
    assert store.is_complete(window)
    assert np.array_equal(store.read(Window(0, 0, 100, 90)), data)


@pytest.mark.parametrize(
    "window",
    [Window(1, 0, 31, 32), Window(0, 0, 16, 32), Window(0, 64, 32, 32), Window(96, 0, 5, 32)],
)
def test_windows_that_cut_chunks_are_refused(tmp_path: Path, window: Window) -> None:
    store = open_store(tmp_path)

    with pytest.raises(ValueError, match="whole chunks"):
        store.write(window, np.zeros((3, window.height, window.width), np.uint8))


def test_arrays_of_another_shape_or_type_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    for array in (np.zeros((3, 32, 31), np.uint8), np.zeros((3, 32, 32), np.uint16)):
        with pytest.raises(ValueError, match="expected"):
            store.write(Window(0, 0, 32, 32), array)


def test_threads_write_disjoint_windows(tmp_path: Path) -> None:
    store, data = open_store(tmp_path), pixels()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda w: store.write(w, data[(slice(None), *w.slices)]), windows()))

    assert np.array_equal(store.read(Window(0, 0, 100, 90)), data)


def test_store_killed_before_its_first_record_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / f"zarr.{uuid.uuid4().hex}.partial").write_text("{")

    store = open_store(tmp_path)

    fill(store, pixels())
    assert store.is_complete(Window(0, 0, 100, 90))
    assert partial_files(tmp_path) == []


def test_chunks_torn_by_a_kill_do_not_stay_on_the_disk(tmp_path: Path) -> None:
    fill(open_store(tmp_path), pixels())
    chunk = tmp_path / "store" / "c" / "0" / "1" / "1"
    chunk.with_suffix(f".{uuid.uuid4().hex}.partial").write_bytes(chunk.read_bytes()[:100])

    again = open_store(tmp_path)

    assert again.restarted_because is None
    assert again.is_complete(Window(0, 0, 100, 90))
    assert partial_files(tmp_path) == []


def test_link_in_place_of_the_store_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo.jpg").write_text("dear")
    (tmp_path / "store").symlink_to(precious)

    with pytest.raises(OutputError):
        open_store(tmp_path)

    assert (precious / "photo.jpg").read_text() == "dear"


def partial_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.partial"))


def test_interrupted_creation_and_clearing_are_recovered_from(tmp_path: Path) -> None:
    open_store(tmp_path)
    (tmp_path / "store" / "zarr.json").unlink()
    assert open_store(tmp_path).restarted_because

    (tmp_path / "store" / "journal.json").unlink()
    assert open_store(tmp_path).restarted_because


def test_deleted_store_is_gone(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    store.delete()

    assert not (tmp_path / "store").exists()
    store.delete()


def test_full_disk_is_explained_and_the_run_can_go_on(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    data = pixels()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError) as caught:
            store.write(Window(0, 0, 32, 32), data[:, :32, :32])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert caught.value.code == "OUTPUT_DISK_FULL"
    assert "3072 bytes" in caught.value.message
    assert not store.is_complete(Window(0, 0, 32, 32))
    store.write(Window(0, 0, 32, 32), data[:, :32, :32])
    assert store.is_complete(Window(0, 0, 32, 32))


def test_journal_names_format_and_settings(tmp_path: Path) -> None:
    open_store(tmp_path, settings_hash="abc")

    journal = read_sealed(tmp_path / "store" / "journal.json")

    assert journal is not None
    assert journal["settings_hash"] == "abc"
    assert journal["format"] == 1
