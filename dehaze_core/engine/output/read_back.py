# SPDX-License-Identifier: GPL-3.0-or-later
"""What was written is read back and compared: windows, checksums, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy.typing as npt

from dehaze_core.engine.output.cog_options import bytes_per_pixel
from dehaze_core.errors import OutputError
from dehaze_core.grid.window import Window
from dehaze_core.scene.frame import Frame

Pixels = npt.NDArray[Any]
Read = Callable[[Window], Pixels]
"""Returns what belongs inside a window."""

_WINDOW_SIDE = 2048
_WINDOW_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Checksum:
    """CRC-32C of the pixels, and of the mask if there is one, inside a window."""

    window: Window
    pixels: int
    mask: int | None

    @classmethod
    def of(cls, window: Window, pixels: Pixels, mask: Pixels | None) -> Checksum:
        """Return the checksum of pixels (B, h, w) and of a mask (h, w) bool."""
        return cls(window, _crc(pixels), None if mask is None else _crc(mask))

    def differences(self, found: Checksum, *, lossless: bool = True) -> list[str]:
        """Say what differs; pixels that were compressed with loss are not compared."""
        wrong = []
        if lossless and found.pixels != self.pixels:
            wrong.append(f"pixels differ in {self.window}")
        if self.mask is not None and found.mask != self.mask:
            wrong.append(f"the mask differs in {self.window}")
        return wrong


def windows_of(frame: Frame, tile: int) -> Iterator[Window]:
    """Yield windows that cover the raster, row by row, each of whole tiles and at most 64 MiB.

    Args:
        frame: The frame of the output.
        tile: Side of its tiles, px; a power of two of at most 2048.
    """
    side = _WINDOW_SIDE
    while side > tile and side * side * bytes_per_pixel(frame) > _WINDOW_BYTES:
        side //= 2
    for row in range(0, frame.height, side):
        for col in range(0, frame.width, side):
            yield Window(row, col, side, side).clipped(frame.height, frame.width)


def refuse_wrong(wrong: Sequence[str]) -> None:
    """Raise if anything about the written output is wrong.

    Raises:
        OutputError: With the first few differences (OUTPUT_VERIFY).
    """
    if wrong:
        raise OutputError(
            f"The written file is not what it should be: {'; '.join(wrong[:3])}.",
            hint="The disk may be faulty or full. Nothing was left under the output's name.",
            code="OUTPUT_VERIFY",
        )


def losses(format_name: str, traits: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each trait that the format cannot hold."""
    return tuple(f"A {format_name} cannot hold this, it is lost: {trait}." for trait in traits)


def _crc(array: Pixels) -> int:
    value: int = google_crc32c.value(array.tobytes())
    return value
