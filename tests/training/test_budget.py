# SPDX-License-Identifier: GPL-3.0-or-later
"""Budgets of steps and of minutes, and the learning rate over them."""

from __future__ import annotations

from typing import Any

import pytest

from dehaze_core.errors import SettingsError
from dehaze_core.training.budget import Budget, schedule


def test_steps_do_not_look_at_the_clock_nor_minutes_at_the_steps() -> None:
    assert Budget(steps=200).used(steps=50, seconds=1e6) == 0.25
    assert Budget(minutes=2).used(steps=10**6, seconds=30.0) == 0.25


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"minutes": 1, "steps": 1},
        {"minutes": 0},
        {"minutes": float("inf")},
        {"minutes": True},
        {"steps": 0},
        {"steps": 1.0},
    ],
)
def test_other_budgets_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        Budget(**wrong)


def test_the_rate_rises_to_its_peak_and_falls_to_a_hundredth() -> None:
    assert schedule(0.0, 0.1) == 0.0
    assert schedule(0.05, 0.1) == pytest.approx(0.5)
    assert schedule(0.1, 0.1) == pytest.approx(1.0)
    assert schedule(1.0, 0.1) == pytest.approx(0.01)
    assert schedule(1.2, 0.1) == schedule(1.0, 0.1)
