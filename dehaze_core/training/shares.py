# SPDX-License-Identifier: GPL-3.0-or-later
"""How often one of several is taken: shares in recipes, and draws by them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np


def is_share(value: object) -> bool:
    """Return whether a value is a number of at least 0, and no truth value."""
    return type(value) in (int, float) and isinstance(value, int | float) and 0 <= value < math.inf


def are_shares(values: object, names: Collection[str]) -> bool:
    """Return whether a value gives some of the names shares that are not all 0."""
    if not isinstance(values, Mapping) or set(values) - set(names):
        return False
    return all(map(is_share, values.values())) and sum(values.values()) > 0


def drawn(rng: np.random.Generator, shares: Sequence[float]) -> int:
    """Draw a position, each as often as its share of all."""
    weights = np.asarray(shares)
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def allotted(shares: Sequence[float], count: int) -> list[int]:
    """Return `count` positions in rising order, each as often as its share of all comes to."""
    ends = np.cumsum(np.asarray(shares, float) / sum(shares))
    middles = (np.arange(count) + 0.5) / count
    return [int(position) for position in np.searchsorted(ends, middles, side="right")]
