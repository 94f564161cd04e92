# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of the synthesis of haze."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtCore import QCoreApplication

from .compat import NUMBER_DOUBLE, NUMBER_INTEGER
from .parameters import (
    INPUT,
    OUTPUT,
    THICKNESS,
    advanced,
    choice,
    color_bands,
    optional_raster,
    with_help,
)

KIND = "KIND"
LEVEL = "LEVEL"
OPTICAL_THICKNESS = "OPTICAL_THICKNESS"
SEED = "SEED"
TEXTURE = "TEXTURE"
DEM = "DEM"
FOG_BASE = "FOG_BASE"
FOG_DEPTH = "FOG_DEPTH"
WAVELENGTH = "WAVELENGTH"
WAVELENGTH_M = "WAVELENGTH_M"
ALPHA = "ALPHA"
AIRLIGHT_COLOR = "AIRLIGHT_COLOR"
AIRLIGHT_VARIATION = "AIRLIGHT_VARIATION"
ADJACENCY = "ADJACENCY"
SHOT_NOISE = "SHOT_NOISE"
READ_NOISE = "READ_NOISE"
UNROUNDED = "UNROUNDED"
AIRLIGHT = "AIRLIGHT"
TRUTH = "TRUTH"

KINDS = ("patchy", "homogeneous", "cirrus", "plume", "valley", "broken", "texture")
LEVELS = ("L0", "L1", "L2", "L3", "L4")


def clear_raster() -> QgsProcessingParameterDefinition:
    """Return the raster that gets haze."""
    return with_help(
        QgsProcessingParameterRasterLayer(INPUT, _tr("Clear raster")),
        _tr(
            "A raster file of any size without haze, with 8-bit, 16-bit or floating point values. "
            "8-bit values count as display-encoded (sRGB), others as linear in light."
        ),
    )


def hazed_bands() -> QgsProcessingParameterDefinition:
    """Return the choice of red, green and blue."""
    return color_bands(
        _tr(
            "Three bands in the order red, green, blue, or one band of a panchromatic raster. "
            "Other bands get haze if their colour interpretation tells their wavelength; the rest "
            "stays clear."
        )
    )


def kind() -> QgsProcessingParameterDefinition:
    """Return the choice of the class of haze."""
    return with_help(
        choice(KIND, _tr("Kind of haze"), KINDS, "patchy"),
        _tr(
            "patchy and homogeneous haze, cirrus (drawn out in one direction), plume (smoke), "
            "valley (fog that thins with height, needs a DEM), broken (cloud with gaps), or "
            "texture (a picture of real haze)."
        ),
    )


def level() -> QgsProcessingParameterDefinition:
    """Return the choice of how thick the haze is."""
    return with_help(
        choice(LEVEL, _tr("Level"), LEVELS, "L2"),
        _tr(
            "Range from which the median optical thickness of the scene is drawn: L0 none, L1 0.07 "
            "to 0.18, L2 to 0.42, L3 to 0.85, L4 to 1.6."
        ),
    )


def optical_thickness() -> QgsProcessingParameterDefinition:
    """Return the optical thickness that replaces the level."""
    return with_help(
        _number(OPTICAL_THICKNESS, _tr("Optical thickness (empty = by level)"), 0.0, 10.0),
        _tr(
            "Optical thickness at 550 nm instead of a level: the median of an endless field of "
            "which the scene shows a part. Rasters of one pixel grid with the same seed, thickness "
            "and wavelength then fit together."
        ),
    )


def seed() -> QgsProcessingParameterDefinition:
    """Return the seed."""
    return with_help(
        QgsProcessingParameterNumber(SEED, _tr("Seed"), NUMBER_INTEGER, 0, False, 0, 2**31 - 1),
        _tr("Another seed makes another haze; the same seed repeats it."),
    )


def texture() -> QgsProcessingParameterDefinition:
    """Return the raster of real haze."""
    return with_help(
        QgsProcessingParameterRasterLayer(TEXTURE, _tr("Haze texture"), optional=True),
        _tr("For kind texture only: a raster of real haze, such as a cirrus band."),
    )


def dem() -> QgsProcessingParameterDefinition:
    """Return the raster of heights."""
    return with_help(
        QgsProcessingParameterRasterLayer(DEM, _tr("Elevation model"), optional=True),
        _tr("For kind valley only: heights of the ground, in any CRS."),
    )


def fog_base() -> QgsProcessingParameterDefinition:
    """Return the height of full fog."""
    return advanced(
        _number(FOG_BASE, _tr("Height of full valley fog"), -1e5, 1e5),
        _tr(
            "Height at which valley fog has its full thickness, in the unit of the elevation "
            "model. If empty, the low end of the heights in the scene."
        ),
    )


def fog_depth() -> QgsProcessingParameterDefinition:
    """Return the height over which fog thins."""
    return advanced(
        _number(FOG_DEPTH, _tr("Depth of valley fog"), 0.001, 1e5, 100.0),
        _tr("Height over which valley fog thins to 37 %, in the unit of the elevation model."),
    )


def wavelength() -> QgsProcessingParameterDefinition:
    """Return the size of patches in pixels."""
    return advanced(
        _number(WAVELENGTH, _tr("Size of patches [pixels]"), 4.0, 1e9),
        _tr("Size of the largest patches. If empty, 0.6 of the longer side of the raster."),
    )


def wavelength_m() -> QgsProcessingParameterDefinition:
    """Return the size of patches in metres."""
    return advanced(
        _number(WAVELENGTH_M, _tr("Size of patches [metres]"), 0.001, 1e9),
        _tr("The same in metres, for georeferenced rasters; give one of the two."),
    )


def alpha() -> QgsProcessingParameterDefinition:
    """Return the Angstrom exponent."""
    return advanced(
        _number(ALPHA, _tr("Ångström exponent"), 0.0, 4.0),
        _tr(
            "How fast the thickness falls with the wavelength: 0 fog and cloud, about 1 haze, up "
            "to 2 smoke. If empty, typical of the kind."
        ),
    )


def airlight_color() -> QgsProcessingParameterDefinition:
    """Return the colour of the airlight."""
    return advanced(
        QgsProcessingParameterString(
            AIRLIGHT_COLOR, _tr("Airlight (red, green, blue)"), "", False, True
        ),
        _tr(
            "Colour of the haze in linear light, for example 0.8,0.84,0.9, where 1 is the bright "
            "end of the scale. If empty, typical of the kind."
        ),
    )


def airlight_variation() -> QgsProcessingParameterDefinition:
    """Return how uneven the airlight is."""
    return advanced(
        _number(AIRLIGHT_VARIATION, _tr("Variation of the airlight"), 0.0, 0.3, 0.0),
        _tr("Relative standard deviation of the airlight over the scene."),
    )


def adjacency() -> QgsProcessingParameterDefinition:
    """Return how much haze blurs the ground."""
    return advanced(
        _number(ADJACENCY, _tr("Adjacency blur [pixels]"), 0.0, 2.0, 0.0),
        _tr("Blur of the ground under haze of thickness 1; it grows with the thickness."),
    )


def shot_noise() -> QgsProcessingParameterDefinition:
    """Return the noise that grows with the light."""
    return advanced(
        _number(SHOT_NOISE, _tr("Shot noise"), 0.0, 1.0, 0.0, 6),
        _tr("Variance of the sensor noise per unit of linear light, for example 0.0001."),
    )


def read_noise() -> QgsProcessingParameterDefinition:
    """Return the noise that is there in the dark."""
    return advanced(
        _number(READ_NOISE, _tr("Read noise"), 0.0, 1.0, 0.0, 6),
        _tr("Standard deviation of the sensor noise in the dark, linear light, for example 0.002."),
    )


def unrounded() -> QgsProcessingParameterDefinition:
    """Return whether the hazy raster is written as floats."""
    return advanced(
        QgsProcessingParameterBoolean(UNROUNDED, _tr("Hazy values not rounded"), False),
        _tr(
            "Write floating point values instead of the type of the clear raster. Rounding is what "
            "keeps thick haze from being taken off again exactly."
        ),
    )


def hazy_raster() -> QgsProcessingParameterDefinition:
    """Return the destination of the hazy raster."""
    return with_help(
        QgsProcessingParameterRasterDestination(OUTPUT, _tr("Hazy")),
        _tr(
            "Cloud-optimised GeoTIFF with the CRS, geotransform, data type, nodata and bands of "
            "the input. It appears under its name only when it is complete."
        ),
    )


def haze_thickness() -> QgsProcessingParameterDefinition:
    """Return the optional destination of the true thickness."""
    return optional_raster(
        THICKNESS,
        _tr("Haze thickness"),
        _tr("True optical thickness of the haze at 550 nm, one 32-bit band."),
    )


def airlight() -> QgsProcessingParameterDefinition:
    """Return the optional destination of the true airlight."""
    return optional_raster(
        AIRLIGHT,
        _tr("Airlight"),
        _tr("True airlight in linear light, a 32-bit band for each band with haze."),
    )


def truth() -> QgsProcessingParameterDefinition:
    """Return the optional destination of everything known."""
    return with_help(
        QgsProcessingParameterFileDestination(
            TRUTH, _tr("Truth"), "JSON (*.json)", optional=True, createByDefault=False
        ),
        _tr(
            "JSON file with everything known about the haze: enough to take it off again and to "
            "repeat it."
        ),
    )


def _number(
    name: str,
    description: str,
    low: float,
    high: float,
    default: float | None = None,
    decimals: int = 3,
) -> QgsProcessingParameterNumber:
    parameter = QgsProcessingParameterNumber(
        name, description, NUMBER_DOUBLE, default, default is None, low, high
    )
    parameter.setMetadata({"widget_wrapper": {"decimals": decimals}})
    return parameter


def _tr(text: str) -> str:
    return QCoreApplication.translate("SynthesisParameters", text)
