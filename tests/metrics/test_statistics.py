# SPDX-License-Identifier: GPL-3.0-or-later
"""Spread and paired test on numbers that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from dehaze_core.errors import InputError
from dehaze_core.metrics.statistics import PairedTest, Spread

# Wilcoxon 1945, after Darwin: heights of cross- and self-fertilised plants, in 1/8 inch.
CROSSED = [188, 96, 168, 176, 153, 172, 177, 163, 146, 173, 186, 168, 177, 184, 96]
SELFED = [139, 163, 160, 160, 147, 149, 149, 122, 132, 144, 130, 144, 102, 124, 144]


def test_published_example_has_its_published_probability() -> None:
    test = PairedTest.of(CROSSED, SELFED)

    assert test.images == 15
    assert test.p_value == pytest.approx(0.0413, abs=5e-4)
    assert test.p_value == wilcoxon(np.subtract(CROSSED, SELFED)).pvalue
    assert test.median == 24
    assert test.wins == pytest.approx(13 / 15)


def test_direction_does_not_change_the_probability() -> None:
    assert PairedTest.of(SELFED, CROSSED).p_value == PairedTest.of(CROSSED, SELFED).p_value
    assert PairedTest.of(SELFED, CROSSED).median == -24


def test_equal_methods_do_not_differ() -> None:
    test = PairedTest.of([20.0, math.inf, 30.0], [20.0, math.inf, 30.0])

    assert (test.p_value, test.median, test.wins) == (1.0, 0.0, 0.0)


def test_unchanged_pictures_on_both_sides_are_equal() -> None:
    test = PairedTest.of([math.inf, 25, 26, 27], [math.inf, 20, 20, 20])

    assert test.median == 5.5
    assert math.isfinite(test.p_value)


@pytest.mark.parametrize(("first", "second"), [([1.0], [1.0, 2.0]), ([], [])])
def test_numbers_of_other_images_are_refused(first: list, second: list) -> None:
    with pytest.raises(InputError, match="two numbers an image"):
        PairedTest.of(first, second)


def test_spread_is_that_of_a_sample() -> None:
    spread = Spread.of([1.0, 2.0, 3.0])

    assert (spread.images, spread.mean, spread.sd) == (3, 2.0, 1.0)


def test_too_few_or_infinite_numbers_have_no_deviation() -> None:
    assert math.isnan(Spread.of([]).mean)
    assert math.isnan(Spread.of([4.0]).sd)
    assert Spread.of([math.inf, 4.0]).mean == math.inf
    assert math.isnan(Spread.of([math.inf, 4.0]).sd)
