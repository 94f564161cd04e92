# SPDX-License-Identifier: GPL-3.0-or-later
"""A method run on independent slices, as published networks are on pictures too large for them.

What the same network loses this way is what its global context is worth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dehaze_core.errors import ModelError, SettingsError
from dehaze_core.metrics.pairs import Picture, Restorer

LEAST_SIDE = 32


def in_slices(restore: Restorer, side: int) -> Restorer:
    """Return a method that restores every slice of a picture without knowing the others.

    Slices lie side by side from the upper left corner. The last of a row or column moves back to
    end with the picture, so that every slice has its full size; what it shares with the one before
    stays that one's.

    Args:
        restore: The method that is given each slice.
        side: Side of a slice in px. A picture that is smaller is one slice.

    Raises:
        SettingsError: The side is below 32 px.
    """
    if side < LEAST_SIDE:
        raise SettingsError(f"Slices have a side of at least {LEAST_SIDE} px, found {side}.")

    def restore_slices(picture: Picture) -> Picture:
        restored = np.empty_like(picture)
        # From the lower right, so that what two slices share is written last by the earlier one.
        for top in reversed(_starts(picture.shape[0], side)):
            for left in reversed(_starts(picture.shape[1], side)):
                place = (slice(top, top + side), slice(left, left + side))
                restored[place] = _checked(restore(picture[place].copy()), picture[place])
        return restored

    return restore_slices


def _starts(size: int, side: int) -> list[int]:
    """Return where the slices begin along an axis of `size` px."""
    return [min(start, max(size - side, 0)) for start in range(0, size, side)]


def _checked(restored: NDArray[np.uint8], piece: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Assigning would broadcast a wrong shape in silence.
    if restored.shape != piece.shape or restored.dtype != np.uint8:
        raise ModelError(
            f"A slice came back as {restored.shape} {restored.dtype}; expected {piece.shape} uint8."
        )
    return restored
