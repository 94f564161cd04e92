# SPDX-License-Identifier: GPL-3.0-or-later
"""The patches that the published DehazeXL looks at one by one, and how they are put together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dehaze_core.models.streaming import TOKEN_PX

PATCH_PX = 256
"""Side of a patch in pixels."""

PATCH_TOKENS = PATCH_PX // TOKEN_PX
"""Side of a patch in tokens."""

AT_ONCE = {"cpu": 2, "cuda": 16}
"""Patches computed at once: more would be hardly faster, and take more memory."""

Places = list[tuple[int, int, int]]
"""Patches by the number of their raster in the batch, their row and their column."""


def patches_of(image: Tensor, side: int) -> Tensor:
    """Return the whole patches of images (N, C, H, W) as a view, (N, rows, cols, C, side, side)."""
    return image.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5)


def channels_first(features: Tensor) -> Tensor:
    """Return features (N, H, W, C) as a view (N, C, H, W)."""
    return features.permute(0, 3, 1, 2)


def batches(valid: Tensor) -> list[Places]:
    """Return the patches to compute, as many at a time as suit the device of the mask.

    Args:
        valid: (N, 1, H, W) mask; patches of it without a single valid pixel are left out.
    """
    seen = patches_of(valid, PATCH_PX).amax(dim=(3, 4, 5)) > 0
    places: Places = [(n, row, col) for n, row, col in seen.nonzero().tolist()]
    step = AT_ONCE.get(valid.device.type, AT_ONCE["cpu"])
    return [places[start : start + step] for start in range(0, len(places), step)]


def take(patches: Tensor, places: Places) -> Tensor:
    """Return some of the patches from `patches_of`, (P, C, side, side)."""
    return torch.stack([patches[place] for place in places])


def put(patches: Tensor, places: Places, values: Tensor) -> None:
    """Write values (P, C, side, side) to their places in a view from `patches_of`."""
    n, row, col = torch.tensor(places, device=patches.device).unbind(dim=1)
    patches[n, row, col] = values.to(patches.dtype)


def blending_window() -> Tensor:
    """Return a raised cosine over a patch, (P, P) float32 in (0, 1).

    Windows moved by half a patch, along rows, columns and both, add up to 1.
    """
    phase = 2 * math.pi * (torch.arange(PATCH_PX, dtype=torch.float64) + 0.5) / PATCH_PX
    rise = 0.5 - 0.5 * phase.cos()
    return torch.outer(rise, rise).float()
