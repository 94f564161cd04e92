# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasters in a folder of the user's."""

from __future__ import annotations

import csv
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


def manifest_rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the table MANIFEST.csv in a folder; none where there is no such file.

    Raises:
        InputError: It is no table in UTF-8 (INPUT_MANIFEST).
    """
    manifest = folder / "MANIFEST.csv"
    if not manifest.is_file():
        return []
    try:
        with manifest.open(newline="", encoding="utf-8") as lines:
            return list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{manifest} cannot be read: {error}.",
            hint="Save it as CSV in UTF-8, with columns path and site, or take it away.",
            code="INPUT_MANIFEST",
        ) from error


def manifest_sites(folder: Path) -> dict[str, str]:
    """Return the sites that MANIFEST.csv gives to rasters, by their paths in the folder.

    Raises:
        InputError: See `manifest_rows`.
    """
    rows = manifest_rows(folder)
    return {row["path"]: row["site"] for row in rows if row.get("path") and row.get("site")}


def _is_raster(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in RASTER_SUFFIXES and not hidden and path.is_file()
