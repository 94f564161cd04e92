# SPDX-License-Identifier: GPL-3.0-or-later
"""The header of a safetensors file, checked before any library sees the file.

Layout: 8 bytes with the header's length, little-endian; the header, a JSON object; then the values
of all tensors without gaps. The library that reads such files is careful too, but it takes headers
of 100 MB, and tensors of types that no network here has.
"""

from __future__ import annotations

import json
import math
from typing import Any, BinaryIO

from dehaze_core.errors import ModelError
from dehaze_core.models.architectures import ITEM_BYTES, Slot

MOST_HEADER_BYTES = 1 << 20
MOST_TENSORS = 4096
_MOST_DIMENSIONS = 8
_LENGTH_BYTES = 8


def read_outline(file: BinaryIO, size: int) -> dict[str, Slot]:
    """Read the names, types and shapes of the tensors in a safetensors file.

    Args:
        file: The file, at its start.
        size: Its size in bytes.

    Raises:
        ModelError: The header is malformed, or does not describe the bytes after it (MODEL_FORMAT).
    """
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if size < _LENGTH_BYTES or not 2 <= length <= min(MOST_HEADER_BYTES, size - _LENGTH_BYTES):
        raise _malformed(
            f"is said to be {length:,} bytes long in a file of {size:,}, expected at most "
            f"{MOST_HEADER_BYTES:,} and no more than the file holds"
        )
    try:
        header = json.loads(
            file.read(length).decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
        )
    # Deeply nested JSON ends in RecursionError.
    except (ValueError, RecursionError) as error:
        raise _malformed(f"is not the JSON expected: {error}") from error
    if not isinstance(header, dict):
        raise _malformed("is not a JSON object")
    notes = header.pop("__metadata__", {})
    if not (isinstance(notes, dict) and all(isinstance(text, str) for text in notes.values())):
        raise _malformed("has notes that are not texts")
    if not 0 < len(header) <= MOST_TENSORS:
        raise _malformed(f"lists {len(header):,} tensors, expected 1 to {MOST_TENSORS:,}")
    places = {name: _place(name, entry) for name, entry in header.items()}
    _check_places([place for _, place in places.values()], size - _LENGTH_BYTES - length)
    return {name: slot for name, (slot, _) in places.items()}


def _place(name: str, entry: Any) -> tuple[Slot, tuple[int, int]]:  # noqa: ANN401 - any JSON value
    """Return what the header says of one tensor, and which bytes (begin, end) it takes."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _malformed(f"does not give type, shape and place of {name[:80]!r}")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _malformed(
            f"gives {name[:80]!r} the type {str(dtype)[:20]!r}, expected {', '.join(ITEM_BYTES)}"
        )
    if not (_are_counts(shape) and len(shape) <= _MOST_DIMENSIONS):
        raise _malformed(f"gives {name[:80]!r} the shape {str(shape)[:80]}")
    if not (_are_counts(place) and len(place) == 2):
        raise _malformed(f"gives {name[:80]!r} the place {str(place)[:80]}")
    if place[1] - place[0] != math.prod(shape) * ITEM_BYTES[dtype]:
        raise _malformed(f"gives {name[:80]!r} a place that does not fit its shape")
    return Slot(dtype, tuple(shape)), (place[0], place[1])


def _check_places(places: list[tuple[int, int]], data_bytes: int) -> None:
    """Refuse tensors that overlap, leave gaps or lie outside the file."""
    end = 0
    for begin, stop in sorted(places):
        if begin != end:
            raise _malformed("lists tensors that overlap or leave gaps")
        end = stop
    if end != data_bytes:
        raise _malformed(f"describes {end:,} bytes of values, {data_bytes:,} follow it")


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in values)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _malformed(what: str) -> ModelError:
    return ModelError(
        f"The safetensors header {what}.",
        hint="The file is damaged or was made to do harm. Get it again from where it came from.",
        code="MODEL_FORMAT",
    )
