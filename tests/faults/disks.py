# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are full at some stage of a run, folders that cannot be written."""

from __future__ import annotations

import os
import random
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.rig import Rig, Steps, Tally, Unavailable, refusal, remove

_LAST_STAGE = "second output"
_STAGES = {
    "tokens": (0.01, 0.28),
    "context": (0.30, 0.35),
    "results": (0.37, 0.80),
    "raw file": (0.84, 0.84),
    "overviews and COG": (0.85, 0.86),
    _LAST_STAGE: (0.925, 0.93),
}
"""Where in a run the disk fills up: progress from and to."""

_DISK = 64 << 20


def full_disk(folder: Path, repetitions: int, seed: int) -> Tally:
    """Let a real disk run full at each stage, then free it and go on."""
    rig, chance, tally = Rig.make(folder, side=256), random.Random(seed), Tally()
    with small_disk(rig.folder, _DISK):
        for number in range(repetitions):
            name = list(_STAGES)[number % len(_STAGES)]
            left = chance.choice((0, 4096, 40_000, 200_000)) if number >= len(_STAGES) else 0
            tally.add(_named(name, _fill_and_resume(rig, name, left, chance)))
    tally.remark = f"a disk of {_DISK >> 20} MiB; stages {', '.join(_STAGES)}"
    return tally


def file_size_limit(folder: Path, repetitions: int, seed: int) -> Tally:
    """Let a limit on the size of files, as a quota does, strike at each stage.

    The runs may replace nothing, also not when they go on with what they have written themselves.
    """
    rig, chance, tally = Rig.make(folder, side=256), random.Random(seed), Tally()
    for number in range(repetitions):
        name = list(_STAGES)[number % len(_STAGES)]
        rig.clear()
        size = chance.choice((1000, 20_000))
        first, last = _STAGES[name]

        def limited(fraction: float = chance.uniform(first, last), size: int = size) -> None:
            with _limit() as lower:
                rig.start(Steps(fraction, lambda: lower(size)), overwrite=False)

        # Such a limit cannot be asked for; GDAL may only notice that it cannot read back.
        codes = ("OUTPUT_DISK_FULL", "OUTPUT_WRITE")
        failure = refusal(limited, *codes, names=("bytes", "needed", "free"))
        failure = failure or rig.why_not_untouched(layer_done=name == _LAST_STAGE)
        tally.add(_named(name, failure or _goes_on(rig, overwrite=False)))
    tally.remark = f"stages {', '.join(_STAGES)}; nothing may be replaced"
    return tally


def read_only_folder(folder: Path, repetitions: int, seed: int) -> Tally:
    """Write into a folder in which nothing can be written, then into one that can."""
    rig, tally = Rig.make(folder, side=256), Tally()
    for _ in range(repetitions):
        rig.clear()
        with _read_only(rig.folder):
            failure = refusal(rig.start, "OUTPUT_FOLDER", names=(str(rig.out),))
        failure = failure or rig.why_not_untouched()
        tally.add(failure or _goes_on(rig))
    return tally


def _fill_and_resume(rig: Rig, stage: str, left: int, chance: random.Random) -> str | None:
    first, last = _STAGES[stage]
    for path in rig.folder.iterdir():
        path.unlink() if path.is_file() else remove(path)
    filler = rig.folder / "filler"

    def fill() -> None:
        free = os.statvfs(rig.folder).f_bavail * os.statvfs(rig.folder).f_frsize
        filler.write_bytes(bytes(max(free - left, 0)))

    steps = Steps(chance.uniform(first, last), fill)
    failure = refusal(
        lambda: rig.start(steps),
        "OUTPUT_DISK_FULL",
        names=("bytes) are needed", "bytes) are free", str(rig.folder)),
    )
    if failure == "not refused" and left:
        # There was still room for the rest.
        filler.unlink()
        return rig.why_not_whole()
    filler.unlink(missing_ok=True)
    # Where something is left, there may still be room for the first output.
    layer_done = left > 0 or stage == _LAST_STAGE
    return failure or rig.why_not_untouched(layer_done=layer_done) or _goes_on(rig)


def _goes_on(rig: Rig, **changes: Any) -> str | None:
    rig.start(**changes)
    return rig.why_not_whole()


def _named(stage: str, failure: str | None) -> str | None:
    return failure and f"{stage}: {failure}"


@contextmanager
def small_disk(folder: Path, size: int, options: str = "") -> Iterator[None]:
    """Mount a disk of so many bytes on a folder.

    Raises:
        Unavailable: That is not permitted here.
    """
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable("no small disk may be mounted here") from error
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    if os.geteuid() == 0:
        # Modes mean nothing to root.
        with small_disk(folder, 1 << 20, ",ro"):
            yield
        return
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


@contextmanager
def _limit() -> Iterator[Callable[[int], None]]:
    """Give a function that lowers the largest size of a file for the rest of the context."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
