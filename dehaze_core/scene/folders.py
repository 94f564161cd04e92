# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasters in a folder of the user's."""

from __future__ import annotations

from pathlib import Path

from dehaze_core.errors import InputError

RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".png", ".jpg", ".jpeg", ".webp")
"""Endings of the files that are taken for rasters; what else lies beside them is passed over."""


def raster_files(folder: Path) -> list[Path]:
    """Return the rasters in a folder and the folders in it, sorted; hidden ones are passed over.

    Raises:
        InputError: There is no such folder (INPUT_MISSING), or no raster in it (INPUT_EMPTY).
    """
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}.", hint="Check the path.", code="INPUT_MISSING"
        )
    found = sorted(path for path in folder.rglob("*") if _is_raster(path, folder))
    if not found:
        raise InputError(
            f"No raster was found in {folder}, expected files that end in "
            f"{', '.join(RASTER_SUFFIXES)}.",
            hint="Choose the folder that holds them.",
            code="INPUT_EMPTY",
        )
    return found


def _is_raster(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in RASTER_SUFFIXES and not hidden and path.is_file()
