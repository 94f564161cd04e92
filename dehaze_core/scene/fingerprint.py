# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether a source is still the one a job was started on, without reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

_SAMPLES = 16
_SAMPLE_BYTES = 1 << 16
_MOST_SAMPLED_FILES = 32


def digest(parts: Iterable[str]) -> str:
    """Return one hexadecimal SHA-256 of the parts."""
    joined = hashlib.sha256()
    for part in parts:
        joined.update(part.encode() + b"\0")
    return joined.hexdigest()


def file_parts(paths: Iterable[Path]) -> list[str]:
    """Return name, size, modification time and a hash of evenly spread samples of each file.

    Of a mosaic of many files the content is not sampled, to keep this a matter of milliseconds.
    """
    parts = []
    files = sorted(set(paths))
    for path in files:
        state = path.stat()
        sample = _samples(path) if len(files) <= _MOST_SAMPLED_FILES else ""
        parts.append(f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {sample}")
    return parts


def pixel_part(pixels: npt.NDArray[np.generic]) -> str:
    """Return a hash of pixels, for sources that are not files."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _samples(path: Path) -> str:
    size = path.stat().st_size
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        if size <= _SAMPLES * _SAMPLE_BYTES:
            hashed.update(file.read())
        else:
            for index in range(_SAMPLES):
                file.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
                hashed.update(file.read(_SAMPLE_BYTES))
    return hashed.hexdigest()
