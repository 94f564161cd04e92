# SPDX-License-Identifier: GPL-3.0-or-later
"""Creation options of the output: good defaults, and what users and QGIS profiles ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dehaze_core.errors import SettingsError
from dehaze_core.scene.frame import Frame

_TILE = 512
_MIN_TILE = 128
_TILE_BYTES = 8 << 20

_ALLOWED = {
    "BIGTIFF",
    "BLOCKSIZE",
    "COMPRESS",
    "GEOTIFF_VERSION",
    "LEVEL",
    "MAX_Z_ERROR",
    "MAX_Z_ERROR_OVERVIEW",
    "NUM_THREADS",
    "OVERVIEWS",
    "OVERVIEW_COMPRESS",
    "OVERVIEW_PREDICTOR",
    "OVERVIEW_QUALITY",
    "OVERVIEW_RESAMPLING",
    "PREDICTOR",
    "QUALITY",
    "SPARSE_OK",
}
# What QGIS's profiles and users of plain GeoTIFF write, in the words of the COG driver.
_SYNONYMS = {
    "BLOCKXSIZE": "BLOCKSIZE",
    "ZLEVEL": "LEVEL",
    "ZSTD_LEVEL": "LEVEL",
    "JPEG_QUALITY": "QUALITY",
    "WEBP_LEVEL": "QUALITY",
}
_PREDICTORS = {"1": "NO", "2": "STANDARD", "3": "FLOATING_POINT"}
# True of every output anyway.
_IMPLIED = {"TILED", "BLOCKYSIZE", "INTERLEAVE", "COPY_SRC_OVERVIEWS", "PHOTOMETRIC", "ALPHA"}
_LOSSLESS = {"NONE", "LZW", "DEFLATE", "ZSTD", "LZMA"}
_LOSSY = {"JPEG", "WEBP", "LERC", "LERC_DEFLATE", "LERC_ZSTD", "JXL"}


def cog_options(frame: Frame, requested: Sequence[str]) -> dict[str, str]:
    """Return options for GDAL's COG driver.

    DEFLATE is read by everything and notices most damaged bits. Level 4 takes half the time of
    GDAL's default 6 and makes files 2 % larger.

    Args:
        frame: The frame of the output.
        requested: "KEY=VALUE" texts, in the words of the COG or the GeoTIFF driver.

    Raises:
        SettingsError: An option is malformed, unknown, or would change the pixel grid.
    """
    options = {
        "COMPRESS": "DEFLATE",
        "LEVEL": "4",
        "PREDICTOR": "YES",
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",
        "OVERVIEW_RESAMPLING": "AVERAGE",
        "BLOCKSIZE": str(tile_side(frame)),
        # Without this GDAL drops metadata domains of its own accord.
        "COPY_SRC_MDD": "YES",
    }
    asked = dict(_parsed(text) for text in requested)
    if "COMPRESS" in asked and "LEVEL" not in asked:
        del options["LEVEL"]
    options.update((key, value) for key, value in asked.items() if key not in _IMPLIED)
    return options


def is_lossless(options: Mapping[str, str]) -> bool:
    """Tell whether the compression gives back the very same numbers."""
    return options["COMPRESS"].upper() in _LOSSLESS


def tile_side(frame: Frame) -> int:
    """Return the side of the output's tiles, px: 512, less where many bands make them huge."""
    side = _TILE
    while side > _MIN_TILE and side * side * bytes_per_pixel(frame) > _TILE_BYTES:
        side //= 2
    return side


def bytes_per_pixel(frame: Frame) -> int:
    """Return the bytes of one pixel with all its bands, uncompressed."""
    return frame.count * np.dtype(frame.dtype).itemsize


def _parsed(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    key = _SYNONYMS.get(key.strip().upper(), key.strip().upper())
    value = value.strip()
    if not separator or not value:
        raise SettingsError(
            f"The creation option {text!r} is not of the form KEY=VALUE.",
            hint="Write for instance COMPRESS=ZSTD.",
            code="SETTINGS_OPTION",
        )
    if key not in _ALLOWED | _IMPLIED:
        raise SettingsError(
            f"The creation option {key} is unknown or would change the pixel grid.",
            hint=f"Known are {', '.join(sorted(_ALLOWED))}.",
            code="SETTINGS_OPTION",
        )
    if key == "COMPRESS" and value.upper() not in _LOSSLESS | _LOSSY:
        # GDAL would only warn, and write without compression.
        raise SettingsError(
            f"The compression {value} is unknown.",
            hint=f"Known are {', '.join(sorted(_LOSSLESS | _LOSSY))}.",
            code="SETTINGS_OPTION",
        )
    return key, _PREDICTORS.get(value, value) if key == "PREDICTOR" else value
