# SPDX-License-Identifier: GPL-3.0-or-later
"""The scattering model and its inversion."""

from __future__ import annotations

import pytest
import torch

from dehaze_core.haze.bands import band_haze
from dehaze_core.haze.layers import at_phase, correct, full_resolution
from dehaze_core.haze.physics import RGB_WAVELENGTHS, T_MIN, add_haze, angstrom_ratio, remove_haze


def test_removing_haze_undoes_adding_it() -> None:
    generator = torch.Generator().manual_seed(1)
    clear = torch.rand(3, 40, 40, generator=generator)
    airlight = torch.rand(3, 1, 1, generator=generator)
    transmission = torch.rand(1, 40, 40, generator=generator) * (1 - T_MIN) + T_MIN

    restored = remove_haze(add_haze(clear, transmission, airlight), transmission, airlight)

    assert torch.allclose(restored, clear, atol=1e-5)


def test_transmission_below_the_limit_is_not_inverted_further() -> None:
    hazy, airlight = torch.tensor([0.5]), torch.tensor([0.8])

    assert remove_haze(hazy, torch.tensor([1e-6]), airlight) == remove_haze(
        hazy, torch.tensor([T_MIN]), airlight
    )


def test_no_haze_leaves_the_image_as_it_is() -> None:
    image = torch.rand(3, 8, 8)

    assert torch.allclose(
        correct(image, torch.zeros(1, 8, 8), torch.tensor(0.9), 1.0), image, atol=1e-6
    )


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_strength_scales_the_thickness(strength: float) -> None:
    image, tau = torch.full((4,), 0.4), torch.full((4,), 0.5)

    partly = correct(image, tau, torch.tensor(0.9), 1.0, strength)

    assert torch.allclose(partly, correct(image, tau * strength, torch.tensor(0.9), 1.0))


def test_small_particles_scatter_blue_more_than_red() -> None:
    red, green, blue = (angstrom_ratio(torch.tensor(1.3), w) for w in RGB_WAVELENGTHS)

    assert red < green < blue
    assert green == pytest.approx(0.977, abs=0.01)


def test_bands_of_known_wavelength_follow_and_unknown_ones_are_left_alone() -> None:
    interp = ("blue", "green", "red", "nir", "undefined", "alpha")

    found = {b.index: b for b in band_haze((2, 1, 0), interp, alpha=1.0)}

    assert sorted(found) == [0, 1, 2, 3]
    assert found[3].ratio < found[2].ratio < found[1].ratio < found[0].ratio
    assert found[3].airlight_band == 0


def test_single_band_gets_the_thickness_at_the_reference_wavelength() -> None:
    (band,) = band_haze((0,), ("gray",), alpha=1.7)

    assert band.ratio == pytest.approx(1.0)


def test_full_resolution_without_edges_is_plain_interpolation() -> None:
    tau, airlight = torch.rand(1, 1, 6, 7), torch.rand(1, 3, 6, 7)

    fine, fine_airlight = full_resolution(
        tau, airlight, torch.zeros(1, 1, 6, 7), torch.rand(1, 1, 24, 28)
    )

    expected = torch.nn.functional.interpolate(tau, scale_factor=4, mode="bilinear")
    assert torch.allclose(fine, expected, atol=1e-6)
    assert fine_airlight.shape == (1, 3, 24, 28)


def test_full_resolution_follows_brightness_where_the_slope_says_so() -> None:
    luminance = torch.zeros(1, 1, 24, 24)
    luminance[..., 13] = 1.0
    tau = torch.full((1, 1, 6, 6), 0.4)

    fine, _ = full_resolution(tau, torch.rand(1, 3, 6, 6), torch.full((1, 1, 6, 6), 0.8), luminance)

    assert fine[0, 0, 12, 13] > 0.4 > fine[0, 0, 12, 14]


@pytest.mark.parametrize("phase", [(0, 0), (1, 3), (2, 2), (3, 0)])
def test_one_pixel_of_every_cell_equals_full_resolution_there(phase: tuple[int, int]) -> None:
    maps = torch.rand(2, 1, 5, 6), torch.rand(2, 3, 5, 6), torch.rand(2, 1, 5, 6)
    luminance = torch.rand(2, 1, 20, 24)

    whole = full_resolution(*maps, luminance)
    chosen = at_phase(*maps, luminance, phase)

    for full, part in zip(whole, chosen, strict=True):
        assert torch.allclose(full[..., phase[0] :: 4, phase[1] :: 4], part, atol=1e-6)
