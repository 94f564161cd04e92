# SPDX-License-Identifier: GPL-3.0-or-later
"""Small records on disk that are either exactly what was written, or count as not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import google_crc32c

from dehaze_core.engine.disk import write_all, write_failure

Record = dict[str, Any]


def seal(record: Record) -> str:
    """Return a record as one line of JSON that carries a checksum of itself."""
    content = json.dumps(record)
    checksum: int = google_crc32c.value(content.encode())
    return f'{{"crc32c": "{checksum:08x}", "record": {content}}}'


def unseal(text: bytes) -> Record | None:
    """Return the record of a sealed line, or None if a single bit of the line has changed."""
    try:
        record = json.loads(text)["record"]
        # Not only the checksum: a flip may change the text without changing what it means.
        if isinstance(record, dict) and seal(record).encode() == text:
            return record
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def write_sealed(path: Path, record: Record) -> None:
    """Replace a file by a sealed record, in one step that survives a power failure.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    text = seal(record).encode()
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb", buffering=0) as file:
            write_all(file, text)
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise write_failure(path, len(text), error) from error


def read_sealed(path: Path) -> Record | None:
    """Return the record in a file, or None if it is missing or damaged."""
    try:
        return unseal(path.read_bytes())
    except (OSError, ValueError):
        # ValueError: no file can have such a name.
        return None
