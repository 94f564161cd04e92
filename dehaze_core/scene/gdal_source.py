# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels of anything GDAL reads, through a pool of rasterio handles."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError

from dehaze_core.errors import InputError
from dehaze_core.grid.window import Window
from dehaze_core.scene.fingerprint import file_parts, pixel_part
from dehaze_core.scene.frame import Frame
from dehaze_core.scene.gdal_frame import read_frame
from dehaze_core.scene.source import read_failure
from dehaze_core.scene.validity import Mask, Pixels, pixels_and_validity
from dehaze_core.scene.virtual_raster import check_virtual, note_failed_read

GDAL_CACHE_MIB = 128
"""Size of GDAL's own block cache in this process, MiB; part of any memory forecast."""

MOST_GDAL_CACHE_MIB = 512
"""The same while reading files stored as long rows, of which a whole band of rows is kept."""

GDAL_OPTIONS: dict[str, Any] = {
    # GDAL's default, 5 % of the memory of the machine, would break the promise of constant memory.
    # rasterio takes bytes here, unlike GDAL's environment variable.
    "GDAL_CACHEMAX": GDAL_CACHE_MIB << 20,
    # A virtual raster may carry Python code; a raster must never be able to run any.
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # Nor may it make the engine wait for its standard input, which is the line to its parent.
    "CPL_ALLOW_VSISTDIN": "NO",
}

GDAL_ERRORS = (RasterioError, CRSError, CPLE_BaseError, UnicodeError, OSError)
"""What rasterio raises; GDAL's own errors, and texts that are not UTF-8, pass through it."""

_ROW_ORGANISED_MIN_WIDTH = 2048
_KEPT_ROWS = 2304
_AVERAGE_UP_TO = 1 << 24
# /vsisubfile/ has offset and size before the name.
_VIRTUAL = re.compile(r"^(/vsi[a-z0-9_]+/(\d+(_\d*)?,)?)+")


def quiet_open(path: str | Path, mode: str = "r", **options: Any) -> Any:  # noqa: ANN401
    """Open a rasterio dataset; a raster without georeference is nothing to warn of here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, mode, **options)


class GdalSource:
    """One raster file (or virtual raster, archive member, URL) read through rasterio.

    A rasterio handle may serve only one thread at a time, so each read borrows one from a pool.
    Files stored as long rows get a single handle: a second one would decode every row again.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._options = GDAL_OPTIONS
        try:
            with self._handle() as dataset:
                self.frame: Frame = read_frame(dataset)
                self.has_overviews = bool(dataset.overviews(1))
                self._parts = check_virtual(path, dataset, quiet_open)
                # Of a virtual raster GDAL lists the parts, but not those of parts.
                self._files: list[str] = [*dataset.files, *sorted(self._parts)]
        except InputError:
            raise
        except GDAL_ERRORS as error:
            raise _open_failure(path, error) from error
        self._turn = threading.BoundedSemaphore(1 if _is_row_organised(self.frame) else 64)
        self._options = {**GDAL_OPTIONS, "GDAL_CACHEMAX": gdal_cache_mib(self.frame) << 20}

    def __reduce__(self) -> tuple[type[GdalSource], tuple[str]]:
        """Travel to another process as the path alone."""
        return type(self), (self.path,)

    def read(self, window: Window, bands: Sequence[int]) -> tuple[Pixels, Mask]:
        """Return stored values (B, h, w) of the 0-based `bands` and validity (h, w)."""
        with self._reading(window) as dataset:
            return self._read(dataset, window, bands, {})

    def read_small(
        self, window: Window, shape: tuple[int, int], bands: Sequence[int]
    ) -> tuple[Pixels, Mask]:
        """Return the window scaled down to `shape`, from the file's overviews where it has them."""
        cheap = self.has_overviews or window.height * window.width <= _AVERAGE_UP_TO
        how = Resampling.average if cheap else Resampling.nearest
        with self._reading(window) as dataset:
            return self._read(dataset, window, bands, {"small": shape, "resampling": how})

    def stored_mask(self, window: Window) -> Mask:
        """Return the mask stored inside or beside the file (h, w), all True where there is none."""
        if self.frame.mask != "internal":
            return np.ones((window.height, window.width), dtype=bool)
        with self._reading(window) as dataset:
            return _stored_mask(dataset, window, {})

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the file itself, its sidecars, and all members of a mosaic, where local."""
        names = [self.path, *self._files]
        # Not Path.exists: it raises for what is too long to be a path, as connections may be.
        local = [Path(name) for name in names if os.path.exists(name)]
        archives = [path for path in map(_archive, names) if path is not None]
        # The same file may be there by several names.
        known: dict[str, Path] = {}
        for path in (*local, *archives):
            known.setdefault(os.path.realpath(path), path)
        return tuple(known.values())

    def fingerprint_parts(self) -> list[str]:
        """Return size, time and samples of the files, or samples of pixels where there are none."""
        # QGIS writes statistics into a sidecar whenever it likes; the pixels stay the same.
        files = [p for p in self.files if p.is_file() and not p.name.endswith(".aux.xml")]
        if files:
            return file_parts(files)
        frame = self.frame
        step = max(1, min(frame.height, frame.width) // 4)
        samples = []
        for start in range(0, min(frame.height, frame.width), step):
            window = Window(start, start, 64, 64).clipped(frame.height, frame.width)
            samples.append(pixel_part(self.read(window, range(frame.count))[0]))
        return [f"{frame.height}x{frame.width}x{frame.count} {frame.dtype}", *samples]

    def close(self) -> None:
        """Close all idle handles; a later read opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for dataset in idle:
            dataset.close()

    @contextmanager
    def _handle(self) -> Iterator[Any]:
        with rasterio.Env(**self._options):
            with self._lock:
                dataset = self._idle.pop() if self._idle else None
            if dataset is None:
                dataset = quiet_open(self.path)
            try:
                yield dataset
            except BaseException:
                # After a failed read a handle may hold half-decoded blocks.
                dataset.close()
                raise
            with self._lock:
                self._idle.append(dataset)

    @contextmanager
    def _reading(self, window: Window) -> Iterator[Any]:
        try:
            with self._turn, self._handle() as dataset:
                yield dataset
        except GDAL_ERRORS as error:
            note_failed_read(self._parts)
            if not rasterio.shutil.exists(self.path):
                raise _open_failure(self.path, error) from error
            raise read_failure(self.path, window, error) from error

    def _read(
        self,
        dataset: Any,  # noqa: ANN401 - rasterio's reader is untyped
        window: Window,
        bands: Sequence[int],
        how: dict[str, Any],
    ) -> tuple[Pixels, Mask]:
        return pixels_and_validity(
            lambda wanted: _pixels(dataset, window, wanted, how),
            bands,
            self.frame,
            lambda: _stored_mask(dataset, window, how),
        )


def _archive(name: str) -> Path | None:
    """Return the local file that something inside of one (`/vsizip/...`) lies in, or None."""
    inner = Path(_VIRTUAL.sub("", name).replace("{", "").replace("}", ""))
    if str(inner) == name:
        return None
    return next((path for path in (inner, *inner.parents) if os.path.isfile(path)), None)


def gdal_cache_mib(frame: Frame) -> int:
    """Return the size of GDAL's block cache while a raster like this, or a part of it, is read.

    As many whole rows as a row of blocks is high have to fit where the file is stored as long rows.
    """
    if not _is_row_organised(frame):
        return GDAL_CACHE_MIB
    width = frame.block_shape[1]
    wanted = _KEPT_ROWS * width * frame.count * np.dtype(frame.dtype).itemsize
    return min(max(ceil(wanted / 2**20), GDAL_CACHE_MIB), MOST_GDAL_CACHE_MIB)


def _is_row_organised(frame: Frame) -> bool:
    rows, cols = frame.block_shape
    return cols >= frame.width and cols > _ROW_ORGANISED_MIN_WIDTH and rows < _KEPT_ROWS


def _pixels(
    dataset: Any,  # noqa: ANN401
    window: Window,
    bands: Sequence[int],
    how: dict[str, Any],
) -> Pixels:
    options: dict[str, Any] = {}
    if how:
        options = {"out_shape": (len(bands), *how["small"]), "resampling": how["resampling"]}
    pixels: Pixels = dataset.read(
        [band + 1 for band in bands],
        window=((window.row, window.row_stop), (window.col, window.col_stop)),
        **options,
    )
    return pixels


def _stored_mask(dataset: Any, window: Window, how: dict[str, Any]) -> Mask:  # noqa: ANN401
    options = {"out_shape": how["small"]} if how else {}
    rows_cols = ((window.row, window.row_stop), (window.col, window.col_stop))
    mask: Mask = dataset.read_masks(1, window=rows_cols, **options) > 0
    return mask


def _open_failure(path: str, cause: BaseException) -> InputError:
    if (
        isinstance(cause, RasterioIOError)
        and not os.path.exists(path)
        and "/vsi" not in path
        and "://" not in path
    ):
        return InputError(
            f"There is no file {path}.",
            hint="Check the path; a raster file or a zarr folder is expected.",
            code="INPUT_MISSING",
        )
    return InputError(
        f"{path} cannot be opened as a raster: {cause}",
        hint="A raster in a format that GDAL knows, or a zarr folder, is expected.",
        code="INPUT_UNREADABLE",
    )
