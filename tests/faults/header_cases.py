# SPDX-License-Identifier: GPL-3.0-or-later
"""Open rasters with mutated headers in processes of their own and count how that ends.

`python -m tests.faults.header_cases FOLDER FIRST COUNT` opens the mutations FIRST to
FIRST + COUNT - 1 and prints a line before and after each.
"""

from __future__ import annotations

import os
import queue
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
BATCH = 500
HANG_S = 10.0
START_S = 120.0
WINDOW_PX = 32
SPARE_BYTES = 4 << 30


@dataclass
class HeaderSummary:
    """How mutated headers ended.

    Attributes:
        count: Mutations tried.
        read: Opened and read.
        refused: Ended in a coded error, by code.
        uncoded: Ended in another exception: mutation and text.
        crashed: Mutations that ended the process.
        hung: Mutations that took more than `HANG_S`.
        slowest_s: Longest time of one that did not hang.
        peak_mib: Largest memory of a process.
    """

    count: int = 0
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    uncoded: list[str] = field(default_factory=list)
    crashed: list[int] = field(default_factory=list)
    hung: list[int] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mib: float = 0.0

    @property
    def survived(self) -> int:
        """Mutations that were read or refused with a code."""
        return self.read + self.refused.total()

    def note(self, number: int, outcome: str) -> None:
        """Count the outcome of one mutation, as the child prints it."""
        kind, _, text = outcome.partition(" ")
        if kind == "read":
            self.read += 1
        elif kind == "refused":
            self.refused[text] += 1
        else:
            self.uncoded.append(f"{number}: {text}")


def run_header_cases(count: int, first: int = 0) -> HeaderSummary:
    """Open `count` mutations, always the same ones for the same `first`."""
    summary = HeaderSummary()
    with tempfile.TemporaryDirectory(prefix="dehaze-headers-") as folder:
        place, stop = first, first + count
        while place < stop:
            place = _run_batch(Path(folder), place, min(BATCH, stop - place), summary)
        summary.count = count
    return summary


def _run_batch(folder: Path, first: int, count: int, summary: HeaderSummary) -> int:
    """Run a child until it has done its batch, crashed or hung; return the next mutation."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    (folder / "work").mkdir()
    command = [sys.executable, "-m", "tests.faults.header_cases", str(folder / "work")]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [*command, str(first), str(count)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_relay, args=(child.stdout, lines), daemon=True).start()
    try:
        return _follow(lines, first, first + count, summary)
    except RuntimeError as error:
        text = (folder / "log").read_text(errors="replace")
        raise RuntimeError(f"{error}: {text[-2000:]}") from error
    finally:
        child.kill()
        child.wait()


def _relay(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put("")


def _follow(lines: queue.Queue[str], first: int, stop: int, summary: HeaderSummary) -> int:
    number, patience, started = first - 1, START_S, time.monotonic()
    while True:
        try:
            word, _, rest = lines.get(timeout=patience).partition(" ")
        except queue.Empty:
            if number < first:
                raise RuntimeError("the child did not start") from None
            summary.hung.append(number)
            return number + 1
        if word == "start":
            number, patience, started = int(rest), HANG_S, time.monotonic()
        elif word == "end":
            summary.slowest_s = max(summary.slowest_s, time.monotonic() - started)
            summary.note(number, rest)
        elif word == "peak":
            summary.peak_mib = max(summary.peak_mib, float(rest))
            return stop
        elif number < first:
            raise RuntimeError("the child ended before its first mutation")
        else:
            summary.crashed.append(number)
            return number + 1


def main(arguments: list[str]) -> None:
    """Open a batch of mutations; what is printed is read by `_follow`."""
    import dehaze_core.scene  # noqa: F401 - its seconds are none of the first mutation's
    from tests.faults.header_seeds import make_seeds, mutated

    folder, first, count = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    out = os.fdopen(os.dup(1), "w", buffering=1)
    seeds = make_seeds(folder)
    healthy = {seed.target: seed.target.read_bytes() for seed in seeds}
    from dehaze_core.engine.memory import peak_memory_mib

    _limit_memory()
    for number in range(first, first + count):
        out.write(f"start {number}\n")
        chooser = random.Random(number)
        seed = seeds[number % len(seeds)]
        seed.target.write_bytes(mutated(healthy[seed.target], seed.is_text, chooser))
        out.write(f"end {' '.join(outcome(str(seed.path)).split())}\n")
        seed.target.write_bytes(healthy[seed.target])
    out.write(f"peak {peak_memory_mib()}\n")


def outcome(path: str) -> str:
    """Open a raster, read a corner of it, and say in a line how that ended."""
    from dehaze_core.errors import DehazeError
    from dehaze_core.grid import Window
    from dehaze_core.scene import open_scene

    try:
        with open_scene(path) as scene:
            frame = scene.frame
            side = (min(WINDOW_PX, frame.height), min(WINDOW_PX, frame.width))
            scene.read(Window(0, 0, *side))
    except DehazeError as error:
        return f"refused {error.code}"
    except Exception as error:  # noqa: BLE001 - exactly what must not come out
        return f"uncoded {Path(path).name} {error!r}"
    return "read"


def _limit_memory() -> None:
    """Protect the machine, not the engine: far above what any of these rasters may take."""
    with open("/proc/self/statm", encoding="ascii") as file:
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + SPARE_BYTES,) * 2)


if __name__ == "__main__":
    main(sys.argv[1:])
