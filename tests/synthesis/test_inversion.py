# SPDX-License-Identifier: GPL-3.0-or-later
"""The truth, read back from the files, takes the haze off again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from dehaze_core.synthesis.settings import HazeClass
from tests.synthesis.conftest import clear_pixels, read

MakeRaster = Callable[..., Path]
Floats = NDArray[np.float64]


def decode(value: Floats) -> Floats:
    """sRGB to linear light, as IEC 61966-2-1 prints it."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def encode(light: Floats) -> Floats:
    """Linear light to sRGB."""
    power = 1.055 * np.clip(light, 0.0031308, None) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, power)


class Truth:
    """What is in the files of a synthesis, without a line of the engine."""

    def __init__(self, folder: Path) -> None:
        self.facts = json.loads((folder / "hazy.json").read_text())
        self.hazy = read(folder / self.facts["outputs"]["hazy"]).astype(float)
        self.thickness = read(folder / self.facts["outputs"]["thickness"])[0].astype(float)
        self.airlight = read(folder / self.facts["outputs"]["airlight"]).astype(float)

    def light(self, stored: Floats) -> Floats:
        radiometry = self.facts["radiometry"]
        linear = (stored - radiometry["offset"]) / radiometry["scale"]
        return decode(linear) if radiometry["encoding"] == "srgb" else linear

    def stored(self, light: Floats) -> Floats:
        radiometry = self.facts["radiometry"]
        value = encode(light) if radiometry["encoding"] == "srgb" else light
        return value * radiometry["scale"] + radiometry["offset"]

    def bands(self) -> list[tuple[int, Floats, Floats]]:
        """Index, transmission and airlight of every hazed band."""
        return [
            (
                band["band"] - 1,
                np.exp(-band["ratio"] * self.thickness),
                self.airlight[band["airlight_band"] - 1],
            )
            for band in self.facts["bands"]
        ]

    def errors(self, clear: NDArray[Any], shift: float = 0.0) -> tuple[Floats, Floats]:
        """Error in DN of the restored raster and transmission, over all hazed bands.

        `shift` DN are added to the hazy raster first.
        """
        errors, transmissions = [], []
        for index, t, airlight in self.bands():
            light = (self.light(self.hazy[index] + shift) - airlight * (1 - t)) / t
            errors.append(self.stored(light) - clear[index])
            transmissions.append(t)
        return np.stack(errors), np.stack(transmissions)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", get_args(HazeClass))
def test_hazy_floats_restore_the_clear_raster_within_one_dn(
    make_raster: MakeRaster,
    add_haze: Callable[..., Any],
    texture: Path,
    dem: Path,
    tmp_path: Path,
    kind: HazeClass,
    dtype: str,
) -> None:
    clear = clear_pixels(dtype)
    source = make_raster(data=clear)

    add_haze(
        source,
        kind=kind,
        level="L4",
        airlight_variation=0.05,
        unrounded=True,
        texture=str(texture) if kind == "texture" else None,
        dem=str(dem) if kind == "valley" else None,
    )

    errors, t = Truth(tmp_path).errors(clear)
    assert ((t > 0.1) & (t < 0.5)).any()
    assert np.abs(errors[t > 0.1]).max() < 0.2


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rounding_is_all_that_a_hazy_raster_of_the_source_s_type_loses(
    make_raster: MakeRaster, add_haze: Callable[..., Any], tmp_path: Path, dtype: str
) -> None:
    clear = clear_pixels(dtype)

    add_haze(make_raster(data=clear), level="L3", seed=2)

    truth = Truth(tmp_path)
    # What half a DN of the hazy raster is worth, on either side.
    low, high = (truth.errors(clear, shift)[0] for shift in (-0.505, 0.505))
    assert (low <= 0).all()
    assert (high >= 0).all()


def test_sixteen_bits_restore_within_one_dn_where_half_the_light_gets_through(
    make_raster: MakeRaster, add_haze: Callable[..., Any], tmp_path: Path
) -> None:
    clear = clear_pixels("uint16")

    add_haze(make_raster(data=clear), level="L2", seed=4)

    errors, t = Truth(tmp_path).errors(clear)
    assert (t > 0.5).mean() > 0.5
    assert np.abs(errors[t > 0.5]).max() <= 1.0


def test_near_infrared_gets_thinner_haze_and_is_restored_as_well(
    make_raster: MakeRaster, add_haze: Callable[..., Any], tmp_path: Path
) -> None:
    clear = np.concatenate([clear_pixels("uint16"), clear_pixels("uint16")[:1]])
    source = make_raster(data=clear, photometric="RGB")
    import rasterio
    from rasterio.enums import ColorInterp

    with rasterio.open(source, "r+") as raster:
        raster.colorinterp = [ColorInterp(n) for n in (3, 4, 5)] + [ColorInterp["nir"]]

    add_haze(source, level="L4", alpha=1.5, unrounded=True)

    truth = Truth(tmp_path)
    errors, t = truth.errors(clear)
    assert np.abs(errors[t > 0.1]).max() < 0.2
    red, near_infrared = t[0], t[3]
    assert (near_infrared > red).all()
    assert np.log(near_infrared).sum() / np.log(red).sum() == pytest.approx((0.84 / 0.66) ** -1.5)
