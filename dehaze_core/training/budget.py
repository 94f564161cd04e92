# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a training lasts, and the learning rate that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dehaze_core.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Budget:
    """Steps or minutes, one of both.

    A budget of steps is the same training on every machine, however fast and busy; one of minutes
    ends when a lease does.

    Attributes:
        minutes: Minutes of training, validations left out; None for steps.
        steps: Steps; None for minutes.

    Raises:
        SettingsError: There are both or none, or the one is out of range.
    """

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        """Check that there is one, and its range."""
        if (self.minutes is None) == (self.steps is None):
            raise SettingsError(
                f"A training has 'minutes' {self.minutes!r} and 'steps' {self.steps!r}, expected "
                "one of both."
            )
        if self.minutes is not None and not (
            type(self.minutes) in (int, float) and 0 < self.minutes < math.inf
        ):
            raise SettingsError(f"'minutes' of a training is {self.minutes!r}, expected > 0.")
        if self.steps is not None and not (type(self.steps) is int and self.steps > 0):
            raise SettingsError(
                f"'steps' of a training is {self.steps!r}, expected a whole number > 0."
            )

    def used(self, steps: int, seconds: float) -> float:
        """Return the share that is used up; 1 or more when the training is over.

        Args:
            steps: Steps made.
            seconds: Seconds they took.
        """
        if self.minutes is not None:
            return seconds / (self.minutes * 60)
        return steps / (self.steps or 1)


def schedule(progress: float, warmup: float) -> float:
    """Return the learning rate as a share of its peak: a line upwards, then half a cosine to 1 %.

    Args:
        progress: Share of the training that is done.
        warmup: Share in which the rate rises.
    """
    if progress < warmup:
        return progress / warmup
    return 0.01 + 0.99 * 0.5 * (
        1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup)))
    )
