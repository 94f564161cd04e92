# SPDX-License-Identifier: GPL-3.0-or-later
"""From the result store to the output file: written aside, verified whole, then moved in place.

Under the output's name there is at any moment the old file, none, or the complete and verified new
one. GDAL can report success for a file that was never wholly written, so that nothing counts but
what is read back.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.dtypes import check_dtype
from rasterio.enums import Resampling

from dehaze_core.engine.cog_options import bytes_per_pixel, cog_options, is_lossless, tile_side
from dehaze_core.engine.disk import write_failure
from dehaze_core.engine.tiff_blocks import missing_tiles, overview_factors, raw_bytes
from dehaze_core.engine.tiff_frame import COLOR_PROFILE, apply_frame, differences, restore_band_tags
from dehaze_core.errors import DehazeError, OutputError
from dehaze_core.grid.window import Window
from dehaze_core.scene.frame import Frame
from dehaze_core.scene.gdal_frame import read_frame
from dehaze_core.scene.gdal_source import GDAL_ERRORS, GDAL_OPTIONS, quiet_open

Read = Callable[[Window], npt.NDArray[Any]]

_WINDOW_SIDE = 2048
_WINDOW_BYTES = 64 << 20
# Shares of the time the steps take, for progress.
_AFTER_PIXELS, _AFTER_OVERVIEWS, _AFTER_COG = 0.2, 0.3, 0.8
_GDAL: dict[str, Any] = {
    **GDAL_OPTIONS,
    "GDAL_NUM_THREADS": "ALL_CPUS",
    "GDAL_TIFF_INTERNAL_MASK": True,
    "BIGTIFF_OVERVIEW": "IF_SAFER",
}


@dataclass(frozen=True, slots=True)
class _Checksum:
    """CRC-32C of the pixels, and of the mask if there is one, inside a window."""

    window: Window
    pixels: int
    mask: int | None


def write_cog(  # noqa: PLR0913 - the whole recipe of one file
    store_read: Read,
    frame: Frame,
    mask_read: Read | None,
    destination: Path,
    *,
    provenance: Mapping[str, str],
    creation_options: Sequence[str] = (),
    progress: Callable[[float], None],
    work_folder: Path | None = None,
) -> tuple[str, ...]:
    """Write a cloud-optimised GeoTIFF with overviews, verify it, and only then give it its name.

    Args:
        store_read: Returns the stored values (B, h, w), of the frame's type, inside a window.
        frame: What the output carries beside pixels.
        mask_read: Returns the mask to store, (h, w) bool, inside a window; given exactly if
            `frame.mask` is "internal".
        destination: The output's path; an old file there is replaced at the very end.
        provenance: Tags to add to the default domain.
        creation_options: "KEY=VALUE" texts, in the words of GDAL's COG or GeoTIFF driver.
        progress: Called with the share done, 0 to 1; what it raises ends the work.
        work_folder: Folder on the destination's disk for temporary files; beside the destination
            if None. They are gone in the end, unless the process is killed.

    Returns:
        What the format could not hold, one sentence each.

    Raises:
        OutputError: The output can't be written (OUTPUT_DISK_FULL, OUTPUT_PERMISSION,
            OUTPUT_FOLDER, OUTPUT_DTYPE, OUTPUT_WRITE) or does not read back as it should
            (OUTPUT_VERIFY).
        SettingsError: A creation option is unknown.
    """
    if (frame.mask == "internal") != (mask_read is not None):
        raise ValueError("mask_read goes with frames whose mask is internal, and only with them")
    _check_type(frame)
    options = cog_options(frame, creation_options)
    with _temporary_folder(destination, work_folder) as folder, _write_errors(destination, frame):
        raw, cog = folder / "pixels.tif", folder / "result.tif"
        checksums = _write_raw(raw, frame, provenance, store_read, mask_read, progress)
        _add_overviews(raw, frame)
        progress(_AFTER_OVERVIEWS)
        rasterio.shutil.copy(str(raw), str(cog), driver="COG", **options)
        restore_band_tags(cog, frame)
        raw.unlink()
        progress(_AFTER_COG)
        lost = _verify(cog, frame, checksums, options, progress)
        _move(cog, destination)
    progress(1.0)
    return lost


def _check_type(frame: Frame) -> None:
    if not check_dtype(frame.dtype):
        raise OutputError(
            f"A GeoTIFF cannot hold {frame.dtype} values here.",
            hint="Convert the input to float32 first.",
            code="OUTPUT_DTYPE",
        )


def _write_raw(
    path: Path,
    frame: Frame,
    provenance: Mapping[str, str],
    store_read: Read,
    mask_read: Read | None,
    progress: Callable[[float], None],
) -> list[_Checksum]:
    """Write pixels and mask uncompressed; return checksums of what was written."""
    tile = tile_side(frame)
    checksums = []
    with quiet_open(
        path,
        "w",
        driver="GTiff",
        width=frame.width,
        height=frame.height,
        count=frame.count,
        dtype=frame.dtype,
        tiled=True,
        blockxsize=tile,
        blockysize=tile,
        interleave="pixel",
        BIGTIFF="IF_SAFER",
        **frame.tags.get(COLOR_PROFILE, {}),
    ) as dataset:
        apply_frame(dataset, frame, provenance)
        windows = list(_windows(frame))
        for index, window in enumerate(windows):
            pixels = store_read(window)
            dataset.write(pixels, window=_rows_cols(window))
            mask = None if mask_read is None else mask_read(window)
            if mask is not None:
                dataset.write_mask(mask, window=_rows_cols(window))
            checksums.append(_Checksum(window, _crc(pixels), None if mask is None else _crc(mask)))
            progress(_AFTER_PIXELS * (index + 1) / len(windows))
    return checksums


def _add_overviews(path: Path, frame: Frame) -> None:
    """Add overviews to the uncompressed file, and make sure that all of it got written.

    GDAL reports no error when the disk fills up while it builds overviews. Uncompressed, a complete
    file can't be smaller than its pixels.
    """
    factors = overview_factors(frame)
    if factors:
        with quiet_open(path, "r+") as dataset:
            dataset.build_overviews(factors, Resampling.average)
    if path.stat().st_size < raw_bytes(frame):
        raise OSError(errno.ENOSPC, "the temporary file is incomplete")


def _verify(
    path: Path,
    frame: Frame,
    checksums: list[_Checksum],
    options: Mapping[str, str],
    progress: Callable[[float], None],
) -> tuple[str, ...]:
    """Read the whole file back and compare; return what the format could not hold."""
    with quiet_open(path, NUM_THREADS="ALL_CPUS") as dataset:
        wrong, lost = differences(frame, read_frame(dataset))
        if options.get("SPARSE_OK", "NO").upper() not in ("YES", "TRUE", "ON"):
            wrong += missing_tiles(dataset, path.stat().st_size)
        for index, checksum in enumerate(checksums):
            place = _rows_cols(checksum.window)
            pixels = dataset.read(window=place)
            if is_lossless(options) and _crc(pixels) != checksum.pixels:
                wrong.append(f"pixels differ in {checksum.window}")
            if checksum.mask is not None:
                mask = dataset.read_masks(1, window=place) > 0
                if _crc(mask) != checksum.mask:
                    wrong.append(f"the mask differs in {checksum.window}")
            progress(_AFTER_COG + (1 - _AFTER_COG) * (index + 1) / len(checksums))
    if wrong:
        raise OutputError(
            f"The written file is not what it should be: {'; '.join(wrong[:3])}.",
            hint="The disk may be faulty or full. Nothing was left under the output's name.",
            code="OUTPUT_VERIFY",
        )
    return tuple(f"A GeoTIFF cannot hold this, it is lost: {trait}." for trait in lost)


@contextmanager
def _temporary_folder(destination: Path, parent: Path | None) -> Iterator[Path]:
    """Make a folder on the disk of the destination that is gone in the end."""
    try:
        made = tempfile.mkdtemp(
            prefix=f".{destination.stem[:40]}-", suffix=".part", dir=parent or destination.parent
        )
    except FileNotFoundError as error:
        raise OutputError(
            f"The folder {parent or destination.parent} does not exist.",
            hint="Create it, or choose another output.",
            code="OUTPUT_FOLDER",
        ) from error
    except OSError as error:
        raise write_failure(destination, 0, error) from error
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _write_errors(destination: Path, frame: Frame) -> Iterator[None]:
    """Explain errors while the temporary files are still there, so that free space is as it was."""
    try:
        with rasterio.Env(**_GDAL):
            yield
    except DehazeError:
        raise
    except GDAL_ERRORS as error:
        raise write_failure(destination, 2 * raw_bytes(frame), error) from error


def _move(cog: Path, destination: Path) -> None:
    """Give the verified file its name in one step that survives a power failure."""
    _sync(cog)
    # Sidecars of the old file (statistics, overviews) would be taken for the new one's.
    for suffix in (".aux.xml", ".ovr", ".msk"):
        old, new = Path(f"{destination}{suffix}"), Path(f"{cog}{suffix}")
        if new.exists():
            os.replace(new, old)
        else:
            old.unlink(missing_ok=True)
    os.replace(cog, destination)
    if os.name == "posix":
        _sync(destination.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rows_cols(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.row, window.row_stop), (window.col, window.col_stop)


def _windows(frame: Frame) -> Iterator[Window]:
    """Yield windows that cover the raster, row by row, each of whole tiles and at most 64 MiB."""
    side = _WINDOW_SIDE
    while side > tile_side(frame) and side * side * bytes_per_pixel(frame) > _WINDOW_BYTES:
        side //= 2
    for row in range(0, frame.height, side):
        for col in range(0, frame.width, side):
            yield Window(row, col, side, side).clipped(frame.height, frame.width)


def _crc(array: npt.NDArray[Any]) -> int:
    value: int = google_crc32c.value(array.tobytes())
    return value
