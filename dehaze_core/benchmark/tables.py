# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of a benchmark of pairs, as data that both Markdown and HTML are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter

from dehaze_core.benchmark.methods import SLICES
from dehaze_core.benchmark.results import (
    Choice,
    Measure,
    PairResults,
    is_chip,
    is_clear,
    is_hazy,
    is_large,
    is_level,
)
from dehaze_core.metrics.pairs import CLEAR_LEVEL
from dehaze_core.metrics.statistics import PairedTest, Spread

NOTHING = "–"

PSNR: Measure = attrgetter("psnr_out")
SSIM: Measure = attrgetter("ssim_out")
CIEDE: Measure = attrgetter("ciede_out")
ANGLE: Measure = attrgetter("angle_out")
CHANGE: Measure = attrgetter("change_dn")

MEASURES = (
    ("PSNR, dB", PSNR, 2),
    ("SSIM", SSIM, 3),
    ("CIEDE2000", CIEDE, 2),
    ("spectral angle, degrees", ANGLE, 2),
)
"""What is reported for every level: heading, number, decimals."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts.

    Attributes:
        title: What it shows.
        note: How to read it; may be empty.
        headings: One for each column; the first column names the row.
        rows: As many cells as headings each.
    """

    title: str
    note: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self, level: int = 3) -> str:
        """Return the table as Markdown below a heading of this level."""
        lines = [f"{'#' * level} {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines.append(_markdown_row(self.headings))
        lines.append("|---|" + "---:|" * (len(self.headings) - 1))
        lines += [_markdown_row(row) for row in self.rows]
        return "\n".join(lines) + "\n"


def _markdown_row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float | None, decimals: int) -> str:
    """Return a number as text: infinite ones as `inf`, missing ones as a dash."""
    if value is None or math.isnan(value):
        return NOTHING
    return "inf" if math.isinf(value) else f"{value:.{decimals}f}"


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.1%}"


def p_value(value: float) -> str:
    """Return a probability, those too small to matter as a bound."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def spread_text(spread: Spread, decimals: int) -> str:
    """Return mean and standard deviation."""
    if math.isnan(spread.sd):
        return number(spread.mean, decimals)
    return f"{number(spread.mean, decimals)} ± {number(spread.sd, decimals)}"


def summary(results: PairResults) -> dict[str, float]:
    """Return the means of the first model over the hazy pairs, for its card; what is NaN is left.

    PSNR in dB for all levels, every level and the large scenes, and by how much it is above that of
    every other model; SSIM, CIEDE2000 and the spectral angle in degrees; the share of improved
    pictures, 0..1; the RMS change of clear ones in DN.
    """
    first = results.contest.first.name
    levels = {f"PSNR {name}": is_level(name) for name in results.levels if name != CLEAR_LEVEL}
    chosen: dict[str, Choice] = {"PSNR": is_hazy, **levels, "PSNR large": is_large}
    numbers = {key: results.spread(first, PSNR, choice).mean for key, choice in chosen.items()}
    for other in (method.name for method in results.contest.methods[1:] if method.model):
        for key, choice in chosen.items():
            theirs = results.spread(other, PSNR, choice).mean
            numbers[f"{key} above {other}"] = numbers[key] - theirs
    for heading, measure in (("SSIM", SSIM), ("CIEDE2000", CIEDE), ("spectral angle", ANGLE)):
        numbers[heading] = results.spread(first, measure).mean
    improved = results.improved(first)
    if improved is not None:
        numbers["improved"] = improved
    numbers["clear changed, mean"] = results.spread(first, CHANGE, is_clear).mean
    numbers["clear changed, worst"] = max(
        (score.change_dn for score in results.first if is_clear(score)), default=math.nan
    )
    return {key: round(value, 4) for key, value in numbers.items() if not math.isnan(value)}


def pair_tables(results: PairResults) -> list[Table]:
    """Return all tables of a benchmark of pairs."""
    tables = [_overview(results), *(_levels(results, *measure) for measure in MEASURES)]
    tables.append(_tests(results))
    if any(name in results.scores for name in SLICES):
        tables.append(_context(results))
    return tables


def _overview(results: PairResults) -> Table:
    return Table(
        "All methods",
        "Means over the images of all hazy levels; *improved* is the share of them whose PSNR "
        "rose; *large* the PSNR of the large scenes alone; *seams* the lowest and highest seam "
        "score, relative to the hazy picture; *clear changed* the RMS change of clear pictures in "
        "DN, mean and worst.",
        (
            "method", "PSNR, dB", "SSIM", "CIEDE2000", "angle, °", "improved", "large, dB",
            "seams", "clear changed, DN",
        ),
        tuple(_overview_row(results, name) for name in results.scores),
    )  # fmt: skip


def _overview_row(results: PairResults, name: str) -> tuple[str, ...]:
    means = [number(results.spread(name, measure).mean, d) for _, measure, d in MEASURES]
    clear = [score.change_dn for score in results.scores[name] if is_clear(score)]
    change = results.spread(name, CHANGE, is_clear).mean
    return (
        name,
        *means,
        share(results.improved(name)),
        number(results.spread(name, PSNR, is_large).mean, 2),
        " .. ".join(number(end, 3) for end in seam_range(results, name)) or NOTHING,
        f"{number(change, 2)}, {number(max(clear), 2)}" if clear else NOTHING,
    )


def seam_range(results: PairResults, name: str) -> tuple[float, ...]:
    """Return the lowest and highest seam score of a method; empty where no line was crossed."""
    seams = [score.seam for score in results.scores[name] if not math.isnan(score.seam)]
    return (min(seams), max(seams)) if seams else ()


def _levels(results: PairResults, heading: str, measure: Measure, decimals: int) -> Table:
    counts = [sum(score.level == level for score in results.first) for level in results.levels]
    rows = []
    for name in results.scores:
        choices = [*map(is_level, results.levels), is_hazy]
        spreads = [results.spread(name, measure, choice) for choice in choices]
        rows.append((name, *(spread_text(spread, decimals) for spread in spreads)))
    return Table(
        f"{heading}, by level",
        "Mean ± standard deviation over images; in brackets their number.",
        (
            "method",
            *(f"{lv} ({n})" for lv, n in zip(results.levels, counts, strict=True)),
            f"all hazy ({sum(map(is_hazy, results.first))})",
        ),
        tuple(rows),
    )


def _tests(results: PairResults) -> Table:
    others = [name for name in results.scores if name != results.contest.first.name]
    return Table(
        f"{results.contest.first.name} against each other method",
        "Wilcoxon signed-rank test on the hazy pairs, two-sided, not corrected for the number of "
        "methods: median of the differences, p, and the share of the images on which "
        f"{results.contest.first.name} is better.",
        ("method", "PSNR, dB", "p", "better", "CIEDE2000", "p", "better"),
        tuple((name, *_test_cells(results, name)) for name in others),
    )


def _test_cells(results: PairResults, name: str) -> tuple[str, ...]:
    gain = results.against_first(name, PSNR)
    # A smaller difference of colour is the better one.
    colour = results.against_first(name, lambda score: -score.ciede_out)
    return (*_one_test(gain, 1.0), *_one_test(colour, -1.0))


def _one_test(test: PairedTest | None, sign: float) -> tuple[str, str, str]:
    if test is None:
        return NOTHING, NOTHING, NOTHING
    difference = sign * test.median + 0.0  # no minus before zero
    return f"{difference:+.2f}", p_value(test.p_value), share(test.wins)


def _context(results: PairResults) -> Table:
    first = results.contest.first.name
    names = [first, *(name for name in SLICES if name in results.scores)]
    return Table(
        "What global context buys",
        f"{first} over the whole picture, and the same weights on independent slices. *Worst "
        "loss* is the most by which slices beat the whole on any small picture.",
        ("method", "large scenes, dB", "small, dB", "all, dB", "worst loss, dB", "seams"),
        tuple(
            (
                name,
                *(
                    number(results.spread(name, PSNR, chosen).mean, 2)
                    for chosen in (is_large, is_chip, is_hazy)
                ),
                number(worst_loss(results, name), 2) if name != first else NOTHING,
                " .. ".join(number(end, 3) for end in seam_range(results, name)) or NOTHING,
            )
            for name in names
        ),
    )


def worst_loss(results: PairResults, name: str) -> float | None:
    """Return the most by which a method beats the first model on a small picture, dB, >= 0.

    None where slices differ nowhere from the whole: then every picture is a single slice.
    """
    gains = results.gains(name, is_chip)
    return max(0.0, -min(gains)) if any(gains) else None
