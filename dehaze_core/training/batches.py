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

from dehaze_core.errors import SettingsError
from dehaze_core.haze.physics import REFERENCE_WAVELENGTH, RGB_WAVELENGTHS
from dehaze_core.haze.synthesis import LEVELS, HazeRecipe, add_haze, random_recipe
from dehaze_core.scene.srgb import decode_table, encode_uint8
from dehaze_core.training.augment import random_validity, varied
from dehaze_core.training.guide_recipe import GuideRecipe
from dehaze_core.training.guides import GuideDraw, Guides
from dehaze_core.training.imagery import ImagePool
from dehaze_core.training.recipe import BatchRecipe
from dehaze_core.training.shares import drawn


@dataclass(frozen=True, slots=True)
class Batch:
    """Hazy images and the truth behind them; all tensors share N, H, W.

    Attributes:
        hazy: (N, 3, H, W) uint8, display-encoded.
        clear: (N, 3, H, W) uint8, display-encoded.
        valid: (N, 1, H, W) bool.
        thickness: (N, 3, H/4, W/4) float32 optical thickness per band.
        airlight: (N, 3, H/4, W/4) float32 linear light.
        guide: (N, 1, H, W) uint8 codes of segments, for networks with guides; else None.
    """

    hazy: Tensor
    clear: Tensor
    valid: Tensor
    thickness: Tensor
    airlight: Tensor
    guide: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return Batch(
            moved(self.hazy),
            moved(self.clear),
            moved(self.valid),
            moved(self.thickness),
            moved(self.airlight),
            None if self.guide is None else moved(self.guide),
        )


class HazyBatches(Dataset[Batch]):
    """An endless data set whose item i is the batch of step i.

    Args:
        pool: Clear images.
        textures: Real thickness textures, may be empty.
        seed: Seed of everything.
        recipe: Sizes of batches and levels of haze; the default ones if None.
        guide: Where guides come from; there are none if None. All else is the same either way.

    Raises:
        SettingsError: Guides come from files, but the images have none.
    """

    def __init__(
        self,
        pool: ImagePool,
        textures: Sequence[NDArray[np.float32]],
        seed: int,
        recipe: BatchRecipe | None = None,
        guide: GuideRecipe | None = None,
    ) -> None:
        if guide is not None and guide.segmenter == "files" and not pool.labels:
            raise SettingsError(
                "The recipe's guides come from files, but there is no folder of masks.",
                hint="Make masks with `dehaze segment-set`, and give their folder with --masks.",
            )
        self.pool = pool
        self.textures = textures
        self.seed = seed
        self.recipe = recipe or BatchRecipe()
        self.guides = None if guide is None else Guides(guide, seed)

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step; the same step always gives the same batch."""
        rng = np.random.default_rng((self.seed, step))
        shapes = self.recipe.shapes
        side, count, _ = shapes[drawn(rng, [share for _, _, share in shapes])]
        guides = [None] * count if self.guides is None else self.guides.drawn(step, count)
        return stack([self.sample(rng, side, guide=guide) for guide in guides])

    def fixed(self, rng: np.random.Generator, side: int, level: str, count: int) -> Batch:
        """Return images of one haze level to validate on, with guides of every source."""
        guides = [None] * count if self.guides is None else self.guides.allotted(count)
        return stack([self.sample(rng, side, level, guide) for guide in guides])

    def sample(
        self,
        rng: np.random.Generator,
        side: int,
        level: str | None = None,
        guide: GuideDraw | None = None,
    ) -> Batch:
        """Return one image as a batch of one.

        Args:
            rng: Source of randomness of all but the guide.
            side: Side in px.
            level: Haze level; drawn if None.
            guide: What the guide is made of; there is none if None.
        """
        table = decode_table().numpy()
        if level is None:
            names = list(LEVELS)
            level = names[drawn(rng, [self.recipe.levels.get(name, 0.0) for name in names])]
        crop = self.pool.cut(rng, side)
        clear, turn = varied(rng, table[crop.picture].transpose(2, 0, 1), level == "L0")
        bright_end = np.percentile(clear[:, ::4, ::4], 99.5, axis=(1, 2))
        recipe = random_recipe(rng, level, side, bright_end.tolist(), self.textures)
        scene = add_haze(clear, recipe)
        valid = random_validity(rng, side)
        hazy, truth = encode_uint8(scene.hazy), encode_uint8(clear)
        codes = None
        if guide is not None and self.guides is not None:
            labels = None if crop.labels is None else turn(crop.labels)
            codes = torch.from_numpy(self.guides.codes(guide, hazy, truth, labels))[None, None]
        return Batch(
            hazy=torch.from_numpy(hazy)[None],
            clear=torch.from_numpy(truth)[None],
            valid=torch.from_numpy(valid)[None, None],
            thickness=torch.from_numpy(_band_thickness(scene.thickness[2::4, 2::4], recipe))[None],
            airlight=torch.from_numpy(scene.airlight[:, 2::4, 2::4].copy())[None],
            guide=codes,
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
    guides = [b.guide for b in batches if b.guide is not None]
    return Batch(
        torch.cat([b.hazy for b in batches]),
        torch.cat([b.clear for b in batches]),
        torch.cat([b.valid for b in batches]),
        torch.cat([b.thickness for b in batches]),
        torch.cat([b.airlight for b in batches]),
        torch.cat(guides) if guides else None,
    )


def _band_thickness(thickness: NDArray[np.float32], recipe: HazeRecipe) -> NDArray[np.float32]:
    ratios = (np.array(RGB_WAVELENGTHS) / REFERENCE_WAVELENGTH) ** -recipe.alpha
    return (thickness[None] * ratios[:, None, None]).astype(np.float32)
