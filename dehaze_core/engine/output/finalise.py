# SPDX-License-Identifier: GPL-3.0-or-later
"""From the result store to a GeoTIFF: written aside, verified whole, then moved in place.

Under the output's name there is at any moment the old file, none, or the complete and verified new
one. GDAL can report success for a file that was never wholly written, so that nothing counts but
what is read back.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from rasterio.dtypes import check_dtype

from dehaze_core.engine.output.aside import SIDECAR, put_file, temporary_folder, write_errors
from dehaze_core.engine.output.cog_options import (
    RESAMPLINGS,
    cog_options,
    gtiff_options,
    is_lossless,
    said_of_fill,
    tile_side,
)
from dehaze_core.engine.output.read_back import Checksum, Read, losses, refuse_wrong, windows_of
from dehaze_core.engine.output.tiff_blocks import missing_tiles, overview_factors, raw_bytes
from dehaze_core.engine.output.tiff_frame import (
    COLOR_PROFILE,
    STAND_IN,
    apply_frame,
    differences,
    keep_beside,
    restore_band_tags,
)
from dehaze_core.errors import OutputError
from dehaze_core.grid.window import Window
from dehaze_core.scene.frame import Frame
from dehaze_core.scene.gdal_frame import read_frame
from dehaze_core.scene.gdal_source import GDAL_ERRORS, GDAL_OPTIONS, quiet_open

# Shares of the time the steps take, for progress.
_AFTER_PIXELS, _AFTER_OVERVIEWS, _AFTER_COG = 0.2, 0.3, 0.8
_GDAL: dict[str, Any] = {
    **GDAL_OPTIONS,
    "GDAL_NUM_THREADS": "ALL_CPUS",
    "GDAL_TIFF_INTERNAL_MASK": True,
    "BIGTIFF_OVERVIEW": "IF_SAFER",
}


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
    overwrite: bool = True,
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
        overwrite: Replace a file that has the output's name in the end.

    Returns:
        What the format could not hold, one sentence each.

    Raises:
        OutputError: The output can't be written (OUTPUT_DISK_FULL, OUTPUT_PERMISSION,
            OUTPUT_FOLDER, OUTPUT_DTYPE, OUTPUT_WRITE), does not read back as it should
            (OUTPUT_VERIFY), or must not replace what is there (OUTPUT_EXISTS).
        SettingsError: A creation option is unknown or loses the missing pixels.
    """
    content = _Content(store_read, mask_read, frame, provenance)
    options = cog_options(frame, creation_options)
    with (
        temporary_folder(destination, work_folder) as folder,
        rasterio.Env(**_GDAL),
        write_errors(destination, 2 * raw_bytes(frame)),
    ):
        raw, cog = folder / "pixels.tif", folder / "result.tif"
        done = partial(_scaled, progress, 0.0, _AFTER_PIXELS)
        checksums = content.write(raw, {"BIGTIFF": "IF_SAFER"}, STAND_IN, done)
        _add_overviews(raw, frame, options["OVERVIEW_RESAMPLING"])
        _refuse_incomplete(raw, frame)
        progress(_AFTER_OVERVIEWS)
        rasterio.shutil.copy(str(raw), str(cog), driver="COG", **options)
        restore_band_tags(cog, frame)
        raw.unlink()
        progress(_AFTER_COG)
        done = partial(_scaled, progress, _AFTER_COG, 1.0)
        beside = _said_of_sidecar(keep_beside(cog, frame), destination)
        lost = beside + _verify(cog, frame, checksums, options, done)
        put_file(cog, destination, overwrite=overwrite)
    progress(1.0)
    return lost


def write_gtiff(  # noqa: PLR0913 - the whole recipe of one file
    store_read: Read,
    frame: Frame,
    mask_read: Read | None,
    destination: Path,
    *,
    provenance: Mapping[str, str],
    creation_options: Sequence[str] = (),
    progress: Callable[[float], None],
    work_folder: Path | None = None,
    overwrite: bool = True,
) -> tuple[str, ...]:
    """Write a plain tiled GeoTIFF with overviews, in half the disk space that a COG takes.

    Arguments, results and errors are those of `write_cog`; the creation options are those of
    GDAL's GeoTIFF driver.
    """
    content = _Content(store_read, mask_read, frame, provenance)
    options = gtiff_options(frame, creation_options)
    overviews = options.pop("OVERVIEW_RESAMPLING")
    with (
        temporary_folder(destination, work_folder) as folder,
        rasterio.Env(**_GDAL),
        write_errors(destination, 2 * raw_bytes(frame)),
    ):
        path = folder / "result.tif"
        done = partial(_scaled, progress, 0.0, 0.5)
        checksums = content.write(path, options, "", done)
        _refuse_missing_tiles(path, options)
        _add_overviews(path, frame, overviews)
        _refuse_missing_tiles(path, options)
        progress(_AFTER_COG)
        done = partial(_scaled, progress, _AFTER_COG, 1.0)
        beside = _said_of_sidecar(keep_beside(path, frame), destination)
        lost = beside + _verify(path, frame, checksums, options, done)
        put_file(path, destination, overwrite=overwrite)
    progress(1.0)
    return lost


@dataclass(frozen=True, slots=True)
class _Content:
    """What goes into a file, checked when made."""

    store_read: Read
    mask_read: Read | None
    frame: Frame
    provenance: Mapping[str, str]

    def __post_init__(self) -> None:
        if not check_dtype(self.frame.dtype):
            raise OutputError(
                f"A GeoTIFF cannot hold {self.frame.dtype} values here.",
                hint="Choose a zarr output, or convert the input to float32 first.",
                code="OUTPUT_DTYPE",
            )

    def write(
        self,
        path: Path,
        options: Mapping[str, str],
        band_domain: str,
        progress: Callable[[float], None],
    ) -> list[Checksum]:
        """Write pixels and mask into a new tiled GeoTIFF; return checksums of what was written.

        Args:
            path: The file.
            options: Options for GDAL's GeoTIFF driver.
            band_domain: The domain for the bands' default tags.
            progress: Called with the share done, 0 to 1.
        """
        frame, tile = self.frame, tile_side(self.frame)
        layout = {"tiled": True, "blockxsize": tile, "blockysize": tile, "interleave": "pixel"}
        asked = {key.lower(): value for key, value in options.items()}
        checksums = []
        with quiet_open(
            path,
            "w",
            driver="GTiff",
            width=frame.width,
            height=frame.height,
            count=frame.count,
            dtype=frame.dtype,
            **{**layout, **asked, **frame.tags.get(COLOR_PROFILE, {})},
        ) as dataset:
            apply_frame(dataset, frame, self.provenance, band_domain)
            windows = list(windows_of(frame, tile))
            for index, window in enumerate(windows):
                pixels = self.store_read(window)
                dataset.write(pixels, window=_rows_cols(window))
                mask = None if self.mask_read is None else self.mask_read(window)
                if mask is not None:
                    dataset.write_mask(mask, window=_rows_cols(window))
                checksums.append(Checksum.of(window, pixels, mask))
                progress((index + 1) / len(windows))
        return checksums


def _add_overviews(path: Path, frame: Frame, resampling: str) -> None:
    factors = overview_factors(frame)
    if factors:
        with quiet_open(path, "r+") as dataset:
            dataset.build_overviews(factors, RESAMPLINGS[resampling])


def _refuse_incomplete(path: Path, frame: Frame) -> None:
    """Make sure that all of an uncompressed file got written.

    GDAL reports no error when the disk fills up while it builds overviews. Uncompressed, a complete
    file can't be smaller than its pixels.
    """
    if path.stat().st_size < raw_bytes(frame):
        raise OSError(errno.ENOSPC, "the temporary file is incomplete")


def _refuse_missing_tiles(path: Path, options: Mapping[str, str]) -> None:
    """Make sure that all of a compressed file got written, for the same reason."""
    try:
        with quiet_open(path) as dataset:
            missing = [] if _is_sparse(options) else missing_tiles(dataset, path.stat().st_size)
    except GDAL_ERRORS as error:
        raise OSError(errno.ENOSPC, "the temporary file is incomplete") from error
    if missing:
        raise OSError(errno.ENOSPC, f"the temporary file is incomplete: {missing[0]}")


def _is_sparse(options: Mapping[str, str]) -> bool:
    return options.get("SPARSE_OK", "NO").upper() in ("YES", "TRUE", "ON")


def _verify(
    path: Path,
    frame: Frame,
    checksums: list[Checksum],
    options: Mapping[str, str],
    progress: Callable[[float], None],
) -> tuple[str, ...]:
    """Read the whole file back and compare; return what the format could not hold."""
    lossless = is_lossless(options)
    with quiet_open(path, NUM_THREADS="ALL_CPUS") as dataset:
        wrong, lost = differences(frame, read_frame(dataset))
        if not _is_sparse(options):
            wrong += missing_tiles(dataset, path.stat().st_size)
        for index, checksum in enumerate(checksums):
            place = _rows_cols(checksum.window)
            mask = None if checksum.mask is None else dataset.read_masks(1, window=place) > 0
            found = Checksum.of(checksum.window, dataset.read(window=place), mask)
            wrong += checksum.differences(found, lossless=lossless)
            progress((index + 1) / len(checksums))
    refuse_wrong(wrong)
    return losses("GeoTIFF", lost) + said_of_fill(options, frame)


def _said_of_sidecar(held: Sequence[str], destination: Path) -> tuple[str, ...]:
    return tuple(
        f"A GeoTIFF cannot hold {what}; {destination.name}{SIDECAR} beside it does. Keep the two "
        "files together."
        for what in held
    )


def _scaled(progress: Callable[[float], None], start: float, stop: float, share: float) -> None:
    progress(start + (stop - start) * share)


def _rows_cols(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.row, window.row_stop), (window.col, window.col_stop)
