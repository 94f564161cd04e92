# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of a benchmark on real haze."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from dehaze_core.benchmark.methods import IDENTITY
from dehaze_core.benchmark.real_run import RealResults, RealScore
from dehaze_core.benchmark.tables import Table, number, share
from dehaze_core.metrics import Appearance

_HEADINGS = ("haze score", "contrast", "saturation", "clipped", "change, DN")
_NOTE = (
    "No reference, means over pictures: *haze score* is the mean of the dark channel (0..1), "
    "*contrast* the mean local standard deviation (0..0.5), *clipped* the share of pixels with a "
    "band at 0 or 255."
)


def real_tables(results: RealResults) -> list[Table]:
    """Return the tables of a benchmark on real haze: by method, and by subfolder."""
    count = len(results.first)
    rows = [("input", *_cells(score.before for score in results.first), "")]
    rows += [
        (name, *_cells(score.after for score in scores), _change(scores))
        for name, scores in results.scores.items()
        if name != IDENTITY
    ]
    by_method = Table(f"Real haze ({count} pictures)", _NOTE, ("method", *_HEADINGS), tuple(rows))
    groups = sorted({score.group for score in results.first})
    return [by_method] if len(groups) < 2 else [by_method, _by_group(results, groups)]


def _by_group(results: RealResults, groups: list[str]) -> Table:
    rows = []
    for group in groups:
        scores = [score for score in results.first if score.group == group]
        before = _cells(score.before for score in scores)
        after = _cells(score.after for score in scores)
        both = (f"{one} → {other}" for one, other in zip(before, after, strict=True))
        rows.append((f"{group or 'others'} ({len(scores)})", *both, _change(scores)))
    title = f"Real haze by folder, input → {results.contest.first.name}"
    return Table(title, "", ("folder", *_HEADINGS), tuple(rows))


def _cells(looks: Iterable[Appearance]) -> tuple[str, ...]:
    every = list(looks)
    return (
        number(fmean(look.haze for look in every), 3),
        number(fmean(look.contrast for look in every), 4),
        number(fmean(look.saturation for look in every), 3),
        share(fmean(look.clipped for look in every)),
    )


def _change(scores: list[RealScore]) -> str:
    return number(fmean(score.change_dn for score in scores), 1)
