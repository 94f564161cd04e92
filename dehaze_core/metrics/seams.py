# SPDX-License-Identifier: GPL-3.0-or-later
"""Are there seams: does an image jump more across the lines of a grid than elsewhere?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dehaze_core.errors import InputError, SettingsError


def seam_score(
    image: NDArray[Any],
    *,
    step: int,
    near: int | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> float:
    """Return the mean absolute step across grid lines over the mean absolute step elsewhere.

    1 means that nothing is special about the lines; a visible seam lifts it well above the value
    that the input itself has.

    Args:
        image: `(bands, rows, columns)`, any real dtype.
        step: Distance of the grid lines in px; lines run before rows and columns `step`,
            `2 * step`, ...
        near: Count as elsewhere only what is at most this far from a line, in px; everything if
            None. Close to a line the ground is the same on average, so that scenes whose detail
            is uneven don't blur the number.
        valid: `(rows, columns)`; only steps between two valid pixels count.

    Raises:
        SettingsError: `step` is below 2, or `near` below 1.
        InputError: The image is not three-dimensional, or too small to hold a grid line.
    """
    if step < 2:
        raise SettingsError(f"Grid lines must be at least 2 px apart, found {step}.")
    if near is not None and near < 1:
        raise SettingsError(f"Steps beside a line are at least 1 px from it, found {near}.")
    if image.ndim != 3 or max(image.shape[1:]) <= step:
        raise InputError(
            f"An image of shape {image.shape} holds no grid line every {step} px; expected "
            "(bands, rows, columns) with rows or columns above the step."
        )
    on_lines, elsewhere = np.zeros(2), np.zeros(2)
    usable = np.ones(image.shape[1:], bool) if valid is None else valid
    for axis in (0, 1):
        steps, both = _steps(image, usable, axis)
        distance = _line_distance(image.shape[axis + 1], step)
        beside = distance > 0 if near is None else (distance > 0) & (distance <= near)
        on_lines += _sum_and_count(steps, both, distance == 0, axis)
        elsewhere += _sum_and_count(steps, both, beside, axis)
    return _ratio(on_lines, elsewhere)


def _line_distance(size: int, step: int) -> NDArray[np.int_]:
    """Return how far each step along an axis of `size` px is from the nearest line, in px."""
    place = np.arange(1, size)
    last = max((size - 1) // step * step, step)
    nearest = np.clip(np.rint(place / step).astype(int) * step, step, last)
    distance: NDArray[np.int_] = np.abs(place - nearest)
    return distance


def _steps(
    image: NDArray[Any], usable: NDArray[np.bool_], axis: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the band-mean absolute steps along an axis and where both ends of them are valid."""
    size = image.shape[axis + 1]
    filled = np.where(usable, image, 0).astype(np.float64)
    steps = np.abs(np.diff(filled, axis=axis + 1)).mean(axis=0)
    both = usable.take(range(1, size), axis) & usable.take(range(size - 1), axis)
    return steps, both


def _sum_and_count(
    steps: NDArray[np.float64], both: NDArray[np.bool_], chosen: NDArray[np.bool_], axis: int
) -> NDArray[np.float64]:
    picked = both.compress(chosen, axis)
    return np.array([steps.compress(chosen, axis)[picked].sum(), picked.sum()], np.float64)


def _ratio(on_lines: NDArray[np.float64], elsewhere: NDArray[np.float64]) -> float:
    if not on_lines[1] or not elsewhere[1]:
        return math.nan
    across, usual = on_lines[0] / on_lines[1], elsewhere[0] / elsewhere[1]
    if usual == 0:
        return 1.0 if across == 0 else math.inf
    return float(across / usual)
