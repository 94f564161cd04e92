# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam score is 1 where nothing is special about a grid, and rises with the height of seams."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dehaze_core.errors import InputError, SettingsError
from dehaze_core.metrics import seam_score


def noise(height: int = 200, width: int = 260) -> np.ndarray:
    return np.random.default_rng(1).normal(100, 5, (2, height, width))


def tiled(image: np.ndarray, step: int, height: float) -> np.ndarray:
    rows, columns = np.indices(image.shape[1:]) // step
    return image + height * ((rows + columns) % 2)


def test_noise_has_no_seams() -> None:
    assert seam_score(noise(), step=32) == pytest.approx(1, abs=0.05)


def test_score_rises_with_the_height_of_the_seams() -> None:
    scores = [seam_score(tiled(noise(), 32, height), step=32) for height in (0, 5, 20)]

    assert scores == sorted(scores)
    assert scores[2] > 3


def test_seams_off_the_grid_do_not_count_as_seams() -> None:
    assert seam_score(tiled(noise(), 32, 20), step=30) < 1.2


def test_seams_along_one_axis_alone_are_seen() -> None:
    image = noise()
    image[:, 32:64] += 30

    assert seam_score(image, step=32) > 1.2


def test_unsigned_steps_do_not_wrap_around() -> None:
    image = np.clip(tiled(noise(), 32, 100), 0, 255).astype(np.uint8)

    assert seam_score(image, step=32) == pytest.approx(seam_score(image.astype(float), step=32))


def test_a_seam_through_flat_ground_is_infinitely_worse() -> None:
    assert seam_score(tiled(np.zeros((1, 64, 64)), 32, 1), step=32) == math.inf


def test_a_flat_image_has_no_seams() -> None:
    assert seam_score(np.full((1, 64, 64), 7, np.uint8), step=16) == 1


def test_steps_into_invalid_pixels_do_not_count() -> None:
    image = noise()
    valid = np.ones(image.shape[1:], bool)
    valid[:, 64:] = False
    expected = seam_score(image[:, :, :64], step=32)
    image[:, :, 64:] = np.nan

    assert seam_score(image, step=32, valid=valid) == pytest.approx(expected)


def test_an_image_without_valid_steps_has_no_score() -> None:
    image = noise()

    assert math.isnan(seam_score(image, step=32, valid=np.zeros(image.shape[1:], bool)))


def test_impossible_grids_are_refused() -> None:
    with pytest.raises(SettingsError, match="2 px"):
        seam_score(noise(), step=1)
    with pytest.raises(SettingsError, match="1 px"):
        seam_score(noise(), step=32, near=0)
    with pytest.raises(InputError, match="no grid line"):
        seam_score(noise(20, 20), step=32)


def test_uneven_detail_is_no_seam_when_only_neighbours_are_compared() -> None:
    # Nothing but the middle of the image, where the only line runs, has any detail.
    image = np.full((1, 64, 300), 100.0)
    image[:, :, 140:180] = np.random.default_rng(2).normal(100, 20, (1, 64, 40))

    assert seam_score(image, step=160) > 5
    assert seam_score(image, step=160, near=4) == pytest.approx(1, abs=0.2)


def test_neighbours_of_a_seam_show_it_as_well() -> None:
    assert seam_score(tiled(noise(), 32, 20), step=32, near=4) > 3
