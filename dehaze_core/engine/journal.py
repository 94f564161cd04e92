# SPDX-License-Identifier: GPL-3.0-or-later
"""Which blocks are finished, and what the report needs to know of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


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
    """Append-only file of block records; a line that was cut off by a crash counts as not written.

    Args:
        path: File of JSON lines, created where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._records = {record.index: record for record in _read(path)}
        self._file = path.open("a", encoding="utf-8")
        if path.stat().st_size:
            # A torn last line must not swallow the next one.
            self._file.write("\n")

    def __contains__(self, index: object) -> bool:
        """Tell whether a block is recorded."""
        return index in self._records

    def __iter__(self) -> Iterator[BlockRecord]:
        """Yield all records."""
        return iter(self._records.values())

    def add(self, record: BlockRecord) -> None:
        """Record a block whose results are stored."""
        self._records[record.index] = record
        self._file.write(json.dumps(asdict(record)) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _read(path: Path) -> Iterator[BlockRecord]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            yield BlockRecord(**json.loads(line))
        except (ValueError, TypeError):
            continue
