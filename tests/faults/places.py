# SPDX-License-Identifier: GPL-3.0-or-later
"""Outputs in awkward places: in use, the input itself, names that no one expects."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import rasterio

from tests.faults.child import Child, held
from tests.faults.rig import Rig, Tally, refusal
from tests.faults.sources import write_vrt

NAMES = (
    "with blanks  and tab\t.tif",
    "Žluťoučký kůň 漢字 😀.tif",
    unicodedata.normalize("NFD", "é composed ü.tif"),
    "quotes ' \" and `ticks`.tif",
    "shell $HOME *?[a] ~ ;&|.tif",
    "percent %20 %s {0} #1.tif",
    "zip!inside.tif",
    "colon:and::two.tif",
    "a+b=c,d@e.tif",
    "<xml> & co.tif",
    "back\\slash.tif",
    "new\nline.tif",
    "-leading dash.tif",
    ".hidden.tif",
    "no extension",
    "two.dots.TIFF",
    "漢" * 80 + ".tif",
    "x" * 243 + ".tif",
)
REFUSED_NAMES = ("x" * 244 + ".tif", "漢" * 84 + ".tif", "x" * 300 + ".tif", "caf\udce9.tif")


def two_runs(folder: Path, repetitions: int, seed: int) -> Tally:
    """Start a second run on an output, under any spelling of it, while the first is at work."""
    rig, tally = Rig.make(folder, side=256), Tally()
    link = folder / "link"
    link.symlink_to(rig.folder)
    spellings = (
        rig.out,
        rig.folder / ".." / "work" / "out.tif",
        link / "out.tif",
        Path(os.path.relpath(rig.out)),
    )
    for number in range(repetitions):
        rig.clear()
        first = Child(held, rig.settings(), (0.0, 0.3, 0.6, 0.9)[number // 4 % 4])
        first.connection.recv()
        spelling = str(spellings[number % 4])
        failure = refusal(
            lambda name=spelling: rig.start(destination=name), "OUTPUT_BUSY", names=(spelling,)
        )
        first.connection.send("go on")
        first.answer()
        tally.add(failure or rig.why_not_whole())
    tally.remark = "the same path, with '..', through a linked folder, relative"
    return tally


def output_is_input(folder: Path, repetitions: int, seed: int) -> Tally:
    """Name the input as the output, in every way a file can be named."""
    rig, tally = Rig.make(folder, side=256), Tally()
    source = rig.folder / "scene.tif"
    ways: dict[str, Callable[[], tuple[Path, Path]]] = {
        "same path": lambda: (source, source),
        "other spelling": lambda: (source, rig.folder / ".." / "work" / "scene.tif"),
        "relative": lambda: (source, Path(os.path.relpath(source))),
        "link to the input": lambda: (source, _linked(source, os.symlink)),
        "input is a link to the output": lambda: (_linked(source, os.symlink), source),
        "hard link": lambda: (source, _linked(source, os.link)),
        "part of a virtual raster": lambda: (_virtual(source), source),
        "part of a part of one": lambda: (_virtual(_virtual(source)), source),
    }
    for number in range(repetitions):
        name = list(ways)[number % len(ways)]
        rig.clear()
        source.write_bytes(rig.source.read_bytes())
        before = hashlib.sha256(source.read_bytes()).hexdigest()
        given, out = ways[name]()
        which = "thickness" if number // len(ways) % 2 else "destination"
        changes = {"source": str(given), which: str(out)}
        failure = refusal(lambda changes=changes: rig.start(**changes), "SETTINGS", "OUTPUT_INPUT")
        if name == "hard link" and failure == "not refused":
            # The output takes the name, the input keeps its bytes under the other one.
            failure = None
        if hashlib.sha256(source.read_bytes()).hexdigest() != before:
            failure = "the input was changed"
        known = {source.name, out.name, given.name, rig.out.name, rig.thickness.name}
        left = {path.name for path in rig.folder.iterdir() if path.suffix != ".vrt"} - known
        failure = failure or (f"left behind: {left}" if left else None)
        tally.add(failure and f"{name} as {which}: {failure}")
    tally.remark = ", ".join(ways)
    return tally


def names(folder: Path, repetitions: int, seed: int) -> Tally:
    """Read from and write to files with names of all kinds; too long ones are refused at once."""
    rig, tally = Rig.make(folder, side=64, block=64), Tally()
    every = (*NAMES, *REFUSED_NAMES)
    for number in range(repetitions):
        rig.clear()
        name = every[number % len(every)]
        if number // len(every) % 2 == 0:
            tally.add(_output_named(rig, name))
        else:
            tally.add(_input_named(rig, name))
    tally.remark = f"{len(NAMES)} names that work and {len(REFUSED_NAMES)} that are refused"
    return tally


def deep_folders(folder: Path, repetitions: int, seed: int) -> Tally:
    """Write into folders whose paths are hundreds to thousands of bytes long."""
    rig, tally = Rig.make(folder, side=64, block=64), Tally()
    for number in range(repetitions):
        rig.clear()
        depth = (3, 8, 14, 18, 19)[number % 5]
        deep = rig.folder.joinpath(*["d" * 199] * depth)
        deep.mkdir(parents=True)
        there = replace(rig, folder=deep, out=deep / "out.tif")
        failure = refusal(there.start, "OUTPUT_NAME", "OUTPUT_WRITE", "OUTPUT_FOLDER")
        if failure == "not refused":
            failure = there.why_not_whole()
        elif failure is None and there.look() != "absent":
            failure = "refused, but there is an output"
        tally.add(failure and f"{len(str(there.out))} characters: {failure}")
    tally.remark = "600 to 3,800 characters; written, or refused with a code"
    return tally


def _output_named(rig: Rig, name: str) -> str | None:
    out = rig.folder / name
    there = replace(rig, out=out)
    thickness = str(rig.folder / "thickness.tif")
    if name in REFUSED_NAMES:
        failure = refusal(
            lambda: rig.start(destination=str(out), thickness=thickness), "OUTPUT_NAME"
        )
        left = os.listdir(rig.folder)
        failure = failure or (f"left behind: {left}" if left else None)
        return failure and f"{name!a}: {failure}"
    rig.start(destination=str(out), thickness=thickness)
    found = there.look()
    left = {path.name for path in rig.folder.iterdir()} - {name, "thickness.tif"}
    return None if found == "new" and not left else f"output {name!a} is {found}, left {left}"


def _input_named(rig: Rig, name: str) -> str | None:
    source = rig.folder / name
    try:
        os.link(rig.source, source)
    except OSError:
        # No such file can exist here.
        return refusal(lambda: rig.start(source=str(source)), "INPUT_MISSING")
    if not _is_text(name):
        return refusal(lambda: rig.start(source=str(source)), "INPUT_UNREADABLE", "INPUT_MISSING")
    rig.start(source=str(source))
    found = rig.look()
    return None if found == "new" else f"output of {name!a} is {found}"


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _linked(source: Path, link: Callable[[Path, Path], None]) -> Path:
    path = source.with_name("link.tif")
    link(source, path)
    return path


def _virtual(source: Path) -> Path:
    path = source.with_name(f"{source.name}.vrt")
    with rasterio.open(source) as raster:
        write_vrt(path, {source: (0, 0)}, (raster.count, raster.height, raster.width))
    return path
