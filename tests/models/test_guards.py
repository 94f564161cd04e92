# SPDX-License-Identifier: GPL-3.0-or-later
"""What the shipped weights must not do, one scene for each guard.

The scenes are procedural: they show that nothing absurd happens, not how well real haze is removed
(that is what the benchmark is for).
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dehaze_core.engine.in_memory import restore_array
from dehaze_core.haze.noise import fractal_noise
from dehaze_core.haze.synthesis import HazeRecipe, add_haze
from dehaze_core.scene.srgb import encode_uint8

MODEL = "dehazexl-lite"
SIDE = 384

Linear = NDArray[np.float32]
Picture = NDArray[np.uint8]


def fields(seed: int, wavelength: float = 60.0) -> NDArray[np.float32]:
    """Three independent fields (3, 384, 384), mean 0, deviation about 1."""
    line = np.arange(SIDE) / wavelength
    rows, cols = np.meshgrid(line, line, indexing="ij")
    noise = [fractal_noise(rows, cols, seed * 10 + band, 6) for band in range(3)]
    return np.stack(noise).astype(np.float32)


def ground(seed: int = 1) -> Linear:
    """Fields and woods with shadows: bands that differ, values down to nearly black."""
    kind = fields(seed, 120.0)[:1]
    woods = np.array([0.03, 0.06, 0.02], np.float32)[:, None, None]
    soil = np.array([0.22, 0.17, 0.11], np.float32)[:, None, None]
    colour = np.where(kind > 0.2, soil, woods) * np.exp(0.35 * fields(seed + 1, 12.0)[:1])
    shadow = np.where(fields(seed + 2, 20.0)[:1] > 1.3, 0.08, 1.0)
    return np.clip(colour * shadow, 0.001, 1.0).astype(np.float32)


def picture(linear: Linear) -> Picture:
    return encode_uint8(linear).transpose(1, 2, 0)


def dehaze(linear: Linear) -> Picture:
    return restore_array(picture(linear), MODEL)


def hazed(linear: Linear, **haze: object) -> Linear:
    values: dict[str, object] = {"kind": "patchy", "thickness": 0.6, "wavelength": 300.0, "seed": 3}
    return add_haze(linear, HazeRecipe(**{**values, **haze})).hazy  # type: ignore[arg-type]


def rms(a: Picture, b: Picture) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b.astype(float)) ** 2)))


@pytest.mark.parametrize("seed", [1, 4, 7])
def test_a_clear_scene_comes_back_unchanged(seed: int) -> None:
    clear = ground(seed)

    assert rms(dehaze(clear), picture(clear)) <= 2.0


def test_haze_is_removed() -> None:
    clear = ground()
    hazy = hazed(clear)

    before, after = rms(picture(hazy), picture(clear)), rms(dehaze(hazy), picture(clear))

    assert after < 0.5 * before


@pytest.mark.parametrize(
    "colour",
    [(0.75, 0.75, 0.75), (0.6, 0.5, 0.36), (0.5, 0.2, 0.14)],
    ids=["white", "sand", "tile"],
)
def test_bright_roofs_on_clear_ground_are_not_darkened(colour: tuple[float, ...]) -> None:
    clear = ground()
    roofs = np.zeros((SIDE, SIDE), bool)
    for row in range(40, SIDE - 40, 80):
        roofs[row : row + 24, 40 : SIDE - 40 : 3] = True
        roofs[row : row + 24, 41 : SIDE - 40 : 3] = True
    clear[:, roofs] = np.array(colour, np.float32)[:, None]

    change = dehaze(clear).astype(float) - picture(clear)

    assert abs(change[roofs].mean()) <= 3.0


def test_clear_water_stays_dark_and_even() -> None:
    clear = ground()
    water = np.zeros((SIDE, SIDE), bool)
    water[:, 200:] = True
    clear[:, water] = np.array([0.012, 0.022, 0.03], np.float32)[:, None]

    change = dehaze(clear).astype(float) - picture(clear)

    assert np.abs(change[water]).max() <= 6.0


def test_hazy_water_gets_darker_and_no_other_colour() -> None:
    clear = ground()
    water = np.zeros((SIDE, SIDE), bool)
    water[:, 200:] = True
    clear[:, water] = np.array([0.012, 0.022, 0.03], np.float32)[:, None]
    hazy = hazed(clear, thickness=0.4)

    before, after = picture(hazy)[water].mean(axis=0), dehaze(hazy)[water].mean(axis=0)

    assert (after < before).all()
    truth = picture(clear)[water].mean(axis=0)
    assert np.abs((after - after.mean()) - (truth - truth.mean())).max() <= 25.0


def test_neutral_ground_gets_no_colour_cast() -> None:
    grey = np.repeat(ground().mean(axis=0, keepdims=True), 3, axis=0)

    restored = dehaze(hazed(grey, alpha=0.0, airlight=(0.8, 0.8, 0.8))).astype(float)

    spread = restored.mean(axis=(0, 1))
    assert np.ptp(spread) <= 10.0


def test_dense_haze_does_not_turn_into_noise() -> None:
    """Noise grows by 1 / t at most, and t is kept from becoming too small."""
    clear = np.full((3, SIDE, SIDE), 0.1, np.float32) * np.exp(0.2 * fields(2, 40.0))
    hazy = hazed(clear.astype(np.float32), kind="homogeneous", thickness=4.0)
    noisy = hazy + 0.004 * np.random.default_rng(5).standard_normal(hazy.shape, dtype=np.float32)

    restored = dehaze(noisy.astype(np.float32)).astype(float)

    fine = restored - np.roll(restored, 1, axis=0)
    assert np.abs(fine).mean() <= 20.0
    assert (restored == 0).mean() < 0.2
    assert (restored == 255).mean() < 0.2
