# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradient noise as a function of world coordinates.

The value at a point depends on its coordinates and a seed alone, so any window of a field can be
made by itself and agrees with its neighbours at the border.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STD = 0.214
"""Standard deviation of gradient noise with unit gradients, over a cell and all gradients."""


def gradient_noise(y: Array, x: Array, seed: int) -> Array:
    """Return Perlin gradient noise (Perlin 1985, quintic fade of 2002) at points in lattice units.

    Args:
        y: Coordinates, any shape.
        x: Coordinates, same shape.
        seed: Any integer; fields of different seeds are independent.

    Returns:
        Values of mean 0, standard deviation about 1, within about +-2.8.
    """
    iy, ix = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    fy, fx = y - iy, x - ix
    uy, ux = _fade(fy), _fade(fx)
    top = _lerp(_corner(iy, ix, fy, fx, 0, 0, seed), _corner(iy, ix, fy, fx, 0, 1, seed), ux)
    low = _lerp(_corner(iy, ix, fy, fx, 1, 0, seed), _corner(iy, ix, fy, fx, 1, 1, seed), ux)
    return _lerp(top, low, uy) / _STD


def fractal_noise(y: Array, x: Array, seed: int, octaves: int, persistence: float = 0.5) -> Array:
    """Return a sum of octaves of gradient noise, standard deviation about 1.

    Args:
        y: Coordinates in units of the longest wavelength, any shape.
        x: Coordinates, same shape.
        seed: Any integer.
        octaves: Number of octaves; each halves the wavelength.
        persistence: Amplitude of an octave relative to the one before, (0, 1].
    """
    total = np.zeros(np.broadcast(y, x).shape)
    power = 0.0
    for octave in range(octaves):
        scale, amplitude = 2.0**octave, persistence**octave
        total += amplitude * gradient_noise(y * scale, x * scale, seed + 7919 * octave)
        power += amplitude**2
    standardised: Array = total / np.sqrt(power)
    return standardised


def white_noise(rows: NDArray[np.int64], cols: NDArray[np.int64], seed: int) -> Array:
    """Return normally distributed noise that depends on the pixel and the seed alone.

    The transform of Box and Muller (1958) of the two halves of a hash.

    Args:
        rows: Pixel rows, any shape; may be negative.
        cols: Pixel columns, same shape.
        seed: Any integer; fields of different seeds are independent.

    Returns:
        Values of mean 0 and standard deviation 1, independent from pixel to pixel.
    """
    bits = _hash_bits(rows, cols, seed)
    # Half a step up: the logarithm of zero must not come up.
    radius = ((bits >> np.uint64(32)).astype(np.float64) + 0.5) / 2**32
    turn = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2**32
    values: Array = np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * np.pi * turn)
    return values


def _fade(t: Array) -> Array:
    return t * t * t * (t * (t * 6.0 - 15.0) + 10.0)


def _lerp(a: Array, b: Array, weight: Array) -> Array:
    return a + weight * (b - a)


def _corner(
    iy: NDArray[np.int64],
    ix: NDArray[np.int64],
    fy: Array,
    fx: Array,
    dy: int,
    dx: int,
    seed: int,
) -> Array:
    angle = _hash(iy + dy, ix + dx, seed)
    return np.cos(angle) * (fx - dx) + np.sin(angle) * (fy - dy)


def _hash(iy: NDArray[np.int64], ix: NDArray[np.int64], seed: int) -> Array:
    """Hash lattice points to angles in [0, 2 pi)."""
    bits = _hash_bits(iy, ix, seed)
    return (bits >> np.uint64(40)).astype(np.float64) * (2.0 * np.pi / 2**24)


def _hash_bits(iy: NDArray[np.int64], ix: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Hash points to 64 bits (splitmix64 finaliser)."""
    with np.errstate(over="ignore"):
        h = iy.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        h ^= ix.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
        h += np.uint64(seed & 0xFFFFFFFF) * np.uint64(0x165667B19E3779F9)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h ^= h >> np.uint64(31)
    return h
