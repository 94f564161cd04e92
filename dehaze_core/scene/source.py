# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene needs from the place its pixels come from, whatever the format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dehaze_core.errors import InputError
from dehaze_core.grid.window import Window
from dehaze_core.scene.validity import Mask, Pixels


class Source(Protocol):
    """Random access to the pixels of one raster, safe to call from several threads at once."""

    path: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the local files and folders that the raster consists of."""
        ...

    @property
    def has_overviews(self) -> bool:
        """Tell whether reading small versions is cheap."""
        ...

    def read(self, window: Window, bands: Sequence[int]) -> tuple[Pixels, Mask]:
        """Return the stored values (B, h, w) and which pixels are valid (h, w)."""
        ...

    def read_small(
        self, window: Window, shape: tuple[int, int], bands: Sequence[int]
    ) -> tuple[Pixels, Mask]:
        """Return the window scaled down to `shape`, values and validity as in `read`."""
        ...

    def stored_mask(self, window: Window) -> Mask:
        """Return the mask that the file stores (h, w), all True where it stores none."""
        ...

    def fingerprint_parts(self) -> list[str]:
        """Return texts that change when the content changes, without reading all of it."""
        ...

    def close(self) -> None:
        """Let go of file handles; a later read opens them again."""
        ...


def read_failure(path: str, window: Window, cause: BaseException) -> InputError:
    """Describe pixels that could not be read, naming file, window and the library's own reason."""
    reasons = []
    error: BaseException | None = cause
    while error is not None:
        text = str(error).strip()
        # rasterio's outermost message only points at the chained ones.
        if text and "previous exception" not in text and text not in reasons:
            reasons.append(text)
        error = error.__cause__
    reason = "; ".join(reversed(reasons)) or type(cause).__name__
    return InputError(
        f"Rows {window.row} to {window.row_stop - 1}, columns {window.col} to "
        f"{window.col_stop - 1} of {path} cannot be read: {reason}",
        hint="The file is damaged or a part of it is missing. Copy or download it again.",
        code="INPUT_CORRUPT",
    )
