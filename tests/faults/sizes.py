# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasters of sizes that nobody has: done right, or refused before memory is asked for."""

from __future__ import annotations

import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import rasterio
from rasterio.transform import from_origin

from dehaze_core.engine import RunSettings, Silent, run
from dehaze_core.errors import DehazeError
from tests.conftest import write_raster
from tests.faults.child import Child
from tests.faults.rig import Tally

HUGE = 2**31 - 1
_MIB = 2**20
_MOST_MIB = 1500
# Not a promise; to protect this machine from a run that was not refused.
_MOST_SECONDS = 120.0
_MOST_ADDRESSES = 8 << 30

Case = Callable[[Path], Path]


def hostile_sizes(folder: Path, repetitions: int, seed: int) -> Tally:
    """Run on rasters of absurd sizes, each in a process of its own whose memory is measured."""
    tally, most = Tally(), 0
    counts = {"done": 0, "refused": 0}
    for number in range(repetitions):
        name = list(CASES)[number % len(CASES)]
        make, expected = CASES[name]
        place = folder / str(number)
        place.mkdir(parents=True)
        source = make(place)
        settings = RunSettings(
            source=str(source), destination=str(place / "out.tif"), threads=1, memory_limit=1024
        )
        answer = Child(measured, settings).answer(_MOST_SECONDS)
        if answer is None:
            tally.add(f"{name}: the process died, or took more than {_MOST_SECONDS:.0f} s")
            continue
        code, memory = answer
        most = max(most, memory)
        counts["refused" if code else "done"] += 1
        tally.add(_judge(name, place, source, code, expected, memory))
    tally.remark = (
        f"{counts['done']} done, {counts['refused']} refused with a code; at most {most} MiB more "
        "memory than before"
    )
    return tally


def measured(connection: Connection, settings: RunSettings) -> None:
    """Run, and send the code it was refused with, if it was, and how the memory peak grew, MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    in_use = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (in_use + _MOST_ADDRESSES,) * 2)
    code = ""
    try:
        run(settings, Silent())
    except DehazeError as error:
        code = error.code
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    connection.send((code, grown // 1024))


def _judge(
    name: str, place: Path, source: Path, code: str, expected: tuple[str, ...], memory: int
) -> str | None:
    out = place / "out.tif"
    if code not in expected:
        return f"{name}: {code or 'done'}, expected {' or '.join(expected) or 'done'}"
    if code and out.exists():
        return f"{name}: refused with {code}, yet there is an output"
    if memory > _MOST_MIB:
        return f"{name}: took {memory} MiB"
    if not code:
        with rasterio.open(source) as a, rasterio.open(out) as b:
            if a.shape != b.shape or a.count != b.count:
                return f"{name}: the output is {b.count} x {b.shape}"
    return None


def _virtual(width: int, height: int, count: int = 1, block: str = "") -> Case:
    """Return a maker of a virtual raster that claims a size and has no pixels."""

    def make(folder: Path) -> Path:
        path = folder / "claim.vrt"
        bands = "".join(
            f'<VRTRasterBand dataType="Byte" band="{band + 1}"{block}/>' for band in range(count)
        )
        path.write_text(
            f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>'
        )
        return path

    return make


def _sparse(width: int, height: int, **profile: object) -> Case:
    """Return a maker of a GeoTIFF that claims a size and holds hardly any tile."""

    def make(folder: Path) -> Path:
        path = folder / "claim.tif"
        options = {"driver": "GTiff", "count": 1, "dtype": "uint8", "SPARSE_OK": True, **profile}
        options["transform"] = from_origin(0, 10, 2, 2)
        with rasterio.open(path, "w", width=width, height=height, **options) as raster:
            raster.write(np.ones((1, 1, 1), np.uint8), window=((0, 1), (0, 1)))
        return path

    return make


def _real(width: int, height: int, count: int = 3, **profile: object) -> Case:
    """Return a maker of a raster that holds all the pixels it claims."""

    def make(folder: Path) -> Path:
        path = folder / "real.tif"
        write_raster(path, width=width, height=height, count=count, **profile)
        return path

    return make


DONE = ("",)
TOO_LARGE = ("DISK", "MEMORY", "INPUT_SIZE")
CASES: dict[str, tuple[Case, tuple[str, ...]]] = {
    "1 x 1": (_real(1, 1), DONE),
    "1 px wide": (_real(1, 3000), DONE),
    "1 px high": (_real(3000, 1), DONE),
    "33 x 65": (_real(33, 65), DONE),
    "claims 2^31 x 2^31": (_virtual(HUGE, HUGE), TOO_LARGE),
    "claims 2^31 x 4096": (_virtual(HUGE, 4096), TOO_LARGE),
    "claims 4096 x 2^31": (_virtual(4096, HUGE), TOO_LARGE),
    "claims 2^31 x 1000": (_virtual(HUGE, 1000), TOO_LARGE),
    "claims 1000 x 2^31": (_virtual(1000, HUGE), TOO_LARGE),
    "claims 65,535 bands": (_virtual(16, 16, 65_535), ("INPUT_BANDS",)),
    "claims no bands": (
        _virtual(16, 16, 0),
        ("INPUT_UNREADABLE", "INPUT_BANDS", "INPUT_CONTAINER"),
    ),
    "claims 0 x 0": (_virtual(0, 0), ("INPUT_UNREADABLE", "INPUT_SIZE")),
    "claims -5 x 7": (_virtual(-5, 7), ("INPUT_UNREADABLE", "INPUT_SIZE")),
    "claims 10^6 x 10^6, 3 bands": (_virtual(10**6, 10**6, 3), TOO_LARGE),
    "sparse GeoTIFF of 10^6 x 10^6": (
        _sparse(10**6, 10**6, tiled=True, blockxsize=4096, blockysize=4096),
        TOO_LARGE,
    ),
    "1 x 1, 1 band": (_real(1, 1, 1), DONE),
    "2 x 31": (_real(2, 31), DONE),
    "blocks of 16 px": (_real(300, 40, tiled=True, blockxsize=16, blockysize=16), DONE),
    "rows of 1 px": (_real(1, 200, blockysize=1), DONE),
    "1 x 100,000": (_real(1, 100_000, 1), DONE),
    "100,000 x 1": (_real(100_000, 1, 1), DONE),
}
