# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels of a zarr folder as xarray and rioxarray write it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr
from rasterio.errors import CRSError

from dehaze_core.errors import InputError
from dehaze_core.grid.window import Window
from dehaze_core.scene.fingerprint import file_parts
from dehaze_core.scene.frame import Frame
from dehaze_core.scene.source import read_failure
from dehaze_core.scene.validity import Mask, Pixels, pixels_and_validity
from dehaze_core.scene.zarr_frame import read_frame

_MARKERS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
_X_NAMES = ("x", "lon", "longitude")
_Y_NAMES = ("y", "lat", "latitude")
_Y, _X = "y", "x"


def is_zarr(path: str) -> bool:
    """Tell whether `path` is a zarr folder."""
    # Not Path.is_dir: it raises for what is too long to be a path, as connections may be.
    return os.path.isdir(path) and any((Path(path) / marker).exists() for marker in _MARKERS)


# What zarr, xarray and rioxarray raise on malformed metadata: there is no family of such errors,
# deep nesting ends in RecursionError, numbers out of range in OverflowError.
MALFORMED = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    CRSError,
)  # fmt: skip


class ZarrSource:
    """One raster in a zarr group: a variable (band, y, x) or (y, x), or one variable per band.

    Values are the stored ones: the frame reports scale factors and fill values.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.has_overviews = False
        try:
            self._dataset = xr.open_dataset(
                path,
                engine="zarr",
                chunks=None,
                consolidated=False,
                mask_and_scale=False,
                decode_coords="all",
            )
            self._bands, self._mask = _bands(self._dataset, path)
            self.frame: Frame = read_frame(self._bands, self._dataset.attrs, self._mask is not None)
        except InputError:
            raise
        except MALFORMED as error:
            raise InputError(
                f"{path} cannot be opened as a zarr raster: {error}",
                hint="A zarr group written by xarray or rioxarray is expected.",
                code="INPUT_UNREADABLE",
            ) from error

    def __reduce__(self) -> tuple[type[ZarrSource], tuple[str]]:
        """Travel to another process as the path alone."""
        return type(self), (self.path,)

    def read(self, window: Window, bands: Sequence[int]) -> tuple[Pixels, Mask]:
        """Return stored values (B, h, w) of the 0-based `bands` and validity (h, w)."""
        return self._read(window, bands, (1, 1))

    def read_small(
        self, window: Window, shape: tuple[int, int], bands: Sequence[int]
    ) -> tuple[Pixels, Mask]:
        """Return every n-th pixel of the window, cut to `shape`."""
        steps = (max(window.height // shape[0], 1), max(window.width // shape[1], 1))
        pixels, valid = self._read(window, bands, steps)
        return pixels[:, : shape[0], : shape[1]], valid[: shape[0], : shape[1]]

    def stored_mask(self, window: Window) -> Mask:
        """Return the mask variable that belongs to the raster (h, w), all True without one."""
        if self.frame.mask != "internal":
            return np.ones((window.height, window.width), dtype=bool)
        with self._reading(window):
            return self._mask_at(*window.slices)

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the folder."""
        return (Path(self.path),)

    def fingerprint_parts(self) -> list[str]:
        """Return names, sizes and times of the store's files; metadata files are also sampled."""
        files = [path for path in Path(self.path).rglob("*") if path.is_file()]
        states = [(path, path.stat()) for path in sorted(files)]
        listed = [f"{path} {state.st_size} {state.st_mtime_ns}" for path, state in states]
        return listed + file_parts(path for path in files if path.name in (*_MARKERS, ".zattrs"))

    def close(self) -> None:
        """Let go of the store; a later read opens it again."""
        self._dataset.close()

    def _read(
        self, window: Window, bands: Sequence[int], steps: tuple[int, int]
    ) -> tuple[Pixels, Mask]:
        rows = slice(window.row, window.row_stop, steps[0])
        cols = slice(window.col, window.col_stop, steps[1])

        def fetch(wanted: Sequence[int]) -> Pixels:
            planes = [self._bands[band].isel({_Y: rows, _X: cols}) for band in wanted]
            return np.stack([plane.transpose(_Y, _X).values for plane in planes])

        with self._reading(window):
            return pixels_and_validity(fetch, bands, self.frame, lambda: self._mask_at(rows, cols))

    def _mask_at(self, rows: slice, cols: slice) -> Mask:
        if self._mask is None:
            raise ValueError(f"{self.path} has no mask")
        return np.asarray(self._mask.isel({_Y: rows, _X: cols}).transpose(_Y, _X).values > 0)

    @contextmanager
    def _reading(self, window: Window) -> Iterator[None]:
        try:
            yield
        except MALFORMED as error:
            raise read_failure(self.path, window, error) from error


def _bands(dataset: xr.Dataset, path: str) -> tuple[list[xr.DataArray], xr.DataArray | None]:
    """Return one (y, x) array per band, and the mask that goes with them if there is one."""
    renamed = {}
    for wanted, names in ((_Y, _Y_NAMES), (_X, _X_NAMES)):
        found = [name for name in dataset.dims if str(name).lower() in names]
        if len(found) != 1:
            raise _not_a_raster(path, f"dimensions {', '.join(map(str, dataset.dims)) or 'none'}")
        if found[0] != wanted:
            renamed[found[0]] = wanted
    dataset = dataset.rename(renamed) if renamed else dataset
    rasters = [array for array in dataset.data_vars.values() if {_Y, _X} <= set(array.dims)]
    rasters, mask = _without_mask(rasters)
    # A group lists its variables in the order of the file system, which is none.
    rasters.sort(key=lambda array: str(array.name))
    kinds = {(array.dtype.name, array.ndim) for array in rasters}
    if len(rasters) > 1 and (len(kinds) > 1 or rasters[0].ndim != 2):
        listed = ", ".join(str(array.name) for array in rasters)
        raise InputError(
            f"{path} holds several rasters that are not bands of one image: {listed}.",
            hint="Save the one to dehaze to a zarr group of its own.",
            code="INPUT_CONTAINER",
        )
    if not rasters or rasters[0].ndim > 3:
        raise _not_a_raster(path, "no variable with the dimensions (band, y, x) or (y, x)")
    if rasters[0].dtype.kind not in "iuf":
        raise InputError(
            f"{path} holds {rasters[0].dtype.name} values; real numbers are needed.",
            hint="Convert it to real pixel values first.",
            code="INPUT_COMPLEX" if rasters[0].dtype.kind == "c" else "INPUT_DTYPE",
        )
    if rasters[0].ndim == 2:
        return rasters, mask
    (band_dim,) = set(rasters[0].dims) - {_Y, _X}
    planes = [rasters[0].isel({band_dim: index}) for index in range(rasters[0].sizes[band_dim])]
    return planes, mask


def _without_mask(rasters: list[xr.DataArray]) -> tuple[list[xr.DataArray], xr.DataArray | None]:
    """Tell the mask, which CF calls a status flag in an ancillary variable, from the pixels."""
    named = {name for array in rasters for name in _ancillary(array)}
    masks = [
        array
        for array in rasters
        if array.name in named and array.attrs.get("standard_name") == "status_flag"
    ]
    images = [array for array in rasters if array.name not in named]
    return images, masks[0] if len(masks) == 1 and masks[0].ndim == 2 else None


def _ancillary(array: xr.DataArray) -> list[str]:
    return str(array.attrs.get("ancillary_variables", "")).split()


def _not_a_raster(path: str, found: str) -> InputError:
    return InputError(
        f"{path} is a zarr group without a raster: found {found}.",
        hint="A variable with the dimensions (band, y, x) or (y, x) is expected.",
        code="INPUT_CONTAINER",
    )
