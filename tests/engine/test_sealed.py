# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealed records and the journal made of them: exactly what was written, or nothing."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from dehaze_core.engine.journal import BlockRecord, Journal, read_journal
from dehaze_core.engine.sealed import read_sealed, seal, unseal, write_sealed
from dehaze_core.errors import OutputError

RECORD = {"text": "Ž e", "number": 1.5e-300, "list": [1, None, True], "hash": "00ff"}


def test_record_comes_back(tmp_path: Path) -> None:
    write_sealed(tmp_path / "job.json", RECORD)

    assert read_sealed(tmp_path / "job.json") == RECORD
    assert os.listdir(tmp_path) == ["job.json"]


def test_every_single_flipped_bit_is_noticed() -> None:
    sealed = seal(RECORD).encode()

    for bit in range(len(sealed) * 8):
        broken = bytearray(sealed)
        broken[bit // 8] ^= 1 << bit % 8
        assert unseal(bytes(broken)) is None, broken


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"record": 5}', b"[" * 100_000, b"\xff"])
def test_other_content_is_no_record(text: bytes) -> None:
    assert unseal(text) is None


def test_missing_file_is_no_record(tmp_path: Path) -> None:
    assert read_sealed(tmp_path / "none.json") is None


def test_failed_write_keeps_the_old_record_and_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    write_sealed(path, RECORD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OutputError) as caught:
            write_sealed(path, {"other": "x" * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert caught.value.code == "OUTPUT_DISK_FULL"
    assert read_sealed(path) == RECORD


def records(path: Path) -> list[BlockRecord]:
    return list(read_journal(path))


def test_journal_skips_damaged_lines_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "blocks.jsonl"
    journal = Journal(path)
    written = [BlockRecord(index, 100 + index, 0.5 * index) for index in range(4)]
    for record in written:
        journal.add(record)
    journal.close()
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"101", b"109")
    lines[2] = b"\xff\xfe" + lines[2]
    path.write_bytes(b"\n".join(lines))

    assert records(path) == [written[0], written[3]]
    assert 1 not in Journal(path)


def test_line_torn_by_a_crash_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "blocks.jsonl"
    journal = Journal(path)
    journal.add(BlockRecord(0, 1, 1.0))
    journal.add(BlockRecord(1, 1, 1.0))
    journal.close()
    path.write_bytes(path.read_bytes()[:-20])

    journal = Journal(path)
    journal.add(BlockRecord(2, 1, 1.0))
    journal.close()

    assert [record.index for record in records(path)] == [0, 2]


def test_full_disk_in_the_journal_is_explained(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "blocks.jsonl")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OutputError) as caught:
            journal.add(BlockRecord(0, 1, 1.0))
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert caught.value.code == "OUTPUT_DISK_FULL"
    assert 0 not in journal
