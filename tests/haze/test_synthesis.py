# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic haze: windows agree, levels mean what they say, the truth inverts."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from dehaze_core.haze.noise import fractal_noise, gradient_noise
from dehaze_core.haze.physics import REFERENCE_WAVELENGTH, RGB_WAVELENGTHS
from dehaze_core.haze.synthesis import LEVELS, HazeKind, HazeRecipe, add_haze, random_recipe

TEXTURE = np.clip(np.random.default_rng(3).random((32, 32)), 0, 1).astype(np.float32)


def recipe(kind: HazeKind = "patchy", **changes: object) -> HazeRecipe:
    base = HazeRecipe(kind=kind, thickness=0.5, wavelength=90.0, stretch=1.5, angle=0.7, seed=4)
    base = replace(base, texture=TEXTURE, airlight_variation=0.03)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", get_args(HazeKind))
def test_a_window_equals_the_same_part_of_the_whole(kind: HazeKind) -> None:
    clear = np.random.default_rng(1).random((3, 96, 128)).astype(np.float32)

    whole = add_haze(clear, recipe(kind))
    part = add_haze(clear[:, 32:80, 64:100], recipe(kind), origin=(32, 64))

    assert np.abs(part.hazy - whole.hazy[:, 32:80, 64:100]).max() < 1e-6
    assert np.abs(part.thickness - whole.thickness[32:80, 64:100]).max() < 1e-6


def test_the_truth_restores_the_clear_image() -> None:
    clear = np.random.default_rng(2).random((3, 64, 64)).astype(np.float32)
    haze = recipe(alpha=1.1)

    scene = add_haze(clear, haze)

    for band, wavelength in enumerate(RGB_WAVELENGTHS):
        t = np.exp(-scene.thickness * (wavelength / REFERENCE_WAVELENGTH) ** -haze.alpha)
        restored = (scene.hazy[band] - scene.airlight[band] * (1 - t)) / t
        assert np.abs(restored - clear[band]).max() < 1e-5


def test_level_zero_changes_nothing() -> None:
    clear = np.random.default_rng(2).random((3, 40, 40)).astype(np.float32)
    haze = random_recipe(np.random.default_rng(0), "L0", 40, (0.8, 0.8, 0.8))

    scene = add_haze(clear, replace(haze, noise=(0.0, 0.0)))

    assert np.array_equal(scene.hazy, clear)
    assert not scene.thickness.any()


@pytest.mark.parametrize("level", ["L1", "L2", "L3", "L4"])
def test_recipes_of_a_level_lie_in_its_range(level: str) -> None:
    rng = np.random.default_rng(5)
    low, high = LEVELS[level]

    drawn = [random_recipe(rng, level, 512, (0.8, 0.8, 0.8), [TEXTURE]) for _ in range(50)]

    assert all(low <= r.thickness <= high for r in drawn)
    assert all(0.05 <= a <= 1.0 for r in drawn for a in r.airlight)
    assert len({r.kind for r in drawn}) > 3


def test_the_same_random_state_gives_the_same_recipe() -> None:
    first, second = (
        random_recipe(np.random.default_rng(9), "L2", 512, (0.7, 0.7, 0.7)) for _ in range(2)
    )

    assert first == second


def test_clearings_are_free_of_haze() -> None:
    clear = np.full((3, 200, 200), 0.2, np.float32)

    scene = add_haze(clear, recipe(clearing=0.9))

    assert (scene.thickness == 0).mean() > 0.1
    assert scene.thickness.max() > 0.1


def test_sensor_noise_has_the_asked_for_strength() -> None:
    clear = np.full((3, 256, 256), 0.25, np.float32)

    scene = add_haze(clear, HazeRecipe(kind="patchy", thickness=0.0, noise=(1e-4, 3e-3)))

    assert scene.hazy.std() == pytest.approx(np.sqrt(1e-4 * 0.25 + 3e-3**2), rel=0.03)


def test_noise_is_standardised_and_depends_on_the_seed() -> None:
    y, x = np.meshgrid(np.linspace(0, 90, 400), np.linspace(0, 90, 400), indexing="ij")

    first, second = gradient_noise(y, x, 1), gradient_noise(y, x, 2)

    assert abs(first.mean()) < 0.05
    assert first.std() == pytest.approx(1.0, abs=0.05)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    assert fractal_noise(y, x, 1, 5).std() == pytest.approx(1.0, abs=0.1)


def test_texture_recipes_need_a_texture() -> None:
    with pytest.raises(ValueError, match="needs a texture"):
        add_haze(np.zeros((3, 8, 8), np.float32), recipe("texture", texture=None))


@pytest.mark.parametrize("kind", get_args(HazeKind))
def test_the_median_thickness_is_about_what_the_recipe_says(kind: HazeKind) -> None:
    rows, cols = np.meshgrid(np.arange(0, 3000, 10.0), np.arange(0, 3000, 10.0), indexing="ij")
    texture = np.random.default_rng(8).beta(2, 3, (64, 64)).astype(np.float32)

    drawn = recipe(kind, texture=texture, spread=0.3).thickness_at(rows, cols)

    assert np.median(drawn) == pytest.approx(0.5, rel=0.2)
