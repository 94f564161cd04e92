# SPDX-License-Identifier: GPL-3.0-or-later
"""The classical baselines do what their papers say, on haze that follows the papers' model."""

from __future__ import annotations

import numpy as np
import pytest

from dehaze_core.baselines import dark_channel, haze_thickness_map, identity
from dehaze_core.metrics import psnr
from dehaze_core.scene.srgb import decode_table, encode_uint8


def ground(seed: int = 3) -> np.ndarray:
    """Fields of 10 px, some of them dark, (120, 160, 3) uint8."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 200, (12, 16, 3)).repeat(10, axis=0).repeat(10, axis=1).astype(np.uint8)


def error_db(picture: np.ndarray, clear: np.ndarray) -> float:
    return psnr(np.moveaxis(picture, -1, 0), np.moveaxis(clear, -1, 0), data_range=255)


def hazed_on_display(transmission: float) -> np.ndarray:
    return np.rint(ground() * transmission + 230 * (1 - transmission)).astype(np.uint8)


def hazed_by_added_light(left: float, right: float) -> np.ndarray:
    """Haze that only adds light, more of it to the right."""
    light = decode_table().numpy()[ground()]
    added = np.linspace(left, right, light.shape[1], dtype=np.float32)[None, :, None]
    return encode_uint8(np.clip(light + added * np.float32([0.8, 0.9, 1.0]), 0, 1))


def test_identity_changes_nothing() -> None:
    assert np.array_equal(identity.restore(ground()), ground())


@pytest.mark.parametrize("transmission", [0.4, 0.6])
def test_dark_channel_prior_removes_even_haze(transmission: float) -> None:
    hazy = hazed_on_display(transmission)

    restored = dark_channel.restore(hazy)

    assert restored.dtype == np.uint8
    assert error_db(restored, ground()) > error_db(hazy, ground()) + 3


def test_dark_channel_prior_survives_a_black_picture() -> None:
    black = np.zeros((40, 40, 3), np.uint8)

    assert not dark_channel.restore(black).any()


def test_airlight_is_the_colour_of_the_haze_itself() -> None:
    image = np.moveaxis(hazed_on_display(0.5), -1, 0).astype(np.float32) / 255
    image[:, 40:80, 40:80] = np.float32([0.9, 0.85, 0.8])[:, None, None]

    found = dark_channel.find_airlight(image)

    assert found.ravel() == pytest.approx([0.9, 0.85, 0.8])


def test_haze_thickness_map_takes_away_the_light_that_uneven_haze_adds() -> None:
    hazy = hazed_by_added_light(0.05, 0.35)

    restored = haze_thickness_map.restore(hazy)

    assert error_db(restored, ground()) > error_db(hazy, ground()) + 5


def test_haze_thickness_map_takes_away_even_haze_as_well() -> None:
    hazy = hazed_by_added_light(0.2, 0.2)

    restored = haze_thickness_map.restore(hazy)

    assert error_db(restored, ground()) > error_db(hazy, ground()) + 5


def test_haze_is_carried_to_a_band_by_its_relation_to_blue() -> None:
    blue = np.tile(np.linspace(0.1, 0.5, 50, dtype=np.float32), (40, 1))

    red = haze_thickness_map.band_haze(blue, 0.5 * blue + np.float32(0.02))

    # Less the one per cent that dark ground reflects by itself.
    assert np.allclose(red, 0.5 * blue + 0.01, atol=1e-5)


def test_haze_is_never_negative_nor_above_the_dark_objects() -> None:
    blue = np.tile(np.linspace(0.0, 0.5, 50, dtype=np.float32), (40, 1))
    other = np.random.default_rng(0).uniform(0, 0.02, (40, 50)).astype(np.float32)

    haze = haze_thickness_map.band_haze(blue, other)

    assert (haze >= 0).all()
    assert (haze <= other).all()
