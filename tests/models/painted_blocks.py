# SPDX-License-Identifier: GPL-3.0-or-later
"""Guided networks that paint, whole and in blocks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.grid import BlockGrid
from dehaze_core.models.streaming import FILL, OverviewNetwork, SceneStatistics

Seen = tuple[Tensor, Tensor, Tensor]


def picture(height: int, width: int, batch: int = 1) -> Seen:
    """Return random hazy pixels with a mask of segments, their validity, and weights of tokens."""
    generator = torch.Generator().manual_seed(1)
    rgb = 0.2 + 0.8 * torch.rand(batch, 3, height, width, generator=generator)
    codes = torch.rand(batch, 1, height // 16, width // 16, generator=generator)
    guide = F.interpolate(codes, scale_factor=16, mode="nearest")
    return whole(torch.cat((rgb, guide), dim=1))


def whole(seen: Tensor) -> Seen:
    """Return a picture without gaps."""
    valid = torch.ones_like(seen[:, :1])
    return seen, valid, F.avg_pool2d(valid, 32)[:, 0]


def with_gaps(seen: Tensor) -> Seen:
    """Return a picture without its upper left corner and some pixels elsewhere."""
    chance = torch.rand(seen[:, :1].shape, generator=torch.Generator().manual_seed(2))
    valid = (chance > 0.2).float()
    valid[..., :40, :50] = 0
    fill = torch.tensor([FILL, FILL, FILL, 0.0])[:, None, None]
    return torch.where(valid > 0, seen, fill), valid, F.avg_pool2d(valid, 32)[:, 0]


def continued(seen: Tensor) -> Seen:
    """Return a picture of which the last rows and columns are no part of the raster."""
    real = torch.zeros_like(seen[:, :1])
    real[..., :-20, :-44] = 1
    return seen, torch.ones_like(real), F.avg_pool2d(real, 32)[:, 0]


def no_conditions(seen: Tensor) -> Tensor:
    return seen.new_zeros(len(seen), seen.shape[2] // 32, seen.shape[3] // 32, 0)


def in_one(
    network: OverviewNetwork, seen: Tensor, valid: Tensor, frozen: SceneStatistics
) -> Tensor:
    answer = network.estimate(seen, valid, no_conditions(seen), frozen)
    clear: Tensor = answer.clear  # type: ignore[union-attr]  # it paints
    return clear


def in_blocks(
    network: OverviewNetwork,
    shown: tuple[Tensor, Tensor],
    frozen: SceneStatistics,
    side: int,
    halo: int,
) -> Tensor:
    """Paint a raster as the engine does: in blocks of `side` px with halo."""
    seen, valid = shown
    clear = torch.zeros_like(seen[:, :3])
    for block in BlockGrid(*seen.shape[-2:], side, halo, 32, network.unit_px):
        outer = (..., *block.outer.slices)
        painted = in_one(network, seen[outer], valid[outer], frozen)
        clear[(..., *block.core.slices)] = painted[(..., *block.inset.slices)]
    return clear
