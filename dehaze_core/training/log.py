# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training run noted at every validation: a CSV file, and a picture of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

LOSS, MINUTES = "held_out_loss", "minutes"


class TrainLog:
    """The log of a training run, `log.csv` in its folder; a resumed run goes on with it.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.csv"

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row; all rows have the same columns."""
        fresh = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def rows(self) -> list[dict[str, float]]:
        """Return all rows."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as lines:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]

    def since_best(self) -> int:
        """Return how many validations ago the held-out loss was lowest."""
        losses = [row[LOSS] for row in self.rows()]
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0

    def draw(self) -> Path | None:
        """Draw the losses and the scores over time into `curve.png`; None without matplotlib."""
        rows = self.rows()
        if find_spec("matplotlib") is None or not rows:
            return None
        from matplotlib.figure import Figure

        minutes = [row[MINUTES] for row in rows]
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name in ("loss", LOSS):
            left.plot(minutes, [row[name] for row in rows], label=name.replace("_", " "))
        for name in (n for n in rows[0] if n[:1] == "L" or n == "large"):
            right.plot(minutes, [row[name] for row in rows], label=name.replace("_", " "))
        for axes, label in ((left, "loss"), (right, "held-out PSNR, dB (L0: change, DN)")):
            axes.set(xlabel="minutes", ylabel=label)
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small")
        path = self.path.with_name("curve.png")
        figure.savefig(path, dpi=110)
        return path
