# SPDX-License-Identifier: GPL-3.0-or-later
"""Haze lifts the haze score and takes contrast and saturation; pixels without data never count."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dehaze_core.errors import InputError
from dehaze_core.metrics import Appearance, dark_channel


def scene(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (3, 60, 80)).astype(np.uint8)


def look(image: np.ndarray, valid: np.ndarray | None = None) -> Appearance:
    return Appearance.of(image, data_range=255, valid=valid)


def test_haze_is_seen_in_three_of_the_numbers() -> None:
    clear = look(scene())

    hazy = look(np.rint(0.5 * scene() + 0.5 * 220).astype(np.uint8))

    assert hazy.haze > clear.haze + 0.3
    assert hazy.contrast == pytest.approx(clear.contrast / 2, rel=0.02)
    assert hazy.saturation < clear.saturation / 2


def test_numbers_of_a_flat_colour_are_known() -> None:
    flat = np.empty((3, 40, 40), np.uint8)
    flat[0], flat[1], flat[2] = 200, 150, 51

    numbers = look(flat)

    assert numbers.haze == pytest.approx(51 / 255)
    assert numbers.contrast == pytest.approx(0, abs=1e-9)
    assert numbers.saturation == pytest.approx((200 - 51) / 200)
    assert numbers.clipped == 0


def test_clipped_counts_pixels_at_either_end() -> None:
    image = np.full((3, 20, 20), 100, np.uint8)
    image[0, 0] = 255
    image[:, 1] = 0

    assert look(image).clipped == pytest.approx(2 / 20)
    assert look(image).saturation == pytest.approx(155 / 255 / 20), "black has none"


def test_dark_channel_is_the_minimum_of_bands_and_patch() -> None:
    image = np.full((3, 40, 40), 200, np.uint8)
    image[1, 20, 20] = 9

    dark = dark_channel(image)

    assert (dark[13:28, 13:28] == 9).all()
    assert (dark == 9).sum() == 15 * 15


def test_pixels_without_data_change_nothing() -> None:
    image = scene()
    valid = np.ones((60, 80), bool)
    valid[:, 50:] = False
    spoiled = image.copy()
    spoiled[:, ~valid] = 0

    expected, found = look(image[:, :, :50]), look(spoiled, valid)

    assert found.haze == pytest.approx(expected.haze)
    assert found.contrast == pytest.approx(expected.contrast)
    assert found.saturation == pytest.approx(expected.saturation)
    assert found.clipped == pytest.approx(expected.clipped)


def test_a_picture_without_valid_pixels_has_no_numbers() -> None:
    numbers = look(scene(), np.zeros((60, 80), bool))

    assert math.isnan(numbers.haze)
    assert math.isnan(numbers.clipped)


def test_a_picture_smaller_than_the_window_has_no_contrast() -> None:
    assert math.isnan(look(scene()[:, :10]).contrast)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="mask"):
        look(scene(), np.ones((3, 3), bool))
