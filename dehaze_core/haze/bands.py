# SPDX-License-Identifier: GPL-3.0-or-later
"""How haze found in red, green and blue carries over to the other bands of a raster.

The optical thickness at another wavelength follows from Angstrom's law. The airlight of bands
beyond red is taken from red, that below blue from blue: the colour of haze changes slowly with
wavelength.
"""

from __future__ import annotations

from dataclasses import dataclass

from dehaze_core.haze.physics import REFERENCE_WAVELENGTH, RGB_WAVELENGTHS

BAND_WAVELENGTHS = {
    "coastal": 0.443,
    "blue": RGB_WAVELENGTHS[2],
    "green": RGB_WAVELENGTHS[1],
    "yellow": 0.60,
    "red": RGB_WAVELENGTHS[0],
    "rededge": 0.72,
    "nir": 0.84,
}
"""Typical centre wavelengths in um by colour interpretation; haze is negligible beyond."""


@dataclass(frozen=True, slots=True)
class BandHaze:
    """How one band of a raster is corrected.

    Attributes:
        index: 0-based band of the raster.
        airlight_band: Model band (0 red, 1 green, 2 blue) whose airlight it shares.
        ratio: Its optical thickness relative to that at 550 nm.
    """

    index: int
    airlight_band: int
    ratio: float


def band_haze(
    model_bands: tuple[int, ...], color_interp: tuple[str, ...], alpha: float
) -> list[BandHaze]:
    """Return the bands that are corrected, and how.

    Args:
        model_bands: 0-based bands the network saw as red, green and blue, or the one it saw as
            all three.
        color_interp: Colour interpretation of every band of the raster.
        alpha: Angstrom exponent of the scene's haze.

    Returns:
        The model bands and every further band of known wavelength. Bands of unknown wavelength are
        left out: nobody can say how much haze is in them.
    """
    if len(model_bands) == 1:
        return [BandHaze(model_bands[0], 1, _ratio(REFERENCE_WAVELENGTH, alpha))]
    result = [
        BandHaze(band, position, _ratio(RGB_WAVELENGTHS[position], alpha))
        for position, band in enumerate(model_bands)
    ]
    for band, name in enumerate(color_interp):
        wavelength = BAND_WAVELENGTHS.get(name)
        if band not in model_bands and wavelength is not None:
            nearest = 0 if wavelength > RGB_WAVELENGTHS[1] else 2
            result.append(BandHaze(band, nearest, _ratio(wavelength, alpha)))
    return result


def _ratio(wavelength: float, alpha: float) -> float:
    return float((wavelength / REFERENCE_WAVELENGTH) ** -alpha)
