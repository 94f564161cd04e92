# SPDX-License-Identifier: GPL-3.0-or-later
"""From a user's settings to the haze of one scene."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dehaze_core.haze.fields import STEP, HazeFields
from dehaze_core.haze.synthesis import LEVELS, HazeKind, HazeRecipe
from dehaze_core.scene import Frame, read_texture
from dehaze_core.synthesis.place import pixel_size_m, world_origin
from dehaze_core.synthesis.settings import HazeClass, SynthesisSettings

Colour = tuple[float, float, float]

_BLUISH: Colour = (0.80, 0.84, 0.89)
_WHITE: Colour = (0.90, 0.90, 0.91)
_BROWNISH: Colour = (0.66, 0.62, 0.56)

_DEFAULT_WAVELENGTH = 0.6


@dataclass(frozen=True, slots=True)
class Look:
    """What is typical of a class of haze.

    Attributes:
        field: Class of the thickness field.
        alpha: Angstrom exponent: near 0 for droplets and ice, 1 and more for haze and smoke.
        airlight: Colour of the airlight, linear light.
        spread: Standard deviation of the logarithm of the thickness.
        stretch: Ratio of the wavelengths along and across the field's direction.
        octaves: Octaves of the field.
    """

    field: HazeKind
    alpha: float
    airlight: Colour
    spread: float
    stretch: float
    octaves: int


LOOKS: dict[HazeClass, Look] = {
    "homogeneous": Look("homogeneous", 0.9, _BLUISH, 0.12, 1.0, 2),
    "patchy": Look("patchy", 0.9, _BLUISH, 0.5, 1.5, 5),
    "cirrus": Look("cirrus", 0.2, _WHITE, 0.6, 5.0, 5),
    "plume": Look("plume", 1.6, _BROWNISH, 0.6, 4.0, 6),
    "valley": Look("patchy", 0.1, _WHITE, 0.25, 1.0, 4),
    "broken": Look("broken", 0.1, _WHITE, 0.5, 1.2, 5),
    "texture": Look("texture", 0.3, _WHITE, 0.4, 1.0, 4),
}


def draw_fields(settings: SynthesisSettings, frame: Frame) -> HazeFields:
    """Return the haze of a scene, its thickness adjusted to the level where one is asked for.

    Raises:
        InputError: The texture cannot be used (INPUT_TEXTURE, or as for any raster).
        SettingsError: A wavelength in metres needs a georeferenced raster.
    """
    look = LOOKS[settings.kind]
    rng = np.random.default_rng(settings.seed)
    row, col = world_origin(frame)
    wavelength = _wavelength(settings, frame)
    recipe = HazeRecipe(
        kind=look.field,
        thickness=_thickness(settings, rng),
        spread=look.spread * float(rng.uniform(0.7, 1.3)),
        wavelength=wavelength,
        stretch=look.stretch * float(rng.uniform(0.8, 1.25)),
        angle=float(rng.uniform(0.0, 2 * math.pi)),
        # The haze at a pixel is that at its centre.
        offset=(row - math.floor(row) + 0.5, col - math.floor(col) + 0.5),
        octaves=_octaves(look, wavelength),
        alpha=look.alpha if settings.alpha is None else settings.alpha,
        airlight=settings.airlight or look.airlight,
        airlight_variation=settings.airlight_variation,
        noise=settings.noise,
        seed=settings.seed,
        texture=None if settings.texture is None else read_texture(settings.texture),
    )
    fields = HazeFields(recipe, math.floor(row), math.floor(col))
    return fields if settings.haze_level is None else with_median(fields, frame)


def with_median(fields: HazeFields, frame: Frame) -> HazeFields:
    """Return the fields scaled so that the median thickness over the scene is the recipe's."""
    wanted = fields.recipe.thickness
    median = fields.median_thickness(frame.height, frame.width)
    if median <= 0.0:
        return fields
    return replace(fields, recipe=replace(fields.recipe, thickness=wanted * wanted / median))


def _thickness(settings: SynthesisSettings, rng: np.random.Generator) -> float:
    if settings.haze_level is None:
        return float(settings.thickness or 0.0)
    low, high = LEVELS[settings.haze_level]
    return float(np.exp(rng.uniform(math.log(low), math.log(high)))) if high > 0 else 0.0


def _wavelength(settings: SynthesisSettings, frame: Frame) -> float:
    if settings.wavelength_m is not None:
        return settings.wavelength_m / pixel_size_m(frame)
    return settings.wavelength or _DEFAULT_WAVELENGTH * max(frame.width, frame.height)


def _octaves(look: Look, wavelength: float) -> int:
    """Return octaves that the lattice on which fields are computed can show."""
    shown = math.log2(max(wavelength / (4 * STEP), 1.0))
    return min(look.octaves, int(shown) + 1)
