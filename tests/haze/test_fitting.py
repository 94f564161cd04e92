# SPDX-License-Identifier: GPL-3.0-or-later
"""Haze that was laid over a picture is found again from the hazy and the clear version."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dehaze_core.haze.fitting import (
    ALPHA_RANGE,
    Statistics,
    airlight_terms,
    angstrom_exponent,
    cell_sums,
    fit_haze,
    reference_thickness,
    scene_airlight,
    spread_sums,
)
from dehaze_core.haze.physics import RGB_WAVELENGTHS, T_MIN, angstrom_ratio

CELL = 16
SIDE = 160


def ground(seed: int = 0, bands: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.4 * torch.rand(bands, SIDE, SIDE, generator=generator)


def ratios(alpha: float) -> Tensor:
    each = [angstrom_ratio(torch.tensor(alpha), wavelength) for wavelength in RGB_WAVELENGTHS]
    return torch.stack(each)[:, None, None]


def under_haze(clear: Tensor, tau: Tensor, airlight: Tensor, alpha: float) -> Tensor:
    t = torch.exp(-tau * ratios(alpha))
    return clear * t + airlight[:, None, None] * (1 - t)


def fitted(hazy: Tensor, clear: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    mask = torch.ones(clear.shape[1:], dtype=torch.bool) if valid is None else valid
    cells = Statistics.of(spread_sums(cell_sums(hazy, clear, mask, CELL)))
    return fit_haze(cells, scene_airlight(airlight_terms(cells)))


@settings(max_examples=20, deadline=None)
@given(
    tau=st.floats(0.05, 1.5),
    alpha=st.floats(0.0, 2.0),
    airlight=st.tuples(*[st.floats(0.5, 1.0)] * 3),
    seed=st.integers(0, 1000),
)
def test_even_haze_is_recovered_exactly(
    tau: float, alpha: float, airlight: tuple[float, float, float], seed: int
) -> None:
    clear, light = ground(seed), torch.tensor(airlight)
    thickness, found = fitted(under_haze(clear, torch.tensor(tau), light, alpha), clear)

    exponent = angstrom_exponent(thickness.sum(dim=(1, 2)))
    assert exponent == pytest.approx(alpha, abs=1e-3)
    assert reference_thickness(thickness, exponent).numpy() == pytest.approx(tau, rel=1e-3)
    assert (found - light[:, None, None]).abs().max() < 0.01


def test_smooth_haze_is_followed() -> None:
    clear, light = ground(), torch.tensor([0.7, 0.75, 0.8])
    line = torch.linspace(0, 1, SIDE)
    tau = 0.3 + 0.4 * line[:, None] * line
    thickness, _ = fitted(under_haze(clear, tau, light, 1.3), clear)

    found = reference_thickness(thickness, angstrom_exponent(thickness.sum(dim=(1, 2))))
    truth = torch.nn.functional.avg_pool2d(tau[None], CELL)[0]
    # At the rim all neighbours lie on one side.
    assert (found - truth).abs().mean() < 0.02
    assert (found - truth)[2:-2, 2:-2].abs().max() < 0.03


def test_haze_over_even_ground_is_told_by_the_scene_s_airlight() -> None:
    clear, light = ground(), torch.tensor([0.8, 0.8, 0.8])
    clear[:, : SIDE // 2] = 0.05
    thickness, _ = fitted(under_haze(clear, torch.tensor(0.6), light, 0.0), clear)

    assert thickness[:, :3].numpy() == pytest.approx(0.6, rel=0.1)


def test_a_clear_picture_has_no_haze() -> None:
    clear = ground()

    assert fitted(clear, clear)[0].max() < 1e-6


@pytest.mark.parametrize("change", [0.0, 100.0, -3.0])
def test_any_change_gives_a_thickness_that_can_be_inverted(change: float) -> None:
    clear = ground()

    thickness, airlight = fitted(clear * change, clear)

    assert 0 <= thickness.min() <= thickness.max() <= -math.log(T_MIN) + 1e-9
    assert 0 <= airlight.min() <= airlight.max() <= 1.2


def test_invalid_pixels_have_no_influence() -> None:
    clear, light = ground(), torch.tensor([0.7, 0.7, 0.7])
    hazy = under_haze(clear, torch.tensor(0.5), light, 1.0)
    valid = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    valid[:70, :90] = True
    before = fitted(hazy, clear, valid)

    hazy[:, ~valid], clear[:, ~valid] = math.nan, math.inf
    after = fitted(hazy, clear, valid)

    assert torch.equal(before[0], after[0])
    assert after[0][:, -1, -1].tolist() == [0.0, 0.0, 0.0]


def test_sums_of_parts_are_those_of_the_whole() -> None:
    clear = ground()
    valid = torch.ones(SIDE, SIDE, dtype=torch.bool)
    whole = cell_sums(clear, clear, valid, CELL)
    upper, lower = (
        cell_sums(clear[:, rows], clear[:, rows], valid[rows], CELL)
        for rows in (slice(0, 64), slice(64, SIDE))
    )

    assert torch.equal(whole, torch.cat((upper, lower), dim=1))


@pytest.mark.parametrize(("red", "expected"), [(0.01, ALPHA_RANGE[1]), (10.0, ALPHA_RANGE[0])])
def test_the_exponent_stays_natural(red: float, expected: float) -> None:
    assert angstrom_exponent(torch.tensor([red, 0.5, 0.5])) == expected


def test_one_band_is_its_own_reference() -> None:
    thickness = torch.tensor([[[0.4]]])

    assert angstrom_exponent(thickness.sum(dim=(1, 2))) == 0.0
    assert torch.equal(reference_thickness(thickness, 0.0), thickness[0])
