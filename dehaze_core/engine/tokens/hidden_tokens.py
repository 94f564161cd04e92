# SPDX-License-Identifier: GPL-3.0-or-later
"""Hidden states of all tokens of a raster on disk, worked on strip by strip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dehaze_core.engine.tokens.token_file import TokenFile
from dehaze_core.grid import Window

STRIP_TOKENS = 4096
"""Tokens worked on at a time."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Strip:
    """Some full rows of tokens, and those of them that have data.

    Attributes:
        row: First row.
        row_stop: Row behind the last.
        valid: (n,) whether a token has data, row by row.
        first: Number of tokens with data in the rows above.
    """

    row: int
    row_stop: int
    valid: Tensor
    first: int

    @property
    def count(self) -> int:
        """Number of tokens with data."""
        return int(self.valid.count_nonzero())


class HiddenTokens:
    """The hidden states between two layers of a bottleneck, and room beside them to work in.

    Attributes:
        rows: Rows of tokens R.
        cols: Columns of tokens C.
        width: Length of a hidden state D.
        weight: (R, C) share of valid pixels of each token, [0, 1]; a token without is no key.
        device: Where tensors are handed out.
        strip_tokens: Tokens of a strip, which is a row of tokens at least.

    Args:
        folder: Where files are made.
        weight: See above; may be filled after the start.
        width: See above.
        device: See above.
        strip_tokens: See above.
    """

    def __init__(
        self,
        folder: Path,
        weight: Floats,
        width: int,
        device: torch.device,
        strip_tokens: int = STRIP_TOKENS,
    ) -> None:
        self.rows, self.cols = weight.shape
        self.width = width
        self.weight = weight
        self.device = device
        self.strip_tokens = strip_tokens
        self._folder = folder
        self._path = folder / "hidden.f32"
        self._file = TokenFile(self._path, self.rows, self.cols, width)

    @property
    def valid_count(self) -> int:
        """Number of tokens with data."""
        return int(np.count_nonzero(self.weight))

    def strips(self) -> Iterator[Strip]:
        """Yield all strips from the top down: always the same ones for rasters of one size."""
        first, step = 0, max(1, self.strip_tokens // self.cols)
        for row in range(0, self.rows, step):
            stop = min(row + step, self.rows)
            valid = torch.from_numpy(self.weight[row:stop].ravel() > 0).to(self.device)
            strip = Strip(row, stop, valid, first)
            yield strip
            first += strip.count

    def read(self, strip: Strip) -> Tensor:
        """Return the hidden states of a strip, (1, r, C, D)."""
        return self.to_device(self._file.read_rows(strip.row, strip.row_stop))[None]

    def read_window(self, window: Window) -> tuple[Tensor, Tensor]:
        """Return hidden states (1, h, w, D) and weights (1, h, w) of any window."""
        hidden, weight = self._file.read(window), self.weight[window.slices]
        return self.to_device(hidden)[None], self.to_device(weight)[None]

    def write(self, row: int, hidden: Tensor) -> None:
        """Replace the hidden states of full rows from `row` on by others (1, r, C, D)."""
        self._file.write_rows(row, to_cpu(hidden[0]))

    @contextmanager
    def scratch(self, name: str, rows: int, cols: int, width: int) -> Iterator[TokenFile]:
        """Open a file for as long as it is needed: (rows, cols) vectors of `width` values."""
        path = self._folder / f"{name}.f32"
        try:
            with TokenFile(path, rows, cols, width) as file:
                yield file
        finally:
            path.unlink(missing_ok=True)

    def to_device(self, values: Floats) -> Tensor:
        """Return an array as a tensor on the device."""
        return torch.from_numpy(values).to(self.device)

    def delete(self) -> None:
        """Close and remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def to_cpu(values: Tensor) -> Floats:
    """Return a tensor of any device as a contiguous float32 array."""
    array: Floats = values.float().cpu().numpy()
    return np.ascontiguousarray(array)
