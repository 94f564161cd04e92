# SPDX-License-Identifier: GPL-3.0-or-later
"""The scattering model: what haze does to a pixel, and how to take it back.

For band j and pixel x, in linear light,

    I_j = J_j t_j + A_j (1 - t_j),    t_j = exp(-tau_j),    tau_j = tau_550 (lambda_j / 550
    nm)^-alpha

with the hazy value I, the clear value J, the transmission t, the airlight A, the optical thickness
tau and the Angstrom exponent alpha (Koschmieder 1924; Angstrom 1929). Everything here is a pure
function of tensors and works on any shape.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

REFERENCE_WAVELENGTH = 0.55
"""Wavelength in um at which the haze-thickness layer is given."""

RGB_WAVELENGTHS = (0.66, 0.56, 0.48)
"""Centre wavelengths in um of red, green and blue, as of common aerial and satellite sensors."""

T_MIN = 0.05
"""Smallest transmission that is inverted; below it there is only noise to recover."""


def angstrom_ratio(alpha: Tensor, wavelength: float) -> Tensor:
    """Return tau(wavelength) / tau(550 nm) for Angstrom exponents `alpha`; wavelength in um."""
    return torch.exp(alpha * -math.log(wavelength / REFERENCE_WAVELENGTH))


def add_haze(clear: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
    """Return the hazy image J t + A (1 - t); linear light, shapes broadcast."""
    return torch.lerp(airlight, clear, transmission)


def remove_haze(hazy: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
    """Return the clear image (I - A) / max(t, T_MIN) + A, not clipped; shapes broadcast."""
    return airlight + (hazy - airlight) / transmission.clamp_min(T_MIN)
