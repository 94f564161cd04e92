# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradient noise as a function of world coordinates.

The value at a point depends on its coordinates and a seed alone, so any window of a field can be
made by itself and agrees with its neighbours at the border.
"""

from __future__ import annotations

from collections.abc import Callable

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
    directions = _directions(iy, ix, seed)

    def corner(dy: int, dx: int) -> Array:
        along_y, along_x = directions(dy, dx)
        return along_x * (fx - dx) + along_y * (fy - dy)

    top = _lerp(corner(0, 0), corner(0, 1), ux)
    low = _lerp(corner(1, 0), corner(1, 1), ux)
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


def _directions(
    iy: NDArray[np.int64], ix: NDArray[np.int64], seed: int
) -> Callable[[int, int], tuple[Array, Array]]:
    """Return what gives the directions, along y and x, at a corner of the cells of many points.

    Where these have lattice points in common, as neighbours mostly do, a direction is worked out
    once for all of them: with sine and cosine it costs more than all the rest.
    """
    if not iy.size:
        return lambda dy, dx: _direction(iy + dy, ix + dx, seed)
    top, left = int(iy.min()), int(ix.min())
    rows, cols = int(iy.max()) - top + 2, int(ix.max()) - left + 2
    if rows * cols >= iy.size:
        return lambda dy, dx: _direction(iy + dy, ix + dx, seed)
    lattice = np.meshgrid(top + np.arange(rows), left + np.arange(cols), indexing="ij")
    along_y, along_x = (each.ravel() for each in _direction(*lattice, seed))
    first = (iy - top) * cols + (ix - left)

    def looked_up(dy: int, dx: int) -> tuple[Array, Array]:
        place = first + (dy * cols + dx)
        return along_y[place], along_x[place]

    return looked_up


def _direction(iy: NDArray[np.int64], ix: NDArray[np.int64], seed: int) -> tuple[Array, Array]:
    angle = _hash(iy, ix, seed)
    return np.sin(angle), np.cos(angle)


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
