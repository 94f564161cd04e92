# SPDX-License-Identifier: GPL-3.0-or-later
"""Which blocks are finished, and what the report needs to know of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dehaze_core.engine.disk import write_all, write_failure
from dehaze_core.engine.sealed import seal, unseal


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """Sums over the core of a finished block.

    Attributes:
        index: Position of the block in the grid.
        valid: Number of valid pixels.
        thickness: Sum of the optical thickness over them.
    """

    index: int
    valid: int
    thickness: float


class Journal:
    """Append-only file of block records; a torn or damaged line counts as not written.

    Args:
        path: File of sealed JSON lines, created where it is missing.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = {record.index: record for record in read_journal(path)}
        try:
            # Unbuffered: after a failed write nothing may wait for another try on closing.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise write_failure(path, 0, error) from error
        if path.stat().st_size:
            # A torn last line must not swallow the next one.
            self._append("\n")

    def __contains__(self, index: object) -> bool:
        """Tell whether a block is recorded."""
        return index in self._records

    def __iter__(self) -> Iterator[BlockRecord]:
        """Yield all records."""
        return iter(self._records.values())

    def add(self, record: BlockRecord) -> None:
        """Record a block whose results are stored.

        Raises:
            OutputError: The disk is full or cannot be written.
        """
        self._append(seal(asdict(record)) + "\n")
        self._records[record.index] = record

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, text: str) -> None:
        try:
            write_all(self._file, text.encode())
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_failure(self._path, len(text), error) from error


def read_journal(path: Path) -> Iterator[BlockRecord]:
    """Yield the undamaged records of a journal, none where there is no such file."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return
    for line in lines:
        record = unseal(line)
        if record is not None and record.keys() == BlockRecord.__dataclass_fields__.keys():
            yield BlockRecord(**record)
