# SPDX-License-Identifier: GPL-3.0-or-later
"""Haze layers of a picture whose clear version is known: the scattering model, fitted to both.

A network that paints clear pixels does not say how thick the haze was. Over a small area the haze
is nearly constant, so that hazy and clear pixels lie on a line, in linear light and for band j

    I_j = t_j J_j + A_j (1 - t_j),

whose slope is the transmission and whose offset tells the airlight. All that a fit needs are sums
over pixels. They are taken over cells, may be stored, and add up to those of any larger area.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.haze.physics import REFERENCE_WAVELENGTH, RGB_WAVELENGTHS, T_MIN

REACH = 2
"""Cells beside a cell, in all directions, that its fit looks at."""

ALPHA_RANGE = (-0.5, 2.5)
"""Angstrom exponents of natural haze, from coarse dust to fine smoke."""

_WEIGHTS = (1.0, 4.0, 6.0, 4.0, 1.0)
# Trust in the scene's airlight: decides where the ground is too even to show a slope.
_SCENE_TRUST = 1e-3
# Variance of even ground, and a share of light 1 - t too small to tell its colour.
_EVEN = 1e-4
_FAINT = 1e-3
_UNKNOWN_AIRLIGHT = 1.0
_MAX_AIRLIGHT = 1.2


def sum_width(bands: int) -> int:
    """Return the number of sums of a cell: the pixels, and four for each of K bands."""
    return 1 + 4 * bands


def cell_sums(hazy: Tensor, clear: Tensor, valid: Tensor, cell: int) -> Tensor:
    """Sum over cells of pixels what fits need.

    Args:
        hazy: (K, h, w) linear light.
        clear: (K, h, w) the same without haze.
        valid: (h, w) bool.
        cell: Side of a cell in px; incomplete cells at the right and lower end are allowed.

    Returns:
        (1 + 4 K, ceil(h/cell), ceil(w/cell)) float64: number of valid pixels, then over all bands
        the sums of I, of J, of J^2 and of I J.
    """
    hazy = torch.where(valid, hazy, 0.0).double()
    clear = torch.where(valid, clear, 0.0).double()
    terms = torch.cat((valid[None].double(), hazy, clear, clear * clear, hazy * clear))
    terms = F.pad(terms, (0, -terms.shape[2] % cell, 0, -terms.shape[1] % cell))
    sums: Tensor = terms.unflatten(2, (-1, cell)).unflatten(1, (-1, cell)).sum(dim=(2, 4))
    return sums


def spread_sums(sums: Tensor) -> Tensor:
    """Return sums over the neighbourhood of every cell, (S, r, c), with weights falling outwards.

    Neighbours within `REACH` cells take part; beyond the ends of the array there are none.
    """
    kernel = torch.tensor(_WEIGHTS, dtype=sums.dtype, device=sums.device) / sum(_WEIGHTS)
    rows = F.conv2d(sums[:, None], kernel.view(1, 1, -1, 1), padding=(REACH, 0))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, REACH))[:, 0]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of the pixels of every cell; zero where there are no pixels.

    Attributes:
        count: (r, c) number of pixels.
        hazy: (K, r, c) mean of I.
        clear: (K, r, c) mean of J.
        variance: (K, r, c) of J.
        covariance: (K, r, c) of I and J.
    """

    count: Tensor
    hazy: Tensor
    clear: Tensor
    variance: Tensor
    covariance: Tensor

    @staticmethod
    def of(sums: Tensor) -> Statistics:
        """Return the statistics of sums from `cell_sums`, (1 + 4 K, r, c)."""
        count = sums[0]
        hazy, clear, squares, products = (sums[1:] / count.clamp_min(1e-9)).chunk(4)
        variance = (squares - clear * clear).clamp_min(0.0)
        return Statistics(count, hazy, clear, variance, products - hazy * clear)


def airlight_terms(cells: Statistics) -> Tensor:
    """Return the terms whose sums over a scene give its airlight, (2, K).

    They are those of a regression of the offset A (1 - t) on 1 - t, where slopes are found in every
    cell alone. Cells count by their pixels, and little where the ground is even.
    """
    slope = (cells.covariance / cells.variance.clamp_min(1e-12)).clamp(T_MIN, 1.0)
    offset = cells.hazy - slope * cells.clear
    weight = cells.count * cells.variance / (cells.variance + _EVEN) * (1.0 - slope)
    return torch.stack((weight * offset, weight * (1.0 - slope))).sum(dim=(2, 3))


def scene_airlight(terms: Tensor) -> Tensor:
    """Return the airlight (K,) of a scene, 0..1.2, from the sums of `airlight_terms`."""
    found = (terms[0] / terms[1].clamp_min(1e-12)).clamp(0.0, _MAX_AIRLIGHT)
    return torch.where(terms[1] > 1e-6, found, _UNKNOWN_AIRLIGHT)


def fit_haze(cells: Statistics, airlight: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the scattering model to every cell.

    The airlight of the scene is a weak prior: slopes come from the pixels of the cell where these
    differ, and where the ground is even from how far the haze has moved it towards the airlight.

    Args:
        cells: Statistics of the cells.
        airlight: (K,) airlight of the scene.

    Returns:
        Optical thickness (K, r, c) of each band, 0..-ln(T_MIN), and airlight (K, r, c), 0..1.2.
    """
    scene = airlight[:, None, None]
    from_hazy, from_clear = cells.hazy - scene, cells.clear - scene
    t = (cells.covariance + _SCENE_TRUST * from_hazy * from_clear + 1e-12) / (
        cells.variance + _SCENE_TRUST * from_clear * from_clear + 1e-12
    )
    t = torch.where(cells.count > 0, t, 1.0).clamp(T_MIN, 1.0)
    missed = cells.hazy - t * cells.clear - scene * (1.0 - t)
    local = scene + missed * (1.0 - t) / ((1.0 - t) ** 2 + _FAINT)
    local = torch.where(cells.count > 0, local, scene)
    # Not -log(t): it is -0 where there is no haze.
    return torch.log(1.0 / t), local.clamp(0.0, _MAX_AIRLIGHT)


def angstrom_exponent(thickness: Tensor) -> float:
    """Return the Angstrom exponent, within `ALPHA_RANGE`, that explains the bands' thickness.

    Args:
        thickness: (3,) optical thickness of red, green and blue, summed over a scene. With one
            band, (1,), nothing can be told: the exponent is 0.
    """
    if len(thickness) == 1:
        return 0.0
    wavelength = torch.tensor(RGB_WAVELENGTHS, dtype=torch.float64).log()
    wavelength -= wavelength.mean()
    logarithm = thickness.double().cpu().clamp_min(1e-9).log()
    alpha = -float((wavelength * logarithm).sum() / (wavelength * wavelength).sum())
    return min(max(alpha, ALPHA_RANGE[0]), ALPHA_RANGE[1])


def reference_thickness(thickness: Tensor, alpha: float) -> Tensor:
    """Return the optical thickness at 550 nm (...) that fits that of the bands (K, ...) best."""
    if len(thickness) == 1:
        return thickness[0]
    ratios = [(wavelength / REFERENCE_WAVELENGTH) ** -alpha for wavelength in RGB_WAVELENGTHS]
    norm = math.fsum(ratio * ratio for ratio in ratios)
    return torch.stack([thickness[j] * (ratios[j] / norm) for j in range(3)]).sum(dim=0)
