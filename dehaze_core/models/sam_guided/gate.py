# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin haze is left to the path without a guide.

A mask helps where haze is dense, and does nothing or harm where it is thin (Jin et al. 2023, arXiv
2306.15870). How dense it can be at most shows in the darkest value around: no veil is brighter than
the darkest thing seen through it (dark-object subtraction, Chavez 1988).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dehaze_core.models.streaming import FILL, TOKEN_PX

CLEAR, HAZY = 0.08, 0.25
"""Darkest display value of a cell below which a guide has no weight, and above which all of it."""


def gate(pixels: Tensor, valid: Tensor) -> Tensor:
    """Return the weight of the guide in every cell of 32 x 32 px.

    Args:
        pixels: (N, B, H, W) float32 display-encoded; H and W are multiples of 32.
        valid: (N, 1, H, W) float32, 1 where the pixel holds data, else 0.

    Returns:
        (N, 1, H/32, W/32) in [0, 1]: 0 where any band of any valid pixel is darker than `CLEAR`, 1
        where none is darker than `HAZY`, and a smooth step in between.
    """
    darkest = torch.where(valid > 0, pixels.amin(dim=1, keepdim=True), 1.0)
    share = ((_cells(darkest).amin(dim=(3, 5)) - CLEAR) / (HAZY - CLEAR)).clamp(0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def split_gated(seen: Tensor, valid: Tensor, bands: int) -> tuple[Tensor, Tensor]:
    """Return the pixels of what a network sees and the guide behind them, weighted by the gate.

    Args:
        seen: (N, bands + G, H, W) float32; H and W are multiples of 32.
        valid: (N, 1, H, W) float32, 1 where the pixel holds data, else 0.
        bands: How many channels are pixels.

    Returns:
        (N, bands, H, W) and (N, G, H, W); the guide is 0 where there is no data.
    """
    pixels, guide = seen[:, :bands], seen[:, bands:]
    weight = gate(pixels, valid)[:, :, :, None, :, None]
    return pixels, (_cells(guide * valid) * weight).flatten(4, 5).flatten(2, 3)


def centred(seen: Tensor, valid: Tensor, bands: int) -> Tensor:
    """Return bands around zero, as a first layer takes them, and the guide, see `split_gated`."""
    pixels, guide = split_gated(seen, valid, bands)
    return torch.cat((pixels - FILL, guide), dim=1)


def gated(seen: Tensor, valid: Tensor, bands: int) -> Tensor:
    """Return what a network sees with its guide weighted by the gate, see `split_gated`."""
    return torch.cat(split_gated(seen, valid, bands), dim=1)


def _cells(x: Tensor) -> Tensor:
    """Return a map (N, C, H, W) by cells, (N, C, H/32, 32, W/32, 32)."""
    cells: Tensor = x.unflatten(3, (-1, TOKEN_PX)).unflatten(2, (-1, TOKEN_PX))
    return cells
