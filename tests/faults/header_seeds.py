# SPDX-License-Identifier: GPL-3.0-or-later
"""Small healthy rasters whose headers are then mutated, and the mutations."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr

from tests.conftest import write_raster

SIDE = 40

HEAD_BYTES = 600
"""Most headers end before; tags of a GeoTIFF and overviews follow at the end of the file."""

NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 32767, 65535, 1 << 20, (1 << 31) - 1)
HUGE = (1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)
WORDS = (
    b"-1", b"0", b"1e308", b"nan", b"NaN", b"2147483647", b"2147483648", b"99999999999999999999",
    b"65536", b"", b'"', b"null", b"[]", b"{}", b"true", b"CFloat64", b"Int64", b"<", b"&#0;",
    b"\xff\xfe", b"../", b"/dev/zero", b"Infinity",
)  # fmt: skip
# Pieces that virtual rasters are attacked with; no address in them leaves the machine.
PIECES = (
    b"<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    b"<PixelFunctionCode><![CDATA[import os\ndef f(*a, **k): os.system('true')]]>"
    b"</PixelFunctionCode>",
    b'<SimpleSource><SourceFilename relativeToVRT="1">vrt.vrt</SourceFilename></SimpleSource>',
    b"<SimpleSource><SourceFilename>/vsicurl/http://127.0.0.1:9/a.tif</SourceFilename>"
    b"</SimpleSource>",
    b"<SimpleSource><SourceFilename>/vsistdin/</SourceFilename></SimpleSource>",
    b"<SimpleSource><SourceFilename>/etc/passwd</SourceFilename></SimpleSource>",
    b"<SimpleSource><SourceFilename>vrt://a.tif?bands=1</SourceFilename></SimpleSource>",
    b"<OverviewList>" + b"2 " * 2000 + b"</OverviewList>",
    b"<A>" * 2000,
    b"[" * 2000,
    b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]>',
)


@dataclass(frozen=True)
class Seed:
    """A healthy raster.

    Attributes:
        path: What is opened.
        target: The file in it that is mutated.
        is_text: Whether that file is text.
    """

    path: Path
    target: Path
    is_text: bool


def make_seeds(folder: Path) -> list[Seed]:
    """Write the healthy rasters; formats that this GDAL cannot write are left out."""
    seeds = [*_tiffs(folder), *_pictures(folder), *_virtual(folder), *_zarrs(folder)]
    return [Seed(path, target, target.suffix in {".vrt", ".json", ""}) for path, target in seeds]


def _tiffs(folder: Path) -> list[tuple[Path, Path]]:
    kinds = {
        "plain": {"dtype": "uint16"},
        "tiled": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
        "big": {"BIGTIFF": "YES", "compress": "lzw", "nodata": 0, "predictor": 2},
        "masked": {"valid": np.eye(SIDE, dtype=bool), "descriptions": ("a", "b", "c")},
        "jpeg": {"compress": "jpeg", "photometric": "ycbcr"},
        "float": {"dtype": "float32", "compress": "zstd", "interleave": "band"},
    }
    for name, options in kinds.items():
        path = folder / f"{name}.tif"
        write_raster(path, **{"height": SIDE, "width": SIDE, **options})
        if name == "tiled":
            with rasterio.open(path, "r+") as raster:
                raster.build_overviews([2, 4])
                raster.update_tags(note="text", TIFFTAG_SOFTWARE="something")
    return [(folder / f"{name}.tif",) * 2 for name in kinds]


def _pictures(folder: Path) -> list[tuple[Path, Path]]:
    data = np.random.default_rng(1).integers(1, 255, (3, SIDE, SIDE), dtype=np.uint8)
    found = []
    for suffix, driver in ((".png", "PNG"), (".jpg", "JPEG"), (".jp2", "JP2OpenJPEG")):
        with rasterio.Env() as environment:
            if driver not in environment.drivers():
                continue
        path = folder / f"picture{suffix}"
        write_raster(path, data=data, driver=driver)
        found.append((path, path))
    return found


def _virtual(folder: Path) -> list[tuple[Path, Path]]:
    path = folder / "vrt.vrt"
    with rasterio.open(folder / "plain.tif") as raster:
        rasterio.shutil.copy(raster, path, driver="VRT")
    return [(path, path)]


def _zarrs(folder: Path) -> list[tuple[Path, Path]]:
    data = np.random.default_rng(2).integers(1, 999, (3, SIDE, SIDE), dtype=np.uint16)
    axis = np.arange(SIDE) * 10.0
    raster = xr.DataArray(
        data,
        dims=("band", "y", "x"),
        coords={"y": -axis, "x": axis, "band": [1, 2, 3]},
        name="scene",
    )
    raster = raster.rio.write_crs(32633)
    found = []
    for version in (2, 3):
        path = folder / f"group{version}.zarr"
        raster.to_dataset().to_zarr(path, zarr_format=version, consolidated=False)
        names = (".zarray", ".zattrs") if version == 2 else ("zarr.json",)
        found += [(path, path / "scene" / name) for name in names]
        found += [(path, path / "spatial_ref" / names[-1])]
        found += [(path, path / (".zgroup" if version == 2 else "zarr.json"))]
    return found


def mutated(data: bytes, is_text: bool, random_: random.Random) -> bytes:
    """Return data with one to four mutations."""
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        kinds = _TEXT_KINDS if is_text and random_.random() < 0.8 else _BYTE_KINDS
        data = random_.choice(kinds)(data, random_)
    return data


def _place(data: bytes, random_: random.Random) -> int:
    """Choose a place, mostly where headers are."""
    near = random_.random()
    if near < 0.6:
        return random_.randrange(max(1, min(HEAD_BYTES, len(data))))
    if near < 0.9:
        return max(0, len(data) - 1 - random_.randrange(HEAD_BYTES))
    return random_.randrange(max(1, len(data)))


def _flip(data: bytes, random_: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    changed[_place(changed, random_)] ^= 1 << random_.randrange(8)
    return bytes(changed)


def _number(data: bytes, random_: random.Random) -> bytes:
    """Overwrite a number of 1, 2, 4 or 8 bytes, either byte order."""
    value = random_.choice(NUMBERS + HUGE)
    order, kind, size = random_.choice("<>"), *random_.choice(("B1", "H2", "I4", "Q8"))
    raw = struct.pack(order + kind, value & ((1 << (8 * int(size))) - 1))
    start = _place(data, random_)
    start -= start % 2 * random_.randrange(2)
    return data[:start] + raw + data[start + len(raw) :]


def _truncate(data: bytes, random_: random.Random) -> bytes:
    return data[: _place(data, random_)]


def _insert(data: bytes, random_: random.Random) -> bytes:
    start = _place(data, random_)
    return data[:start] + random_.randbytes(random_.randrange(1, 40)) + data[start:]


def _delete(data: bytes, random_: random.Random) -> bytes:
    start = _place(data, random_)
    return data[:start] + data[start + random_.randrange(1, 40) :]


def _repeat(data: bytes, random_: random.Random) -> bytes:
    start, other = _place(data, random_), _place(data, random_)
    piece = data[start : start + random_.randrange(1, 200)]
    return data[:other] + piece + data[other + random_.choice((0, len(piece))) :]


def _word(data: bytes, random_: random.Random) -> bytes:
    """Replace one number or word."""
    words = list(re.finditer(rb"-?[0-9][0-9.e+-]*|[A-Za-z_]{2,}", data))
    if not words:
        return data
    found = random_.choice(words)
    return data[: found.start()] + random_.choice(WORDS) + data[found.end() :]


def _piece(data: bytes, random_: random.Random) -> bytes:
    """Put a hostile piece between two elements."""
    gaps = [found.end() for found in re.finditer(rb"[>,\[{]", data)] or [0]
    start = random_.choice(gaps)
    return data[:start] + random_.choice(PIECES) + data[start:]


def _drop_element(data: bytes, random_: random.Random) -> bytes:
    found = list(re.finditer(rb"<(\w+)[^>]*>[^<]*</\1>|\"\w+\": ?[^,\n]*,?", data))
    if not found:
        return data
    gone = random_.choice(found)
    return data[: gone.start()] + data[gone.end() :]


Mutation = Callable[[bytes, random.Random], bytes]
_BYTE_KINDS: tuple[Mutation, ...] = (
    _flip, _flip, _number, _number, _number, _truncate, _insert, _delete, _repeat,
)  # fmt: skip
_TEXT_KINDS: tuple[Mutation, ...] = (_word, _word, _word, _piece, _drop_element, _repeat)
