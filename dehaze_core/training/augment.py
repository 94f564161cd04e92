# SPDX-License-Identifier: GPL-3.0-or-later
"""More kinds of clear ground than there are free pictures of.

Everything here works on clear pictures (3, H, W) float32 in linear light, [0, 1], before haze is
added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dehaze_core.haze.noise import fractal_noise

RESIDUAL_VEIL = np.float32(0.03)
"""Largest airlight, in linear light, that is taken for residual haze in a clear picture."""


_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Turn:
    """One of the eight ways to lay a square picture.

    Attributes:
        quarters: Quarter turns, counter-clockwise.
        mirrored: Whether left and right are then exchanged.
    """

    quarters: int
    mirrored: bool

    def __call__(self, picture: NDArray[_Value]) -> NDArray[_Value]:
        """Return a picture (..., H, W) turned."""
        turned = np.rot90(picture, self.quarters, axes=(-2, -1))
        return turned[..., ::-1] if self.mirrored else turned


def varied(
    rng: np.random.Generator, clear: NDArray[np.float32], stays_clear: bool
) -> tuple[NDArray[np.float32], Turn]:
    """Flip, turn, and vary exposure, contrast and colour, in linear light.

    Args:
        rng: Source of randomness.
        clear: (3, H, W).
        stays_clear: No haze will be added. Pictures that people call clear may have a thin veil,
            and pale ground looks as if it had one; both are to come back as they are.

    Returns:
        The picture, and how it was turned: what lies over it has to be turned as well.
    """
    if not (stays_clear and rng.random() < 0.7):
        clear = without_residual_haze(rng, clear)
    turn = Turn(int(rng.integers(4)), bool(rng.random() < 0.5))
    clear = turn(clear)
    if rng.random() < 0.7:
        exposure = np.exp(rng.normal(0.0, 0.45 if stays_clear else 0.25))
        gain = exposure * np.exp(rng.normal(0.0, 0.05, (3, 1, 1)))
        clear = np.clip(clear * gain.astype(np.float32), 0.0, 1.0)
    if rng.random() < 0.3:
        clear = clear ** np.float32(np.exp(rng.normal(0.0, 0.2)))
    if rng.random() < (0.4 if stays_clear else 0.12):
        clear = as_pale_ground(rng, clear)
    if rng.random() < 0.15:
        clear = with_flat_ground(rng, clear)
    return np.ascontiguousarray(clear, dtype=np.float32), turn


def as_pale_ground(rng: np.random.Generator, clear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn a picture into sand or dry soil: bright, warm of colour, with little contrast.

    Such ground is rare in the pictures that are free to train on, and not all that is pale is haze:
    most haze is neutral or bluish.
    """
    luminance = clear.mean(axis=0)
    relative = luminance / max(float(np.median(luminance)), 0.02)
    level = np.exp(rng.uniform(np.log(0.15), np.log(0.6)))
    green = rng.uniform(0.72, 0.95)
    lit = level * np.array([1.0, green, green * rng.uniform(0.6, 0.92)])
    # Shadows on bright ground are lit by the sky: blue, and far from black.
    shadow = level * rng.uniform(0.15, 0.5) * np.array([0.8, 0.95, rng.uniform(1.0, 1.3)])
    light = np.clip(relative ** rng.uniform(0.3, 0.8), 0.0, 1.5)
    ground = shadow[:, None, None] + (lit - shadow)[:, None, None] * light
    # Plants, stones and wrack keep some of their own colour.
    own = rng.uniform(0.0, 0.4) + 0.6 * (relative < rng.uniform(0.05, 0.3))
    pale: NDArray[np.float32] = ground + np.minimum(own, 1.0) * (clear - ground)
    return pale.clip(0.0, 1.0).astype(np.float32)


def with_flat_ground(rng: np.random.Generator, clear: NDArray[np.float32]) -> NDArray[np.float32]:
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


def without_residual_haze(
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


def random_validity(rng: np.random.Generator, side: int) -> NDArray[np.bool_]:
    """Return a mask that is all true, or has a half-plane cut off as the rim of a scene has."""
    valid = np.ones((side, side), bool)
    if rng.random() < 0.25:
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[0:side, 0:side] / side - 0.5
        valid = x * np.cos(angle) + y * np.sin(angle) < rng.uniform(-0.1, 0.45)
    return valid
