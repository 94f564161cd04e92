# SPDX-License-Identifier: GPL-3.0-or-later
"""What a virtual raster refers to: parts that are missing, and files that are none of its business.

A virtual raster is a text that anyone can write, and GDAL follows it wherever it points. What GDAL
itself can be told to leave alone is in `gdal_source.GDAL_OPTIONS`; the rest is here.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from dehaze_core.errors import InputError

_SOURCE = re.compile(r"<Source(?:Filename|Dataset)\b([^>]*)>([^<]+)</Source(?:Filename|Dataset)>")
# Band that takes the bytes of any file for pixels: a way to carry a secret into an output.
_RAW_BAND = 'subClass="VRTRawRasterBand"'
_HEAD_BYTES = 1024

Open = Callable[[str], AbstractContextManager[Any]]

# GDAL remembers a part that it could not open, and once virtual rasters among the parts of others
# keep that memory alive, reads it as empty ever after without a word, even when it was repaired.
# The first try counts: it may be made while the raster around it is opened, where no one listens.
_nested_seen: set[str] = set()
_failed_parts: set[str] = set()


def note_failed_read(parts: set[str]) -> None:
    """Remember for the life of this process that one of these parts could not be read."""
    _failed_parts.update(parts)


def check_virtual(path: str, dataset: Any, open_dataset: Open) -> set[str]:  # noqa: ANN401
    """Follow the parts of a virtual raster, and of virtual rasters among them.

    Args:
        path: Where the raster is.
        dataset: The raster, open; nothing is done for other formats.
        open_dataset: Opens a part with rasterio.

    Returns:
        All parts, and the files that those consist of which had to be opened.

    Raises:
        InputError: A part does not exist (INPUT_MISSING): GDAL would read it as nodata or zero
            without a word in some cases. Or plain bytes are to be read as pixels (INPUT_UNSAFE).
            Or a part failed before, and this process will not see it again (INPUT_STALE).
    """
    seen: set[str] = set()
    files: set[str] = set()
    unopened: list[str] = []
    waiting = [(path, virtual_text(dataset))]
    while waiting:
        place, text = waiting.pop()
        if _RAW_BAND in text:
            raise InputError(
                f"{path} reads the bytes of any file as pixels (a VRTRawRasterBand in {place}).",
                hint="Where you trust it, make a raster of it with gdal_translate and use that.",
                code="INPUT_UNSAFE",
            )
        if text and place != path:
            _nested_seen.add(place)
        for part in _parts(place, text):
            # One file has many relative names, and may name itself by ever longer ones.
            known = os.path.realpath(part) if os.path.exists(part) else part
            if known in seen:
                continue
            seen.add(known)
            # Of plain files GDAL itself tells when they are read, while there is nothing nested.
            if place == path and os.path.exists(part) and not _looks_virtual(part):
                unopened.append(part)
                continue
            inner, belonging = _open_part(path, part, open_dataset)
            waiting.append((part, inner))
            files.update(belonging)
    if _nested_seen:
        _refuse_stale(path, seen)
        for part in unopened:
            files.update(_open_part(path, part, open_dataset)[1])
    return seen | files


def _refuse_stale(path: str, parts: set[str]) -> None:
    if parts & _failed_parts:
        raise InputError(
            f"{path} is a virtual raster, and parts of it could not be read earlier in this "
            "process, in which GDAL would take them for empty from now on.",
            hint="Start a new process (Python, dehaze or QGIS) and run again.",
            code="INPUT_STALE",
        )


def virtual_text(dataset: Any) -> str:  # noqa: ANN401 - rasterio's reader is untyped
    """Return a virtual raster's description as GDAL writes it, or nothing for other formats."""
    if dataset.driver != "VRT":
        return ""
    return str(dataset.tags(ns="xml:VRT").get("xml:VRT", ""))


def _parts(path: str, text: str) -> list[str]:
    # Not Path: it would fold the double slash of URLs and archives.
    folder = os.path.dirname(path)
    found = []
    for attributes, name in _SOURCE.findall(text):
        part = html.unescape(name).strip()
        found.append(os.path.join(folder, part) if 'relativeToVRT="1"' in attributes else part)
    return found


def _open_part(path: str, part: str, open_dataset: Open) -> tuple[str, list[str]]:
    """Return the description of a part, if it is virtual itself, and its files."""
    try:
        with open_dataset(part) as dataset:
            return virtual_text(dataset), list(dataset.files)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        note_failed_read({os.path.realpath(part)})
        if os.path.exists(part):
            raise InputError(
                f"{path} is a virtual raster whose part {part} cannot be opened: {error}",
                hint="The part is damaged. Copy or download it again.",
                code="INPUT_CORRUPT",
            ) from error
        raise InputError(
            f"{path} is a virtual raster whose part {part} does not exist.",
            hint="Put the missing file back, or build the virtual raster again.",
            code="INPUT_MISSING",
        ) from error


def _looks_virtual(part: str) -> bool:
    if not os.path.isfile(part):
        return False
    with open(part, "rb") as file:
        return b"<VRTDataset" in file.read(_HEAD_BYTES)
