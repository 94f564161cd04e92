# SPDX-License-Identifier: GPL-3.0-or-later
"""The scores of all methods on the same pairs, and the numbers drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dehaze_core.benchmark.methods import Contest
from dehaze_core.metrics.pairs import CLEAR_LEVEL, PairScore
from dehaze_core.metrics.statistics import PairedTest, Spread

Measure = Callable[[PairScore], float]
Choice = Callable[[PairScore], bool]


def is_hazy(score: PairScore) -> bool:
    """Choose the pairs with haze to remove."""
    return score.hazy


def is_large(score: PairScore) -> bool:
    """Choose the hazy large scenes."""
    return score.hazy and score.large


def is_chip(score: PairScore) -> bool:
    """Choose the hazy small pictures."""
    return score.hazy and not score.large


def is_clear(score: PairScore) -> bool:
    """Choose clear in, clear out."""
    return score.level == CLEAR_LEVEL


def is_level(level: str) -> Choice:
    """Return a choice of the pairs of one haze level."""
    return lambda score: score.level == level


@dataclass(frozen=True, slots=True)
class PairResults:
    """Scores by method name; every method has the same pairs in the same order."""

    contest: Contest
    scores: dict[str, list[PairScore]]

    @property
    def first(self) -> list[PairScore]:
        """Scores of the first model."""
        return self.scores[self.contest.first.name]

    @property
    def levels(self) -> list[str]:
        """Haze levels that occur, in order."""
        return sorted({score.level for score in self.first})

    def spread(self, method: str, measure: Measure, chosen: Choice = is_hazy) -> Spread:
        """Return mean and standard deviation of a number over the chosen pairs."""
        return Spread.of(measure(score) for score in self.scores[method] if chosen(score))

    def improved(self, method: str) -> float | None:
        """Return the share of hazy pictures whose PSNR rose, 0..1; None where there are none."""
        rose = [score.psnr_out > score.psnr_in for score in self.scores[method] if score.hazy]
        return fmean(rose) if rose else None

    def against_first(self, method: str, measure: Measure) -> PairedTest | None:
        """Test the first model against another method on the hazy pairs."""
        pairs = [
            (measure(ours), measure(theirs))
            for ours, theirs in zip(self.first, self.scores[method], strict=True)
            if ours.hazy
        ]
        return PairedTest.of(*zip(*pairs, strict=True)) if pairs else None

    def gains(self, method: str, chosen: Choice) -> list[float]:
        """Return by how much the PSNR of the first model is higher, in dB, for the chosen pairs."""
        return [
            0.0 if ours.psnr_out == theirs.psnr_out else ours.psnr_out - theirs.psnr_out
            for ours, theirs in zip(self.first, self.scores[method], strict=True)
            if chosen(ours)
        ]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row for every method and pair."""
        for method, scores in self.scores.items():
            for score in scores:
                yield {"method": method, **score.as_dict()}
