# SPDX-License-Identifier: GPL-3.0-or-later
"""What the first model is held to, and whether it holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dehaze_core.benchmark.methods import SLICES
from dehaze_core.benchmark.results import PairResults, is_clear, is_large
from dehaze_core.benchmark.tables import (
    CHANGE,
    CIEDE,
    NOTHING,
    PSNR,
    SSIM,
    Table,
    number,
    seam_range,
    worst_loss,
)


@dataclass(frozen=True, slots=True)
class Target:
    """A number with a bound.

    Attributes:
        what: What is measured, with its unit.
        value: The measured number; None or NaN where these pairs cannot tell.
        bound: The bound.
        at_least: Whether the bound is a lower one.
        decimals: How both are printed.
    """

    what: str
    value: float | None
    bound: float
    at_least: bool
    decimals: int = 2

    @property
    def held(self) -> bool | None:
        """Whether the bound is kept; None where there is no value."""
        if self.value is None or math.isnan(self.value):
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def cells(self) -> tuple[str, ...]:
        """Return target, bound, value and verdict as texts."""
        verdict = {None: "not measured", True: "held"}.get(self.held)
        if verdict is None and self.value is not None:
            verdict = f"missed by {number(abs(self.value - self.bound), self.decimals)}"
        return (
            self.what,
            f"{'≥' if self.at_least else '≤'} {number(self.bound, self.decimals)}",
            number(self.value, self.decimals),
            verdict or NOTHING,
        )


def target_table(results: PairResults) -> Table:
    """Return how the first model does against its targets."""
    return Table(
        f"Targets of {results.contest.first.name}",
        "",
        ("target", "bound", "measured", "verdict"),
        tuple(target.cells() for target in targets(results)),
    )


def targets(results: PairResults) -> list[Target]:
    """Return the targets with what was measured."""
    first = results.contest.first.name
    clear = [score.change_dn for score in results.first if is_clear(score)]
    improved = results.improved(first)
    return [
        Target("PSNR, mean of hazy levels, dB", results.spread(first, PSNR).mean, 25.5, True),
        Target("SSIM, mean of hazy levels", results.spread(first, SSIM).mean, 0.92, True, 3),
        Target("CIEDE2000, mean of hazy levels", results.spread(first, CIEDE).mean, 6.0, False),
        Target("improved, %", None if improved is None else 100 * improved, 99.0, True, 1),
        Target(
            "clear pictures changed, mean, DN",
            results.spread(first, CHANGE, is_clear).mean,
            1.0,
            False,
        ),
        Target("clear pictures changed, worst, DN", max(clear, default=None), 2.0, False),
        Target("PSNR of large scenes, dB", results.spread(first, PSNR, is_large).mean, 20.0, True),
        *_context_targets(results),
        *_seam_targets(results),
    ]


def _context_targets(results: PairResults) -> Iterator[Target]:
    for name, side in SLICES.items():
        if name not in results.scores:
            continue
        gains = results.gains(name, is_large)
        yield Target(
            f"gain over slices of {side} px, large scenes, dB",
            sum(gains) / len(gains) if gains else None,
            1.5,
            True,
        )
        yield Target(
            f"worst loss to slices of {side} px, small pictures, dB",
            worst_loss(results, name),
            0.1,
            False,
        )


def _seam_targets(results: PairResults) -> Iterator[Target]:
    ends = seam_range(results, results.contest.first.name)
    low, high = ends or (None, None)
    yield Target("seam score, lowest", low, 0.98, True, 3)
    yield Target("seam score, highest", high, 1.02, False, 3)
