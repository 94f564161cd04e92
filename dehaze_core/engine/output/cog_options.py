# SPDX-License-Identifier: GPL-3.0-or-later
"""Creation options of the output: good defaults, and what users and QGIS profiles ask for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from rasterio.enums import Resampling

from dehaze_core.errors import SettingsError
from dehaze_core.scene.frame import Frame

_TILE = 512
_MIN_TILE = 128
_TILE_BYTES = 8 << 20

BLOCK_SIDES = tuple(str(2**exponent) for exponent in range(6, 12))
"""Sides that tiles and chunks may have, px; with others GDAL gives overviews tiles of their own."""

RESAMPLINGS = {
    method.name.replace("_", "").upper(): method
    for method in (
        *(Resampling.nearest, Resampling.average, Resampling.bilinear, Resampling.cubic),
        *(Resampling.cubic_spline, Resampling.lanczos, Resampling.mode, Resampling.rms),
    )
}
"""Ways to make overviews, by the names that GDAL gives them."""

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
# What plain GeoTIFFs know of the same, and under which names.
_GTIFF = {
    "BIGTIFF",
    "BLOCKSIZE",
    "COMPRESS",
    "GEOTIFF_VERSION",
    "INTERLEAVE",
    "LEVEL",
    "MAX_Z_ERROR",
    "NUM_THREADS",
    "OVERVIEW_RESAMPLING",
    "PHOTOMETRIC",
    "PREDICTOR",
    "QUALITY",
    "SPARSE_OK",
}
_GTIFF_NAMES = {
    "LEVEL": {
        "DEFLATE": "ZLEVEL",
        "LERC_DEFLATE": "ZLEVEL",
        "ZSTD": "ZSTD_LEVEL",
        "LERC_ZSTD": "ZSTD_LEVEL",
        "LZMA": "LZMA_PRESET",
    },
    "QUALITY": {"JPEG": "JPEG_QUALITY", "WEBP": "WEBP_LEVEL"},
}
_PREDICTED = {"LZW", "DEFLATE", "ZSTD"}
_LOSSLESS = {"NONE", "LZW", "DEFLATE", "ZSTD", "LZMA"}
_LERC = {"LERC", "LERC_DEFLATE", "LERC_ZSTD"}
# 8-bit pictures of so many bands are all that these can hold.
_PICTURE_BANDS = {"JPEG": (1, 2, 3, 4), "WEBP": (3, 4)}
_COMPRESSIONS = tuple(sorted(_LOSSLESS | _LERC | {"JPEG", "WEBP", "JXL"}))
# Values that GDAL would merely warn of, or follow into files of another layout.
_VALUES: dict[str, Collection[str]] = {
    "BLOCKSIZE": BLOCK_SIDES,
    "COMPRESS": _COMPRESSIONS,
    "OVERVIEW_COMPRESS": ("AUTO", *_COMPRESSIONS),
    "OVERVIEW_RESAMPLING": RESAMPLINGS,
    "PREDICTOR": ("YES", *_PREDICTORS.values()),
}


def cog_options(frame: Frame, requested: Sequence[str]) -> dict[str, str]:
    """Return options for GDAL's COG driver.

    DEFLATE is read by everything and notices most damaged bits. Level 4 takes half the time of
    GDAL's default 6 and makes files 2 % larger.

    Args:
        frame: The frame of the output.
        requested: "KEY=VALUE" texts, in the words of the COG or the GeoTIFF driver.

    Raises:
        SettingsError: An option is malformed, unknown, would change the pixel grid, or would make
            missing pixels others.
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
    asked = dict(parsed_option(text) for text in requested)
    if "COMPRESS" in asked and "LEVEL" not in asked:
        del options["LEVEL"]
    options.update((key, value) for key, value in asked.items() if key not in _IMPLIED)
    _refuse_compression(options, frame)
    return options


def gtiff_options(frame: Frame, requested: Sequence[str]) -> dict[str, str]:
    """Return options for GDAL's GeoTIFF driver, and OVERVIEW_RESAMPLING beside them.

    Args:
        frame: The frame of the output.
        requested: "KEY=VALUE" texts, in the words of the COG or the GeoTIFF driver.

    Raises:
        SettingsError: An option is malformed, unknown, would change the pixel grid, or would make
            missing pixels others.
    """
    asked = dict(parsed_option(text) for text in requested)
    unknown = sorted(asked.keys() - _GTIFF - _IMPLIED)
    if unknown:
        raise SettingsError(
            f"A plain GeoTIFF has no creation option {', '.join(unknown)}.",
            hint=f"Choose the format cog, or among {', '.join(sorted(_GTIFF))}.",
            code="SETTINGS_OPTION",
        )
    options = {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "YES",
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",
        "OVERVIEW_RESAMPLING": "AVERAGE",
    }
    if "COMPRESS" not in asked:
        options["LEVEL"] = "4"
    options.update((key, value) for key, value in asked.items() if key in _GTIFF)
    _refuse_compression(options, frame)
    method = options["COMPRESS"]
    predictor = _predictor(options.pop("PREDICTOR"), frame)
    if method in _PREDICTED:
        options["PREDICTOR"] = predictor
    for key, names in _GTIFF_NAMES.items():
        value = options.pop(key, None)
        name = names.get(method)
        if value is not None and name is not None:
            options[name] = value
    side = options.pop("BLOCKSIZE", None)
    if side is not None:
        options |= {"BLOCKXSIZE": side, "BLOCKYSIZE": side}
    return options


def is_lossless(options: Mapping[str, str]) -> bool:
    """Tell whether the compression gives back the very same numbers."""
    return options["COMPRESS"] in _LOSSLESS


def said_of_fill(options: Mapping[str, str], frame: Frame) -> tuple[str, ...]:
    """Return what a compression may do to missing pixels that nothing declares, as a sentence."""
    if frame.mask != "none" or _keeps_numbers(options):
        return ()
    return (
        f"COMPRESS={options['COMPRESS']} changes pixels a little: a border of zeros, which no "
        "nodata value declares, may hold other numbers.",
    )


def tile_side(frame: Frame) -> int:
    """Return the side of the output's tiles, px: 512, less where many bands make them huge."""
    side = _TILE
    while side > _MIN_TILE and side * side * bytes_per_pixel(frame) > _TILE_BYTES:
        side //= 2
    return side


def bytes_per_pixel(frame: Frame) -> int:
    """Return the bytes of one pixel with all its bands, uncompressed."""
    return frame.count * np.dtype(frame.dtype).itemsize


def _refuse_compression(options: Mapping[str, str], frame: Frame) -> None:
    """Refuse what can't hold such pixels, or after which missing ones would look like others."""
    method = options["COMPRESS"]
    if not _holds(method, frame):
        raise SettingsError(
            f"COMPRESS={method} cannot hold {frame.dtype} pixels of {frame.count} bands.",
            hint="Choose DEFLATE, ZSTD or LZW.",
            code="SETTINGS_OPTION",
        )
    is_marked_by_pixels = frame.mask in ("nodata", "nan", "alpha")
    keeps_alpha = frame.mask == "alpha" and method == "WEBP"
    if is_marked_by_pixels and not keeps_alpha and not _keeps_numbers(options):
        raise SettingsError(
            f"COMPRESS={method} would turn missing pixels into others: it changes the numbers "
            "that mark them.",
            hint="Choose DEFLATE, ZSTD or LZW.",
            code="SETTINGS_OPTION",
        )


def _holds(method: str, frame: Frame) -> bool:
    if method in _PICTURE_BANDS:
        return frame.dtype == "uint8" and frame.count in _PICTURE_BANDS[method]
    return method not in _LERC or frame.dtype not in ("int64", "uint64")


def _keeps_numbers(options: Mapping[str, str]) -> bool:
    is_exact_lerc = options["COMPRESS"] in _LERC and not options.get("MAX_Z_ERROR", "0").strip("0.")
    return is_lossless(options) or is_exact_lerc


def _predictor(wanted: str, frame: Frame) -> str:
    """Return the number that stands for a word of the COG driver."""
    if wanted == "YES":
        wanted = "FLOATING_POINT" if np.dtype(frame.dtype).kind == "f" else "STANDARD"
    return next(number for number, word in _PREDICTORS.items() if word == wanted)


def parsed_option(text: str) -> tuple[str, str]:
    """Return key and value of "KEY=VALUE", in the words of the COG driver.

    Raises:
        SettingsError: It is malformed, or no output knows such an option or value.
    """
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
    if key == "PREDICTOR":
        value = _PREDICTORS.get(value, value)
    return key, one_of(key, value, _VALUES[key]) if key in _VALUES else value


def one_of(key: str, value: str, known: Collection[str]) -> str:
    """Return the value of a creation option in capitals.

    Raises:
        SettingsError: It is not among those known.
    """
    if value.upper() not in known:
        raise SettingsError(
            f"The creation option {key}={value} is unknown.",
            hint=f"Known are {', '.join(known)}.",
            code="SETTINGS_OPTION",
        )
    return value.upper()
