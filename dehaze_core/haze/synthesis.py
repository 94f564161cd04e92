# SPDX-License-Identifier: GPL-3.0-or-later
"""Haze to put on clear images: the scattering model run forwards with random but known layers.

A `HazeRecipe` describes the haze of one scene by a few numbers. Its thickness is a function of
pixel coordinates in the scene, so a window of a huge raster can be hazed by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dehaze_core.haze.noise import fractal_noise
from dehaze_core.haze.physics import REFERENCE_WAVELENGTH, RGB_WAVELENGTHS

Array = NDArray[np.float64]
Image = NDArray[np.float32]

HazeKind = Literal["homogeneous", "patchy", "cirrus", "plume", "broken", "texture"]

LEVELS: dict[str, tuple[float, float]] = {
    "L0": (0.0, 0.0),
    "L1": (0.07, 0.18),
    "L2": (0.18, 0.42),
    "L3": (0.42, 0.85),
    "L4": (0.85, 1.60),
    "beyond": (1.60, 2.50),
}
"""Median optical thickness at 550 nm of each level; `beyond` keeps L4 off training's edge."""


@dataclass(frozen=True, slots=True)
class HazeRecipe:
    """The haze of one scene.

    Attributes:
        kind: Class of haze.
        thickness: Median optical thickness at 550 nm (approximate for broken cloud).
        spread: Standard deviation of the logarithm of the thickness.
        wavelength: Longest wavelength of the thickness field in px.
        stretch: Ratio of the wavelengths along and across the direction `angle`.
        angle: Direction in radians.
        offset: Scene coordinates (row, column) of the field's origin in px.
        octaves: Octaves of the field.
        clearing: Thickness, relative to the median, below which there is no haze at all: clear
            patches.
        alpha: Angstrom exponent.
        airlight: Airlight of red, green and blue, linear light.
        airlight_variation: Relative standard deviation of the airlight over the scene.
        noise: Sensor noise (shot, read): variance = shot * I + read^2, linear light.
        seed: Seed of all fields.
        texture: Thickness texture (h, w) in [0, 1] for kind `texture`.
    """

    kind: HazeKind
    thickness: float
    spread: float = 0.5
    wavelength: float = 512.0
    stretch: float = 1.0
    angle: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)
    octaves: int = 5
    clearing: float = 0.0
    alpha: float = 0.8
    airlight: tuple[float, float, float] = (0.85, 0.88, 0.92)
    airlight_variation: float = 0.0
    noise: tuple[float, float] = (0.0, 0.0)
    seed: int = 0
    texture: NDArray[np.float32] | None = None

    def thickness_at(self, rows: Array, cols: Array) -> Array:
        """Return the optical thickness at 550 nm at scene coordinates in px, of any one shape."""
        if self.thickness == 0.0:
            return np.zeros(np.broadcast(rows, cols).shape)
        y, x = self._field_coordinates(rows, cols)
        return self.thickness * np.maximum(self._profile(y, x) - self.clearing, 0.0)

    def airlight_at(self, rows: Array, cols: Array) -> Array:
        """Return the airlight (3, ...) at scene coordinates in px."""
        base = np.asarray(self.airlight).reshape(3, *[1] * np.broadcast(rows, cols).ndim)
        if self.airlight_variation == 0.0:
            return np.broadcast_to(base, (3, *np.broadcast(rows, cols).shape))
        y, x = self._field_coordinates(rows, cols)
        return base * (
            1.0 + self.airlight_variation * fractal_noise(y / 2, x / 2, self.seed + 11, 2)
        )

    def _field_coordinates(self, rows: Array, cols: Array) -> tuple[Array, Array]:
        y, x = rows + self.offset[0], cols + self.offset[1]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        along, across = cos * x + sin * y, cos * y - sin * x
        return across / self.wavelength, along / (self.wavelength * self.stretch)

    def _profile(self, y: Array, x: Array) -> Array:
        """Return the thickness relative to its median."""
        if self.kind == "texture":
            return self._texture_profile(y, x)
        field = fractal_noise(y, x, self.seed, self.octaves)
        if self.kind == "plume":
            ridges = 1.0 - np.abs(fractal_noise(y, x, self.seed + 5, self.octaves)) / 1.5
            return np.exp(self.spread * field) * np.clip(0.4 + ridges, 0.05, None)
        if self.kind == "broken":
            cover = 1.0 / (1.0 + np.exp(-4.0 * field))
            return 0.15 + 1.7 * cover
        return np.exp(self.spread * field)

    def _texture_profile(self, y: Array, x: Array) -> Array:
        if self.texture is None:
            raise ValueError("kind 'texture' needs a texture, none was given")
        value = _mirrored_sample(self.texture, y, x)
        veil = np.exp(0.5 * self.spread * fractal_noise(y, x, self.seed, self.octaves))
        return veil * (0.2 + 0.8 * value / max(float(np.median(self.texture)), 0.1))


def random_recipe(
    rng: np.random.Generator,
    level: str,
    extent: float,
    bright_end: Sequence[float],
    textures: Sequence[NDArray[np.float32]] = (),
) -> HazeRecipe:
    """Draw the haze of a scene.

    Args:
        rng: Source of randomness; the same state gives the same recipe.
        level: A key of `LEVELS`.
        extent: Longer side of the scene in px; fields vary over 0.3 to 3 times that length.
        bright_end: Bright end (99.5th percentile) of the clear scene's red, green and blue,
            linear light.
        textures: Real thickness textures in [0, 1]; may be empty.
    """
    low, high = LEVELS[level]
    thickness = float(np.exp(rng.uniform(np.log(low), np.log(high)))) if high > 0 else 0.0
    kinds = [k for k in get_args(HazeKind) if k != "texture" or textures]
    weights = np.array([{"patchy": 2.0, "texture": 4.0}.get(k, 1.0) for k in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    alpha = float(rng.uniform(1.2, 2.0) if kind == "plume" else rng.uniform(0.0, 1.6))
    noisy = rng.random() < 0.4
    return HazeRecipe(
        kind=kind,
        thickness=thickness,
        spread=0.12 if kind == "homogeneous" else float(rng.uniform(0.2, 0.7)),
        wavelength=extent * float(np.exp(rng.uniform(np.log(0.3), np.log(3.0)))),
        stretch=float(rng.uniform(3.0, 8.0) if kind == "cirrus" else rng.uniform(1.0, 2.0)),
        angle=float(rng.uniform(0.0, 2 * np.pi)),
        offset=(float(rng.uniform(0, 1e5)), float(rng.uniform(0, 1e5))),
        octaves=int(rng.integers(2, 7)),
        clearing=float(rng.uniform(0.2, 0.9)) if rng.random() < 0.2 else 0.0,
        alpha=alpha,
        airlight=random_airlight(rng, alpha, bright_end),
        airlight_variation=float(rng.uniform(0.0, 0.05)) if rng.random() < 0.3 else 0.0,
        noise=(float(rng.uniform(0, 2e-4)), float(rng.uniform(0, 4e-3))) if noisy else (0.0, 0.0),
        seed=int(rng.integers(0, 2**31)),
        texture=textures[int(rng.integers(len(textures)))] if kind == "texture" else None,
    )


def random_airlight(
    rng: np.random.Generator, alpha: float, bright_end: Sequence[float]
) -> tuple[float, float, float]:
    """Draw an airlight: neutral for fog, bluish for small particles.

    Args:
        rng: Source of randomness.
        alpha: Angstrom exponent.
        bright_end: Bright end of the clear scene's red, green and blue, linear light.
    """
    level = rng.uniform(0.6, 1.0) * (float(np.mean(bright_end)) if rng.random() < 0.5 else 1.0)
    tint = np.array([-1.0, 0.0, 1.0]) * rng.uniform(0.0, 0.08) * min(alpha, 1.5)
    colour = max(level, 0.12) * (1.0 + tint + rng.normal(0.0, 0.02, 3))
    red, green, blue = np.clip(colour, 0.05, 1.0)
    return float(red), float(green), float(blue)


@dataclass(frozen=True, slots=True)
class HazyScene:
    """A hazy image with the truth behind it.

    Attributes:
        hazy: (3, H, W) float32, linear light.
        thickness: (H, W) float32, optical thickness at 550 nm.
        airlight: (3, H, W) float32, linear light.
    """

    hazy: Image
    thickness: Image
    airlight: Image


def add_haze(
    clear: Image, recipe: HazeRecipe, origin: tuple[int, int] = (0, 0), step: int = 4
) -> HazyScene:
    """Put haze on a clear image or on a window of one.

    Args:
        clear: (3, H, W) float32, linear light, [0, 1], red, green, blue.
        recipe: The haze of the scene.
        origin: Row and column of the image's first pixel in the scene, multiples of `step`.
        step: The smooth fields are computed on every `step`-th pixel and interpolated in between.

    Returns:
        The hazy image before quantisation, and its layers. Windows of a scene agree with each other
        except for the sensor noise, which is drawn for the window as a whole; `HazeFields` has
        noise by pixel.
    """
    _, height, width = clear.shape
    rows = origin[0] + step * np.arange(-1, height // step + 2, dtype=np.float64)
    cols = origin[1] + step * np.arange(-1, width // step + 2, dtype=np.float64)
    grid = np.meshgrid(rows, cols, indexing="ij")
    thickness = refine(recipe.thickness_at(*grid), step, height, width)
    airlight = np.stack([refine(a, step, height, width) for a in recipe.airlight_at(*grid)])
    hazy = np.empty_like(clear)
    for band, wavelength in enumerate(RGB_WAVELENGTHS):
        ratio = (wavelength / REFERENCE_WAVELENGTH) ** -recipe.alpha
        t = np.exp(thickness * np.float32(-ratio))
        hazy[band] = clear[band] * t + airlight[band] * (1.0 - t)
    return HazyScene(_sensor_noise(hazy, recipe, origin), thickness, airlight)


def _sensor_noise(image: Image, recipe: HazeRecipe, origin: tuple[int, int]) -> Image:
    shot, read = recipe.noise
    if shot == 0.0 and read == 0.0:
        return image
    rng = np.random.default_rng((recipe.seed, *origin))
    sigma = np.sqrt(shot * np.clip(image, 0, None) + read**2)
    noisy: Image = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return noisy


def refine(field: Array, step: int, height: int, width: int) -> Image:
    """Interpolate a field to all pixels from every `step`-th.

    Args:
        field: (n, m) values on every `step`-th row and column, from one node before the first pixel
            to at least one behind the last.
        step: Distance of the nodes in px.
        height: Rows wanted.
        width: Columns wanted.
    """
    coarse = field.astype(np.float32)
    node, weight = np.divmod(np.arange(height), step)
    w = (weight / step).astype(np.float32)[:, None]
    coarse = coarse[node + 1] * (1 - w) + coarse[node + 2] * w
    node, weight = np.divmod(np.arange(width), step)
    w = (weight / step).astype(np.float32)[None]
    fine: Image = coarse[:, node + 1] * (1 - w) + coarse[:, node + 2] * w
    return fine


def _mirrored_sample(texture: NDArray[np.float32], y: Array, x: Array) -> Array:
    """Sample a texture bilinearly, at coordinates in units of its side, mirrored beyond it."""
    height, width = texture.shape
    py, px = _mirror(y, height), _mirror(x, width)
    iy, ix = np.floor(py).astype(np.intp), np.floor(px).astype(np.intp)
    iy, ix = np.minimum(iy, height - 2), np.minimum(ix, width - 2)
    fy, fx = py - iy, px - ix
    top = texture[iy, ix] * (1 - fx) + texture[iy, ix + 1] * fx
    low = texture[iy + 1, ix] * (1 - fx) + texture[iy + 1, ix + 1] * fx
    sample: Array = top * (1 - fy) + low * fy
    return sample


def _mirror(t: Array, size: int) -> Array:
    folded: Array = np.abs(np.mod(t, 2.0) - 1.0) * (size - 1)
    return folded
