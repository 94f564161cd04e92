# SPDX-License-Identifier: GPL-3.0-or-later
"""Make every fault and write the table of docs/reliability.md.

python -m tests.faults.table            a few repetitions of each, printed
python -m tests.faults.table --full     all repetitions, printed and written into the page
python -m tests.faults.table --only sigkill --only disk
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import rasterio
import torch

from dehaze_core import __version__
from tests.faults.faults import FAULTS, TESTED_ELSEWHERE
from tests.faults.rig import Fault, Tally, Unavailable

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table begins -->", "<!-- table ends -->"


def main() -> int:
    """Make the faults; return the number of those that were not always survived."""
    options = _options()
    # Children are charged with the memory of their parent, which grows: those that count it first.
    chosen = [fault for fault in (*TESTED_ELSEWHERE, *FAULTS) if _wanted(fault, options.only)]
    rows, failed = [], 0
    start = time.monotonic()
    for fault in chosen:
        repetitions = fault.many if options.full else fault.few
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            try:
                tally = fault.make(Path(folder, "fault"), repetitions, options.seed)
            except Unavailable as reason:
                tally = Tally(remark=f"not possible here: {reason}")
            except Exception as error:  # noqa: BLE001 - the others are to be made all the same
                tally = Tally(1, [f"{type(error).__name__}: {error}"], "ended by an error")
        failed += bool(tally.failures)
        rows.append(_row(fault, tally))
        _say(f"{rows[-1]} {time.monotonic() - begin:.0f} s")
        for failure in tally.failures[:5]:
            _say(f"    {failure}")
    text = _table(rows, options.seed, options.full, time.monotonic() - start)
    if options.write or (options.full and not options.only):
        _write(text)
    return failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make faults and see them survived.")
    parser.add_argument("--full", action="store_true", help="all repetitions, and write the page")
    parser.add_argument("--write", action="store_true", help="write the page in any case")
    parser.add_argument("--only", action="append", default=[], help="part of a fault's name")
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices")
    return parser.parse_args()


def _wanted(fault: Fault, parts: list[str]) -> bool:
    return not parts or any(part.lower() in fault.name.lower() for part in parts)


def _row(fault: Fault, tally: Tally) -> str:
    return f"| {fault.name} | {tally.repetitions} | {tally.survived} | {tally.remark} |"


def _table(rows: list[str], seed: int, full: bool, seconds: float) -> str:
    command = "python -m tests.faults.table" + (" --full" if full else "") + f" --seed {seed}"
    lines = [
        "| fault | repetitions | survived | counted or measured |",
        "|---|---|---|---|",
        *rows,
        "",
        f"Dehaze {__version__}, {date.today()}, `{command}`, {seconds / 60:.0f} min on "
        f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores; Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}, GDAL "
        f"{rasterio.__gdal_version__}.",
    ]
    return "\n".join(lines)


def _write(table: str) -> None:
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", encoding="utf-8")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
