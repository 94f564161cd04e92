# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of hazy images with their truth, made on the fly and repeatable by step number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from dehaze_core.haze.physics import REFERENCE_WAVELENGTH, RGB_WAVELENGTHS
from dehaze_core.haze.synthesis import LEVELS, HazeRecipe, add_haze, random_recipe
from dehaze_core.scene.srgb import decode_table, encode_uint8
from dehaze_core.training.augment import random_validity, varied
from dehaze_core.training.imagery import ImagePool
from dehaze_core.training.recipe import BatchRecipe


@dataclass(frozen=True, slots=True)
class Batch:
    """Hazy images and the truth behind them; all tensors share N, H, W.

    Attributes:
        hazy: (N, 3, H, W) uint8, display-encoded.
        clear: (N, 3, H, W) uint8, display-encoded.
        valid: (N, 1, H, W) bool.
        thickness: (N, 3, H/4, W/4) float32 optical thickness per band.
        airlight: (N, 3, H/4, W/4) float32 linear light.
    """

    hazy: Tensor
    clear: Tensor
    valid: Tensor
    thickness: Tensor
    airlight: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return Batch(
            *(
                t.to(device, non_blocking=True)
                for t in (self.hazy, self.clear, self.valid, self.thickness, self.airlight)
            )
        )


class HazyBatches(Dataset[Batch]):
    """An endless data set whose item i is the batch of step i.

    Args:
        pool: Clear images.
        textures: Real thickness textures, may be empty.
        seed: Seed of everything.
        recipe: Sizes of batches and levels of haze; the default ones if None.
    """

    def __init__(
        self,
        pool: ImagePool,
        textures: Sequence[NDArray[np.float32]],
        seed: int,
        recipe: BatchRecipe | None = None,
    ) -> None:
        self.pool = pool
        self.textures = textures
        self.seed = seed
        self.recipe = recipe or BatchRecipe()

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step; the same step always gives the same batch."""
        rng = np.random.default_rng((self.seed, step))
        shapes = self.recipe.shapes
        side, count, _ = shapes[_draw(rng, [share for _, _, share in shapes])]
        return stack([self.sample(rng, side) for _ in range(count)])

    def sample(self, rng: np.random.Generator, side: int, level: str | None = None) -> Batch:
        """Return one image as a batch of one; the haze level is drawn unless given."""
        table = decode_table().numpy()
        if level is None:
            names = list(LEVELS)
            level = names[_draw(rng, [self.recipe.levels.get(name, 0.0) for name in names])]
        clear = varied(rng, table[self.pool.crop(rng, side)].transpose(2, 0, 1), level == "L0")
        bright_end = np.percentile(clear[:, ::4, ::4], 99.5, axis=(1, 2))
        recipe = random_recipe(rng, level, side, bright_end.tolist(), self.textures)
        scene = add_haze(clear, recipe)
        valid = random_validity(rng, side)
        return Batch(
            hazy=torch.from_numpy(encode_uint8(scene.hazy))[None],
            clear=torch.from_numpy(encode_uint8(clear))[None],
            valid=torch.from_numpy(valid)[None, None],
            thickness=torch.from_numpy(_band_thickness(scene.thickness[2::4, 2::4], recipe))[None],
            airlight=torch.from_numpy(scene.airlight[:, 2::4, 2::4].copy())[None],
        )


class StepSampler(Sampler[int]):
    """Step numbers from `first` on, without end: a resumed run sees new batches."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        """Yield first, first + 1, ..."""
        step = self.first
        while True:
            yield step
            step += 1


def stack(batches: Sequence[Batch]) -> Batch:
    """Join batches of the same shape along N."""
    return Batch(
        torch.cat([b.hazy for b in batches]),
        torch.cat([b.clear for b in batches]),
        torch.cat([b.valid for b in batches]),
        torch.cat([b.thickness for b in batches]),
        torch.cat([b.airlight for b in batches]),
    )


def _draw(rng: np.random.Generator, weights: Sequence[float]) -> int:
    shares = np.asarray(weights)
    return int(rng.choice(len(shares), p=shares / shares.sum()))


def _band_thickness(thickness: NDArray[np.float32], recipe: HazeRecipe) -> NDArray[np.float32]:
    ratios = (np.array(RGB_WAVELENGTHS) / REFERENCE_WAVELENGTH) ** -recipe.alpha
    return (thickness[None] * ratios[:, None, None]).astype(np.float32)
