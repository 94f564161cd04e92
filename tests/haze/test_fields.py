# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields of haze by place in the world, white noise by pixel, and what is drawn for training."""

from __future__ import annotations

import numpy as np
import pytest

from dehaze_core.grid import Window
from dehaze_core.haze.adjacency import adjacency_halo, blurred_ground
from dehaze_core.haze.fields import HazeFields
from dehaze_core.haze.noise import white_noise
from dehaze_core.haze.synthesis import HazeRecipe, add_haze, random_recipe
from dehaze_core.haze.textures import as_texture

RECIPE = HazeRecipe(kind="patchy", thickness=0.6, wavelength=80.0, octaves=3, seed=2)


def test_what_is_drawn_for_training_stays_what_it_was() -> None:
    """Weights that were shipped were trained on this stream of haze."""
    rng = np.random.default_rng(20)
    clear = np.random.default_rng(1).random((3, 90, 100)).astype(np.float32)

    drawn = [random_recipe(rng, level, 512, (0.8, 0.7, 0.6)) for level in ("L1", "L2", "L3", "L4")]

    assert [recipe.kind for recipe in drawn] == ["patchy", "patchy", "cirrus", "cirrus"]
    assert [recipe.thickness for recipe in drawn] == pytest.approx(
        [0.09119647420615062, 0.1941129010348968, 0.49955348058884524, 0.9639085937317176]
    )
    assert drawn[3].seed == 364447978
    scenes = [add_haze(clear, recipe) for recipe in drawn]
    assert scenes[1].hazy.mean() == pytest.approx(0.5240023, abs=1e-6)
    assert scenes[2].thickness.mean() == pytest.approx(0.7042795, abs=1e-6)


def test_fields_are_anchored_in_the_world_not_in_the_raster() -> None:
    window = Window(10, 20, 33, 47)

    one = HazeFields(RECIPE, row=-1000, col=5).thickness(window)
    other = HazeFields(RECIPE, row=-1003, col=12).thickness(window.shifted(3, -7))

    assert np.array_equal(one, other)


def test_fields_agree_with_the_recipe_on_every_pixel_of_a_smooth_field() -> None:
    window = Window(3, 5, 40, 50)
    rows, cols = np.meshgrid(np.arange(3.0, 43.0), np.arange(5.0, 55.0), indexing="ij")

    field = HazeFields(RECIPE).thickness(window)

    exact = RECIPE.thickness_at(rows, cols)
    assert np.abs(field - exact).max() < 0.05
    # On the nodes of the lattice, it is the recipe itself.
    assert field[1::4, 3::4] == pytest.approx(exact[1::4, 3::4], rel=1e-6)


def test_the_median_is_that_of_the_pixels() -> None:
    fields = HazeFields(RECIPE, row=77, col=-13)

    median = fields.median_thickness(150, 210)

    whole = fields.thickness(Window(0, 0, 150, 210))
    assert median == pytest.approx(float(np.median(whole)), rel=0.01)


def test_white_noise_is_normal_and_independent() -> None:
    grid = np.meshgrid(np.arange(-200, 200), np.arange(300, 700), indexing="ij")

    noise, other = (white_noise(*grid, seed) for seed in (1, 2))

    assert noise.mean() == pytest.approx(0.0, abs=0.01)
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    assert (np.abs(noise) > 1.96).mean() == pytest.approx(0.05, abs=0.003)
    for neighbour in (noise[1:, :-1], noise[:-1, 1:], other[:-1, :-1]):
        assert abs(np.corrcoef(noise[:-1, :-1].ravel(), neighbour.ravel())[0, 1]) < 0.01


def test_bands_have_noise_of_their_own() -> None:
    fields, window = HazeFields(RECIPE), Window(0, 0, 100, 100)

    red, green = (fields.sensor_noise(window, band).ravel() for band in (0, 1))

    assert abs(np.corrcoef(red, green)[0, 1]) < 0.03


def test_adjacency_keeps_flat_ground_and_spreads_an_edge_by_its_width() -> None:
    size, halo = 60, adjacency_halo(2.0)
    ground = np.zeros((size + 2 * halo, size + 2 * halo))
    ground[:, halo + 30 :] = 1.0
    valid = np.ones(ground.shape, bool)
    core = Window(halo, halo, size, size)

    for tau in (0.5, 1.0, 2.0):
        seen = blurred_ground(ground, valid, np.full((size, size), tau), 2.0, core)
        slope = np.diff(seen[30])
        place = np.arange(slope.size) + 0.5
        centre = (slope * place).sum()
        width = np.sqrt((slope * (place - centre) ** 2).sum())
        assert width == pytest.approx(2.0 * tau, rel=0.05)
        assert seen[:, :5].max() < 1e-3


def test_adjacency_takes_no_light_from_pixels_without_data() -> None:
    ground = np.full((40, 40), 0.3)
    valid = np.ones(ground.shape, bool)
    valid[:, 20:] = False
    ground[~valid] = np.nan

    seen = blurred_ground(ground, valid, np.full((40, 40), 2.0), 1.0, Window(0, 0, 40, 40))

    assert seen[valid] == pytest.approx(np.full(valid.sum(), 0.3))


def test_no_haze_no_blur() -> None:
    ground = np.random.default_rng(3).random((30, 30))
    valid = np.ones(ground.shape, bool)

    seen = blurred_ground(ground, valid, np.zeros((30, 30)), 2.0, Window(0, 0, 30, 30))

    assert np.array_equal(seen, ground)


def test_textures_are_stretched_and_gaps_are_clear() -> None:
    values = np.random.default_rng(4).uniform(100, 900, (41, 60)).astype(np.float32)
    values[:10] = np.nan

    texture = as_texture(values)

    assert texture.shape == (20, 30)
    assert (texture[:5] == 0).all()
    assert (texture.min(), texture.max()) == (0.0, 1.0)


@pytest.mark.parametrize("value", [5.0, np.nan])
def test_a_flat_texture_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="different values"):
        as_texture(np.full((8, 8), value, np.float32))
