# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of a run, block by block on disk: at the same time its journal.

A zarr v3 array whose chunks carry a CRC-32C. A chunk counts as done when it is there and its
checksum fits, so a run that was killed at any moment goes on from what is really on the disk. No
list of finished blocks can overrule that; the one beside the store adds sums for the report.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from dehaze_core.engine.disk import write_failure
from dehaze_core.engine.sealed import read_sealed, write_sealed
from dehaze_core.errors import EngineError, OutputError
from dehaze_core.grid.window import Window

_JOURNAL = "journal.json"
_METADATA = "zarr.json"
_FORMAT = 1
_CRC_BYTES = 4


class ResultStore:
    """An array (band, row, column) on disk, written in windows of whole chunks.

    Several threads may write disjoint chunks and read at the same time. A chunk appears under its
    name only when it is complete.

    Attributes:
        folder: Where the store is.
        shape: (B, H, W).
        dtype: NumPy name of the sample type.
        chunk: Side of a chunk, px; a chunk holds all bands.
        restarted_because: Why results that were there before could not be used, or None.
    """

    def __init__(self, folder: Path, array: Any, restarted_because: str | None) -> None:  # noqa: ANN401
        self.folder = folder
        self.shape: tuple[int, int, int] = tuple(array.shape)
        self.dtype: str = array.dtype.name
        self.chunk: int = array.chunks[1]
        self.restarted_because = restarted_because
        self._array = array

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        shape: tuple[int, int, int],
        dtype: str,
        chunk: int,
        settings_hash: str,
    ) -> ResultStore:
        """Open the store in `folder`, or start a new one there.

        Results of other settings, or a store whose own files are damaged, are deleted; the reason
        is then in `restarted_because`.

        Args:
            folder: Belongs to the store alone. Created where missing.
            shape: (B, H, W).
            dtype: NumPy name of the sample type.
            chunk: Side of a chunk, px.
            settings_hash: Hash of everything that has influence on the pixels.

        Raises:
            OutputError: The folder cannot be written.
        """
        reason = None
        try:
            if folder.exists() and any(folder.iterdir()):
                reason = _why_unusable(folder, shape, dtype, chunk, settings_hash)
                if reason is None:
                    _remove_torn(folder)
                    return cls(folder, zarr.open_array(folder, mode="r+"), None)
                shutil.rmtree(folder)
            return cls(folder, _create(folder, shape, dtype, chunk, settings_hash), reason)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise write_failure(folder, 0, error) from error

    def write(self, window: Window, array: npt.NDArray[Any]) -> None:
        """Write all bands of a window that begins and ends at chunk borders or the raster's edge.

        Args:
            window: Place in the raster.
            array: (B, h, w) in the store's data type.

        Raises:
            OutputError: The disk is full or cannot be written (OUTPUT_DISK_FULL, ...).
            ValueError: The window cuts through a chunk, or the array does not fit it.
        """
        self._check(window)
        expected = (self.shape[0], window.height, window.width)
        if array.shape != expected or array.dtype.name != self.dtype:
            raise ValueError(f"got {array.shape} {array.dtype}, expected {expected} {self.dtype}")
        try:
            self._array[(slice(None), *window.slices)] = array
        except OSError as error:
            raise write_failure(self.folder, array.nbytes, error, window) from error

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Return all bands (B, h, w) of any window.

        Raises:
            EngineError: A chunk is damaged or missing (STORE_DAMAGED).
        """
        # zarr takes a missing chunk for zeros, and black is what it would become in the output.
        for path in self._chunks(window):
            if not path.exists():
                raise self._damage(window, f"{path.relative_to(self.folder)} is missing")
        try:
            return np.asarray(self._array[(slice(None), *window.slices)])
        except (OSError, ValueError, RuntimeError) as error:
            raise self._damage(window, str(error)) from error

    def is_complete(self, window: Window) -> bool:
        """Tell whether every chunk of the window is there and undamaged; never raises on damage."""
        self._check(window)
        return all(self._is_sound(path) for path in self._chunks(window))

    def delete(self) -> None:
        """Remove the store from the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _chunks(self, window: Window) -> Iterator[Path]:
        """Yield the files of the chunks that a window touches."""
        size = self.chunk
        for row in range(window.row // size, -(-window.row_stop // size)):
            for col in range(window.col // size, -(-window.col_stop // size)):
                yield self.folder / "c" / "0" / str(row) / str(col)

    def _is_sound(self, path: Path) -> bool:
        bands = self.shape[0]
        expected = bands * self.chunk * self.chunk * np.dtype(self.dtype).itemsize + _CRC_BYTES
        try:
            stored = path.read_bytes()
        except OSError:
            return False
        if len(stored) != expected:
            return False
        crc: int = google_crc32c.value(stored[:-_CRC_BYTES])
        return crc == int.from_bytes(stored[-_CRC_BYTES:], "little")

    def _damage(self, window: Window, reason: str) -> EngineError:
        return EngineError(
            f"The intermediate result in {self.folder} is damaged in rows {window.row} to "
            f"{window.row_stop - 1}, columns {window.col} to {window.col_stop - 1}: {reason}",
            hint="Run again: the damaged part is then computed anew.",
            code="STORE_DAMAGED",
        )

    def _check(self, window: Window) -> None:
        _, height, width = self.shape
        aligned = (
            window.row % self.chunk == 0
            and window.col % self.chunk == 0
            and (window.row_stop % self.chunk == 0 or window.row_stop == height)
            and (window.col_stop % self.chunk == 0 or window.col_stop == width)
        )
        if not aligned or window.clipped(height, width) != window:
            raise ValueError(f"{window} is not made of whole chunks of {self.chunk} px")


def _create(
    folder: Path, shape: tuple[int, int, int], dtype: str, chunk: int, settings_hash: str
) -> Any:  # noqa: ANN401 - zarr arrays are generic over undocumented metadata
    folder.mkdir(parents=True, exist_ok=True)
    array = zarr.create_array(
        folder,
        shape=shape,
        dtype=dtype,
        chunks=(shape[0], chunk, chunk),
        filters=None,
        # No compression: the store lives for one run, and must not be what the run waits for.
        compressors=[Crc32cCodec()],
        serializer=BytesCodec(endian="little"),
        fill_value=0,
        # Black blocks are results, too: without a file they would count as missing.
        config={"write_empty_chunks": True},
    )
    journal = {
        "format": _FORMAT,
        "settings_hash": settings_hash,
        "metadata_sha256": _sha256(folder / _METADATA),
    }
    write_sealed(folder / _JOURNAL, journal)
    return array


def _why_unusable(
    folder: Path, shape: tuple[int, int, int], dtype: str, chunk: int, settings_hash: str
) -> str | None:
    """Return why the store in the folder can't be continued, or None."""
    journal = read_sealed(folder / _JOURNAL)
    if journal is None or journal.get("format") != _FORMAT:
        return "the records of the earlier run are damaged"
    try:
        if journal["metadata_sha256"] != _sha256(folder / _METADATA):
            return "the records of the earlier run are damaged"
        if journal["settings_hash"] != settings_hash:
            return "the earlier run had other settings, another model or another input"
        array = zarr.open_array(folder, mode="r")
    except (OSError, ValueError, KeyError, TypeError):
        return "the records of the earlier run are damaged"
    found = (tuple(array.shape), array.dtype.name, tuple(array.chunks))
    if found != (shape, dtype, (shape[0], chunk, chunk)):
        return "the earlier run had another block size"
    return None


def _remove_torn(folder: Path) -> None:
    """Remove what a kill has left of writing chunks; zarr gives each attempt a name of its own."""
    for path in folder.rglob("*.partial"):
        path.unlink()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
