# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens of a raster on disk, for working through them strip by strip.

A flat file of float32 in (row, column, channel) order, read and written by position: unlike a
memory map it does not grow the process, and unlike the block-wise token store it has no chunk
borders.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from dehaze_core.engine.disk import write_all, write_failure
from dehaze_core.errors import EngineError
from dehaze_core.grid import Window

Tokens = NDArray[np.float32]


class TokenFile:
    """A grid of tokens on disk.

    Args:
        path: File to create or open.
        rows: Rows of tokens.
        cols: Columns of tokens.
        width: Channels of a token.

    Raises:
        OutputError: The file cannot be made, or later not be written.
        EngineError: The file cannot be read, or is too short by now (STORE_DAMAGED).
    """

    def __init__(self, path: Path, rows: int, cols: int, width: int) -> None:
        self.rows, self.cols, self.width = rows, cols, width
        self._path = path
        self._lock = threading.Lock()
        size = rows * cols * width * 4
        try:
            path.touch()
            self._file = path.open("r+b", buffering=0)
            self._file.truncate(size)
        except OSError as error:
            raise write_failure(path, size, error) from error

    def read_rows(self, row: int, row_stop: int) -> Tokens:
        """Return full rows (row_stop - row, cols, width)."""
        return self.read(Window(row, 0, row_stop - row, self.cols))

    def write_rows(self, row: int, tokens: Tokens) -> None:
        """Write full rows (r, cols, width) from `row` on."""
        self._pwrite(np.ascontiguousarray(tokens), row * self.cols)

    def write(self, window: Window, tokens: Tokens) -> None:
        """Write a window (h, w, width), in tokens."""
        tokens = np.ascontiguousarray(tokens)
        for line in range(window.height):
            self._pwrite(tokens[line], (window.row + line) * self.cols + window.col)

    def read(self, window: Window) -> Tokens:
        """Return a window (h, w, width), in tokens."""
        out = np.empty((window.height, window.width, self.width), np.float32)
        if window.width == self.cols:
            self._pread(out, window.row * self.cols)
            return out
        for line in range(window.height):
            self._pread(out[line], (window.row + line) * self.cols + window.col)
        return out

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_failure(self._path, 0, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> TokenFile:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def _pread(self, out: Tokens, first_token: int) -> None:
        view = out.data.cast("B")
        try:
            with self._lock:
                self._file.seek(first_token * self.width * 4)
                while view:
                    count = self._file.readinto(view)
                    if not count:
                        raise EOFError("it is shorter than it was made")
                    view = view[count:]
        except (OSError, EOFError) as error:
            raise EngineError(
                f"The intermediate result {self._path} cannot be read: {error}.",
                hint="Run again: what is damaged is then computed anew.",
                code="STORE_DAMAGED",
            ) from error

    def _pwrite(self, tokens: Tokens, first_token: int) -> None:
        try:
            with self._lock:
                self._file.seek(first_token * self.width * 4)
                write_all(self._file, tokens.data.cast("B"))
        except OSError as error:
            raise write_failure(self._path, tokens.nbytes, error) from error
