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

from dehaze_core.haze.noise import fractal_noise
from dehaze_core.haze.physics import REFERENCE_WAVELENGTH, RGB_WAVELENGTHS
from dehaze_core.haze.synthesis import LEVELS, HazeRecipe, add_haze, random_recipe
from dehaze_core.scene.srgb import decode_table, encode_uint8
from dehaze_core.training.imagery import ImagePool

LEVEL_WEIGHTS = {"L0": 0.14, "L1": 0.20, "L2": 0.21, "L3": 0.21, "L4": 0.19, "beyond": 0.05}

RESIDUAL_VEIL = np.float32(0.03)
"""Largest airlight, in linear light, that is taken for residual haze in a clear picture."""

SHAPES = ((256, 8), (512, 2), (1024, 1))
"""Sides of crops in px and how many of them make a batch."""

SHAPE_WEIGHTS = (0.65, 0.2, 0.15)


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
        shapes: (side, count) choices of a batch.
        shape_weights: Their probabilities.
    """

    def __init__(
        self,
        pool: ImagePool,
        textures: Sequence[NDArray[np.float32]],
        seed: int,
        shapes: Sequence[tuple[int, int]] = SHAPES,
        shape_weights: Sequence[float] = SHAPE_WEIGHTS,
    ) -> None:
        self.pool = pool
        self.textures = textures
        self.seed = seed
        self.shapes = shapes
        self.shape_weights = shape_weights

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step; the same step always gives the same batch."""
        rng = np.random.default_rng((self.seed, step))
        side, count = self.shapes[int(rng.choice(len(self.shapes), p=list(self.shape_weights)))]
        return stack([self.sample(rng, side) for _ in range(count)])

    def sample(self, rng: np.random.Generator, side: int, level: str | None = None) -> Batch:
        """Return one image as a batch of one; the haze level is drawn unless given."""
        table = decode_table().numpy()
        clear = _augment(rng, table[self.pool.crop(rng, side)].transpose(2, 0, 1))
        names = list(LEVELS)
        level = level or str(rng.choice(names, p=[LEVEL_WEIGHTS[name] for name in names]))
        bright_end = np.percentile(clear[:, ::4, ::4], 99.5, axis=(1, 2))
        recipe = random_recipe(rng, level, side, bright_end.tolist(), self.textures)
        scene = add_haze(clear, recipe)
        valid = _random_nodata(rng, side)
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


def _band_thickness(thickness: NDArray[np.float32], recipe: HazeRecipe) -> NDArray[np.float32]:
    ratios = (np.array(RGB_WAVELENGTHS) / REFERENCE_WAVELENGTH) ** -recipe.alpha
    return (thickness[None] * ratios[:, None, None]).astype(np.float32)


def _augment(rng: np.random.Generator, clear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Flip, turn, and vary exposure, contrast and colour, in linear light (3, H, W)."""
    clear = np.rot90(_without_residual_haze(rng, clear), int(rng.integers(4)), axes=(1, 2))
    if rng.random() < 0.5:
        clear = clear[:, :, ::-1]
    if rng.random() < 0.7:
        gain = np.exp(rng.normal(0.0, 0.25)) * np.exp(rng.normal(0.0, 0.05, (3, 1, 1)))
        clear = np.clip(clear * gain.astype(np.float32), 0.0, 1.0)
    if rng.random() < 0.3:
        clear = clear ** np.float32(np.exp(rng.normal(0.0, 0.2)))
    if rng.random() < 0.08:
        clear = _as_pale_ground(rng, clear)
    if rng.random() < 0.15:
        clear = _with_flat_ground(rng, clear)
    return np.ascontiguousarray(clear, dtype=np.float32)


def _as_pale_ground(rng: np.random.Generator, clear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn a picture into sand or dry soil: bright, warm of colour, with little contrast.

    Such ground is rare in the pictures that are free to train on, and what is pale is not all haze:
    haze is never warm.
    """
    luminance = clear.mean(axis=0)
    texture = (luminance / max(float(np.median(luminance)), 0.02)) ** rng.uniform(0.3, 0.8)
    level = np.exp(rng.uniform(np.log(0.15), np.log(0.6)))
    green = rng.uniform(0.72, 0.9)
    colour = level * np.array([1.0, green, green * rng.uniform(0.6, 0.85)])
    # Plants and shadows keep some of their own colour.
    own = rng.uniform(0.0, 0.4)
    pale: NDArray[np.float32] = (1 - own) * colour[:, None, None] * texture + own * clear
    return pale.clip(0.0, 1.0).astype(np.float32)


def _with_flat_ground(rng: np.random.Generator, clear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay nearly uniform ground (water, sand, snow) over parts of a picture or all of it."""
    side = clear.shape[1]
    line = np.arange(0, side + 4, 4) / side + rng.uniform(0, 1e3)
    rows, cols = np.meshgrid(line, line, indexing="ij")
    field = fractal_noise(rows, cols, int(rng.integers(2**31)), 4) - rng.uniform(-2.0, 1.0)
    cover = np.clip(field * 20, 0, 1).astype(np.float32).repeat(4, 0).repeat(4, 1)
    top, left = rng.integers(4, size=2)
    cover = cover[top : top + side, left : left + side]
    level = np.exp(rng.uniform(np.log(0.01), np.log(0.7)))
    colour = level * np.exp(rng.normal(0.0, 0.25, 3))
    grain = rng.uniform(0.0, 0.05) * level * rng.standard_normal((side, side), dtype=np.float32)
    ground = np.clip(colour[:, None, None] + grain, 0.0, 1.0).astype(np.float32)
    covered: NDArray[np.float32] = clear + cover * (ground - clear)
    return covered


def _without_residual_haze(
    rng: np.random.Generator, clear: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Take the veil off a picture that counts as clear but is not quite, mostly all of it.

    Its darkest pixels say how thick the veil is at most (dark-object subtraction, Chavez 1988).
    What is brighter than a thin veil can make it is ground, and stays.
    """
    darkest = np.percentile(clear[:, ::4, ::4], 0.5, axis=(1, 2)).astype(np.float32)
    share = np.float32(1.0 if rng.random() < 0.6 else rng.random())
    veil = (share * np.minimum(darkest, RESIDUAL_VEIL))[:, None, None]
    unveiled: NDArray[np.float32] = np.maximum((clear - veil) / (1 - veil), 0.0)
    return unveiled


def _random_nodata(rng: np.random.Generator, side: int) -> NDArray[np.bool_]:
    """Return a mask that is all true, or has a half-plane cut off as the rim of a scene has."""
    valid = np.ones((side, side), bool)
    if rng.random() < 0.25:
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[0:side, 0:side] / side - 0.5
        valid = x * np.cos(angle) + y * np.sin(angle) < rng.uniform(-0.1, 0.45)
    return valid
