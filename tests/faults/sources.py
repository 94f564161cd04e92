# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs that are damaged, incomplete, or change while they are read."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio

from dehaze_core.errors import DehazeError
from tests.conftest import write_raster
from tests.faults.child import Child, losing, plain
from tests.faults.rig import Rig, Steps, Tally, hazy, refusal

CODECS = ("NONE", "DEFLATE", "LZW", "ZSTD", "JPEG")
_READING = ("INPUT_CORRUPT", "INPUT_UNREADABLE", "INPUT_MISSING")
# How a part of a virtual raster is lost, and when; below 0 for before the start.
_LOSSES = (
    ("gone", -1.0),
    ("cut", -1.0),
    ("while reading", 0.05),
    ("while reading", 0.4),
    ("while reading", 0.7),
)
_SHARES = (0.99, 0.9, 0.5, 0.1)


def bit_flips(folder: Path, repetitions: int, seed: int) -> Tally:
    """Flip a bit in the tiles of a source; what GDAL notices must end the run."""
    chance, tally = random.Random(seed), Tally()
    rigs = {codec: _compressed(folder / codec, codec) for codec in CODECS}
    counts = {codec: [0, 0, 0] for codec in CODECS}
    for number in range(repetitions):
        codec = CODECS[number % len(CODECS)]
        rig, count = rigs[codec], counts[codec]
        rig.clear()
        broken = replace(rig, source=rig.folder / "broken.tif")
        _flip_in_tiles(rig.source, broken.source, chance)
        noticed = _gdal_complains(broken.source)
        count[0] += noticed
        count[1] += not noticed and not _same_pixels(rig.source, broken.source)
        count[2] += 1
        tally.add(_judge(broken, codec, must_fail=noticed))
    tally.remark = "noticed by GDAL and refused / changed pixels in silence / flips: " + ", ".join(
        f"{codec} {noticed}/{silent}/{flips}" for codec, (noticed, silent, flips) in counts.items()
    )
    return tally


def truncation(folder: Path, repetitions: int, seed: int) -> Tally:
    """Cut sources of all codecs short: every one must be refused."""
    tally = Tally()
    rigs = {codec: _compressed(folder / codec, codec) for codec in CODECS}
    for number in range(repetitions):
        codec = CODECS[number % len(CODECS)]
        share = _SHARES[number // len(CODECS) % len(_SHARES)]
        rig = rigs[codec]
        rig.clear()
        broken = replace(rig, source=rig.folder / "broken.tif")
        whole = rig.source.read_bytes()
        broken.source.write_bytes(whole[: int(len(whole) * share)])
        tally.add(_judge(broken, f"{codec} {share:.0%}", must_fail=True))
    tally.remark = f"{', '.join(CODECS)}, cut to {', '.join(f'{share:.0%}' for share in _SHARES)}"
    return tally


def missing_part(folder: Path, repetitions: int, seed: int) -> Tally:
    """Take a part of a virtual raster away or cut it, before or while it is read; put it back.

    Half of the rasters are two levels deep. Every run has a process of its own, for GDAL remembers
    what it could not open.
    """
    flat, chance, tally = _mosaic(folder), random.Random(seed), Tally()
    deep = _wrapped(flat, "deep.vrt")
    parts = sorted(folder.glob("part-*.tif"))
    refused = 0
    for number in range(repetitions):
        rig = (flat, deep)[number % 2]
        how, moment = _LOSSES[number // 2 % len(_LOSSES)]
        rig.clear()
        part, away = chance.choice(parts), folder / "away.tif"
        if moment < 0:
            part.rename(away)
        if how == "cut":
            part.write_bytes(away.read_bytes()[:100])
        answer = Child(losing, rig.settings(), moment, part, away).answer()
        refused += isinstance(answer, tuple)
        failure = _judge_loss(rig, part, answer, how)
        away.rename(part)
        Child(plain, rig.settings()).answer()
        tally.add(failure or rig.why_not_whole())
    tally.remark = (
        f"{refused} runs refused, the others had the part open already; half of all two levels deep"
    )
    return tally


def changed_before_resuming(folder: Path, repetitions: int, seed: int) -> Tally:
    """Change the input of an unfinished run: it must start over, and say so.

    Every other input is a virtual raster of a virtual raster of what changes.
    """
    rig, tally = Rig.make(folder, side=256), Tally()
    deep = _two_levels(rig)
    whole = rig.source.read_bytes()
    with rasterio.open(rig.source, "r+") as raster:
        raster.write(255 - raster.read())
    rig.start()
    changed, expected = rig.source.read_bytes(), rig.digests()
    for number in range(repetitions):
        rig.clear()
        rig.source.write_bytes(whole)
        state = rig.source.stat()
        given = (rig, deep)[number % 2]
        given.stop_at(0.6)
        wanted = rig.expected
        how = ("other pixels", "other pixels, same time", "only touched")[number // 2 % 3]
        if how == "only touched":
            os.utime(rig.source, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
        else:
            rig.source.write_bytes(changed)
            wanted = expected
        if how == "other pixels, same time":
            os.utime(rig.source, ns=(state.st_atime_ns, state.st_mtime_ns))
        tally.add(_starts_over(replace(given, expected=wanted), how))
    tally.remark = (
        "other pixels, other pixels with the same size and time, new time only; half of all two "
        "levels deep in virtual rasters"
    )
    return tally


def changed_while_running(folder: Path, repetitions: int, seed: int) -> Tally:
    """Change the input while it is read: no output may be made from two inputs.

    Every other input is a virtual raster of a virtual raster of what changes.
    """
    rig, chance, tally = Rig.make(folder, side=256), random.Random(seed), Tally()
    deep = _two_levels(rig)
    whole = rig.source.read_bytes()
    for number in range(repetitions):
        given = (rig, deep)[number % 2]
        rig.clear()
        rig.source.write_bytes(whole)

        def change() -> None:
            with rasterio.open(rig.source, "r+") as raster:
                raster.write(np.uint8(255) - raster.read())

        start = partial(given.start, Steps(chance.uniform(0.01, 0.83), change))
        failure = refusal(start, "INPUT_CHANGED", names=(str(given.source),))
        failure = failure or rig.why_not_untouched()
        rig.source.write_bytes(whole)
        given.start()
        tally.add(failure or rig.why_not_whole())
    tally.remark = "half of all two levels deep in virtual rasters"
    return tally


def _judge(broken: Rig, what: str, *, must_fail: bool) -> str | None:
    """Return what is wrong with how a run on a damaged source ends, or None."""
    try:
        broken.start()
    except DehazeError as error:
        if error.code not in _READING or str(broken.source) not in error.message:
            return f"{what}: {error}"
        if error.code == "INPUT_CORRUPT" and not error.message.startswith("Rows "):
            return f"{what}: no window in {error}"
        broken.source.unlink()
        return broken.why_not_untouched()
    if must_fail:
        return f"{what}: GDAL complains about the source, the run does not"
    return None


def _starts_over(rig: Rig, how: str) -> str | None:
    steps = Steps(2.0, lambda: None)
    report = rig.start(steps)
    if report.resumed_blocks or not any("input" in text for text in steps.warnings):
        return f"{how}: {report.resumed_blocks} blocks resumed, warnings {steps.warnings}"
    wrong = rig.why_not_whole()
    return wrong and f"{how}: {wrong}"


def _compressed(folder: Path, codec: str) -> Rig:
    rig = Rig.make(folder, side=256)
    options = {"photometric": "ycbcr"} if codec == "JPEG" else {}
    write_raster(
        rig.source,
        data=hazy(256),
        compress=codec,
        tiled=True,
        blockxsize=64,
        blockysize=64,
        interleave="pixel",
        **options,
    )
    return rig


def _flip_in_tiles(whole: Path, broken: Path, chance: random.Random) -> None:
    with rasterio.open(whole) as raster:
        place = f"{chance.randrange(4)}_{chance.randrange(4)}"
        offset, size = (
            int(raster.get_tag_item(f"BLOCK_{what}_{place}", "TIFF", bidx=1))
            for what in ("OFFSET", "SIZE")
        )
    data = bytearray(whole.read_bytes())
    data[offset + chance.randrange(size)] ^= 1 << chance.randrange(8)
    broken.write_bytes(data)


def _gdal_complains(path: Path) -> bool:
    try:
        with rasterio.open(path) as raster:
            raster.read()
    except rasterio.errors.RasterioError:
        return True
    return False


def _same_pixels(one: Path, other: Path) -> bool:
    with rasterio.open(one) as a, rasterio.open(other) as b:
        return bool(np.array_equal(a.read(), b.read()))


def _mosaic(folder: Path) -> Rig:
    """Return a rig whose source is a virtual raster of four files."""
    rig = Rig.make(folder, side=256)
    data, half = hazy(256), 128
    parts = {}
    for row in (0, half):
        for col in (0, half):
            part = folder / f"part-{row}-{col}.tif"
            write_raster(part, data=data[:, row : row + half, col : col + half])
            parts[part] = (row, col)
    source = folder / "scene.vrt"
    write_vrt(source, parts, data.shape)
    return replace(rig, source=source)


def write_vrt(path: Path, parts: dict[Path, tuple[int, int]], shape: tuple[int, ...]) -> None:
    """Write a virtual raster of 8-bit files, each put at a row and column, the first at 0, 0."""
    bands, height, width = shape
    root = ElementTree.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    with rasterio.open(next(iter(parts))) as raster:
        ElementTree.SubElement(root, "SRS").text = raster.crs.to_wkt()
        transform = ", ".join(map(str, raster.transform.to_gdal()))
        ElementTree.SubElement(root, "GeoTransform").text = transform
    for number in range(1, bands + 1):
        band = ElementTree.SubElement(root, "VRTRasterBand", dataType="Byte", band=str(number))
        for part, (row, col) in parts.items():
            with rasterio.open(part) as raster:
                size = {"xSize": str(raster.width), "ySize": str(raster.height)}
            source = ElementTree.SubElement(band, "SimpleSource")
            name = ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1")
            name.text = os.path.relpath(part, path.parent)
            ElementTree.SubElement(source, "SourceBand").text = str(number)
            ElementTree.SubElement(source, "SrcRect", xOff="0", yOff="0", **size)
            ElementTree.SubElement(source, "DstRect", xOff=str(col), yOff=str(row), **size)
    ElementTree.ElementTree(root).write(path)


def _two_levels(rig: Rig) -> Rig:
    return _wrapped(_wrapped(rig, "inner.vrt"), "outer.vrt")


def _wrapped(rig: Rig, name: str) -> Rig:
    """Return a rig whose source is a virtual raster of the source of another."""
    source = rig.source.with_name(name)
    write_vrt(source, {rig.source: (0, 0)}, hazy(256).shape)
    return replace(rig, source=source)


def _judge_loss(rig: Rig, part: Path, answer: object, how: str) -> str | None:
    """Return what is wrong with how a run without a part ended, or None."""
    if not isinstance(answer, tuple):
        # Files that are open stay readable until they are closed.
        return rig.why_not_whole() if how == "while reading" else f"{how}: not refused"
    code, message = answer
    expected = {
        "gone": ("INPUT_MISSING",),
        "cut": ("INPUT_CORRUPT",),
        "while reading": (*_READING, "INPUT_CHANGED"),
    }
    named = str(rig.source if code == "INPUT_CHANGED" else part) in message
    windowless = how == "while reading" and code == "INPUT_CORRUPT" and "Rows " not in message
    if code not in expected[how] or not named or windowless:
        return f"{how}: {code}: {message}"
    return rig.why_not_untouched()
