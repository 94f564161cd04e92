# SPDX-License-Identifier: GPL-3.0-or-later
"""From haze maps at a quarter of the resolution to corrected pixels.

Haze is smooth, so its maps are carried at a quarter of the resolution. Where haze does have an edge
(the rim of a cloud) the edge is visible in the image too; the maps therefore carry, beside the
thickness, a slope and an offset against the image's brightness, as the guided filter does (He
et al. 2013), estimated by the network instead of a window.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.haze.physics import remove_haze

WHITE = 1.0
"""Light of display white, and of the bright end of scenes that are not display-encoded."""


def full_resolution(
    thickness: Tensor, airlight: Tensor, edge_slope: Tensor, luminance: Tensor
) -> tuple[Tensor, Tensor]:
    """Bring haze maps to the resolution of the image, following its edges.

    The thickness is multiplied by 1 + s (y - mean(y)), kept within 0.5 and 2, where y is the
    luminance and mean(y) its average over a cell of the maps.

    Args:
        thickness: (N, 1, h, w) optical thickness.
        airlight: (N, 3, h, w) airlight per band.
        edge_slope: (N, 1, h, w) slope s.
        luminance: (N, 1, 4h, 4w) mean of the display-encoded bands y.

    Returns:
        Thickness (N, 1, 4h, 4w) and airlight (N, 3, 4h, 4w).
    """
    maps = _with_offset(thickness, airlight, edge_slope, luminance)
    maps = F.interpolate(maps, scale_factor=4, mode="bilinear", align_corners=False)
    return _follow_edges(maps, luminance)


def at_phase(
    thickness: Tensor,
    airlight: Tensor,
    edge_slope: Tensor,
    luminance: Tensor,
    phase: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Return one pixel of every cell of `full_resolution`, at a sixteenth of the work.

    Args:
        thickness: As for `full_resolution`.
        airlight: As for `full_resolution`.
        edge_slope: As for `full_resolution`.
        luminance: As for `full_resolution`.
        phase: Row and column of the pixel in its cell of 4 x 4, 0..3.

    Returns:
        Thickness (N, 1, h, w) and airlight (N, 3, h, w).
    """
    maps = _with_offset(thickness, airlight, edge_slope, luminance)
    for dim, position in zip((-2, -1), phase, strict=True):
        maps = _between_cells(maps, dim, (position + 0.5) / 4 - 0.5)
    row, col = phase
    return _follow_edges(maps, luminance[..., row::4, col::4])


def _with_offset(
    thickness: Tensor, airlight: Tensor, edge_slope: Tensor, luminance: Tensor
) -> Tensor:
    offset = -edge_slope * F.avg_pool2d(luminance, 4)
    return torch.cat((thickness, airlight, edge_slope, offset), dim=1)


def _follow_edges(maps: Tensor, luminance: Tensor) -> tuple[Tensor, Tensor]:
    thickness, airlight, slope, offset = maps.split((1, 3, 1, 1), dim=1)
    edges = torch.addcmul(offset, slope, luminance).add_(1.0).clamp_(0.5, 2.0)
    return thickness * edges, airlight


def _between_cells(maps: Tensor, dim: int, shift: float) -> Tensor:
    """Interpolate linearly at `shift` cells from the cells' centres; the outermost are repeated."""
    size = maps.shape[dim]
    inner = maps.narrow(dim, 1, size - 1) if shift > 0 else maps.narrow(dim, 0, size - 1)
    edge = maps.narrow(dim, size - 1, 1) if shift > 0 else maps.narrow(dim, 0, 1)
    neighbour = torch.cat((inner, edge) if shift > 0 else (edge, inner), dim=dim)
    return torch.lerp(maps, neighbour, abs(shift))


def correct(
    hazy: Tensor,
    thickness: Tensor,
    airlight: Tensor,
    ratios: Tensor | float,
    strength: float = 1.0,
) -> Tensor:
    """Take haze of the given thickness out of an image.

    Args:
        hazy: Linear light, any shape.
        thickness: Optical thickness at 550 nm.
        airlight: Airlight in linear light.
        ratios: tau_band / tau_550. All shapes broadcast.
        strength: Share of the thickness that is removed; 0 leaves the image as it is, 1 is the full
            correction, more over-corrects.

    Returns:
        Linear light, not clipped. White is never darkened.
    """
    clear = remove_haze(hazy, torch.exp(thickness * (ratios * -strength)), airlight)
    # White is saturated: it says "at least so bright", and no airlight can be told from it.
    return torch.where(hazy >= WHITE, torch.maximum(clear, hazy), clear)
