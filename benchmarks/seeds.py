# SPDX-License-Identifier: GPL-3.0-or-later
"""Trainings that differ in their seed alone, compared with others: mean and SD over seeds.

    dehaze score PAIRS --model NAME --csv alone-1.csv      once for every training
    python -m benchmarks.seeds alone=alone-1.csv,alone-2.csv guided=guided-1.csv,guided-2.csv

The first arm is what the others are compared with: how much better a seed is than the same place in
the list of the first. PSNR in dB, mean over pictures of a level.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import typer

from dehaze_core.benchmark.document import insert_section
from dehaze_core.benchmark.tables import Table, spread_text
from dehaze_core.metrics.pairs import CLEAR_LEVEL
from dehaze_core.metrics.statistics import Spread

LEVELS = ("L1", "L2", "L3", "L4")
GROUPS = {**{level: (level,) for level in LEVELS}, "L3 and L4": LEVELS[2:], "all hazy": LEVELS}
LARGE = "large"
CLEAR = "clear changed, DN"
HEADINGS = ("arm", "seeds", *GROUPS, LARGE, CLEAR)
NOTE = (
    "PSNR in dB, mean over the images of a level; mean and standard deviation over seeds. *Large* "
    "are the large scenes alone; *clear changed* is the RMS change of clear pictures, less is "
    "better. Rows with *minus* compare trainings of the same seed, or all with the one there is. "
    "By `python -m benchmarks.seeds`."
)


def means(path: Path) -> dict[str, float]:
    """Return the mean of every group of pictures in the numbers of `dehaze score --csv`."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def mean(column: str, levels: Sequence[str], among: list[dict[str, str]]) -> float:
        return fmean([float(row[column]) for row in among if row["level"] in levels])

    large = [row for row in rows if row["large"] == "True"]
    return {
        **{name: mean("psnr_out", levels, rows) for name, levels in GROUPS.items()},
        LARGE: mean("psnr_out", LEVELS, large),
        CLEAR: mean("change_dn", (CLEAR_LEVEL,), rows),
    }


def line(name: str, seeds: list[dict[str, float]]) -> tuple[str, ...]:
    """Return a row of the table: mean and, of more than one seed, SD of every group."""
    spreads = (Spread.of(seed[group] for seed in seeds) for group in HEADINGS[2:])
    return (name, str(len(seeds)), *(spread_text(spread, 2) for spread in spreads))


def difference(
    seeds: list[dict[str, float]], others: list[dict[str, float]]
) -> list[dict[str, float]]:
    """Return seed minus other; a single other is compared with all."""
    if len(others) == 1:
        others = others * len(seeds)
    return [
        {group: seed[group] - other[group] for group in seed}
        for seed, other in zip(seeds, others, strict=True)
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("arms", nargs="+", metavar="NAME=CSV,CSV,...")
    parser.add_argument("--doc", type=Path, help="Markdown file that receives the table")
    parser.add_argument("--title", default="Seeds", help="Title of the table there")
    options = parser.parse_args()
    arms = {
        name: [means(Path(file)) for file in files.split(",")]
        for name, _, files in (arm.partition("=") for arm in options.arms)
    }
    first = next(iter(arms))
    rows = [line(name, seeds) for name, seeds in arms.items()]
    rows += [
        line(f"{name} minus {first}", difference(seeds, arms[first]))
        for name, seeds in arms.items()
        if name != first
    ]
    table = Table(options.title, NOTE, HEADINGS, tuple(rows))
    typer.echo(table.markdown(2))
    if options.doc is not None:
        insert_section(options.doc, options.title, table.markdown(2))


if __name__ == "__main__":
    main()
