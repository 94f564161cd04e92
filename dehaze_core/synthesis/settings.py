# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user can ask of the synthesis of haze."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dehaze_core.engine.settings import check_place, require
from dehaze_core.haze.adjacency import MOST_BLUR

HazeClass = Literal["homogeneous", "patchy", "cirrus", "plume", "valley", "broken", "texture"]
Level = Literal["L0", "L1", "L2", "L3", "L4"]

DEFAULT_LEVEL: Level = "L2"
MOST_THICKNESS = 10.0
MOST_ALPHA = 4.0
MOST_VARIATION = 0.3
MIN_BLOCK_PX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisSettings:
    """Settings of one synthesis; checked when made.

    Attributes:
        source: Clear raster: a path or anything GDAL opens.
        destination: Hazy raster to write.
        kind: Class of haze.
        level: `L0` to `L4`; the scene's median thickness is drawn from the level's range.
        thickness: Instead of a level: the median optical thickness at 550 nm of the endless field
            of which the scene is a part. Rasters of one pixel grid with the same settings and seed
            fit together.
        seed: Seed of everything that is drawn.
        wavelength: Size of the largest patches in px; None for 0.6 of the raster's longer side.
        wavelength_m: The same in metres.
        texture: Raster of real haze, for kind `texture`.
        dem: Raster of heights, for kind `valley`.
        fog_base: Height at which valley fog has its full thickness, in the DEM's unit; None for
            the low end of the heights in the scene.
        fog_depth: Height over which it thins to 1/e, in the DEM's unit.
        alpha: Angstrom exponent; None for a value typical of the kind.
        airlight: Red, green and blue of the airlight in linear light, 1 is the bright end of the
            scale; None for a colour typical of the kind.
        airlight_variation: Relative standard deviation of the airlight over the scene.
        adjacency: Blur of the ground under haze of thickness 1: standard deviation in px.
        noise: Sensor noise (shot, read): variance = shot * I + read^2 in linear light.
        unrounded: Write the hazy raster as floats, not rounded to the source's type.
        bands: 1-based numbers of the bands that stand for red, green and blue, or of one band;
            None finds them by colour interpretation.
        thickness_output: Also write the optical thickness at 550 nm here.
        airlight_output: Also write the airlight of every hazed band here.
        truth_output: Also write everything known about the haze here, as JSON.
        block_size: Side of a block in px; never changes pixels.
        overwrite: Replace existing outputs.
        creation_options: GDAL creation options of the outputs, `KEY=VALUE`.

    Raises:
        SettingsError: A value is out of its range, or two contradict each other.
    """

    source: str
    destination: str
    kind: HazeClass = "patchy"
    level: Level | None = None
    thickness: float | None = None
    seed: int = 0
    wavelength: float | None = None
    wavelength_m: float | None = None
    texture: str | None = None
    dem: str | None = None
    fog_base: float | None = None
    fog_depth: float = 100.0
    alpha: float | None = None
    airlight: tuple[float, float, float] | None = None
    airlight_variation: float = 0.0
    adjacency: float = 0.0
    noise: tuple[float, float] = (0.0, 0.0)
    unrounded: bool = False
    bands: tuple[int, ...] | None = None
    thickness_output: str | None = None
    airlight_output: str | None = None
    truth_output: str | None = None
    block_size: int = 1024
    overwrite: bool = True
    creation_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value that can be checked without opening the source."""
        require(bool(self.source), "An input raster is needed, none was given.")
        require(bool(self.destination), "An output path is needed, none was given.")
        self._check_choices()
        self._check_numbers()
        self._check_colours()
        self._check_paths()

    @property
    def haze_level(self) -> Level | None:
        """The level in force; None where a thickness is given."""
        return self.level or (DEFAULT_LEVEL if self.thickness is None else None)

    @property
    def rasters(self) -> tuple[str, ...]:
        """Paths of the rasters to write, the hazy one first."""
        layers = (self.thickness_output, self.airlight_output)
        return (self.destination, *(path for path in layers if path is not None))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Paths of all files to write."""
        return self.rasters if self.truth_output is None else (*self.rasters, self.truth_output)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able data."""
        return asdict(self)

    def _check_choices(self) -> None:
        for name, value, known in (
            ("kind", self.kind, get_args(HazeClass)),
            ("level", self.haze_level or DEFAULT_LEVEL, get_args(Level)),
        ):
            require(
                value in known,
                f"The {name} '{value}' is unknown, expected one of {', '.join(known)}.",
            )
        require(
            self.level is None or self.thickness is None,
            "A level and a thickness were given, expected one of them.",
        )
        require(
            self.wavelength is None or self.wavelength_m is None,
            "Wavelengths in pixels and in metres were given, expected one of them.",
        )
        for kind, name, path in (
            ("texture", "texture", self.texture),
            ("valley", "DEM", self.dem),
        ):
            require(
                (self.kind == kind) == (path is not None),
                f"Haze of kind '{self.kind}' was asked for {'without' if path is None else 'with'}"
                f" a {name}; kind '{kind}' needs one, other kinds have no use for it.",
            )

    def _check_numbers(self) -> None:
        for name, value, low, high in (
            ("seed", self.seed, 0, math.inf),
            ("thickness", self.thickness, 0.0, MOST_THICKNESS),
            ("wavelength", self.wavelength, 4.0, math.inf),
            ("wavelength in metres", self.wavelength_m, 1e-3, math.inf),
            ("fog depth", self.fog_depth, 1e-3, math.inf),
            ("fog base", self.fog_base, -math.inf, math.inf),
            ("Angstrom exponent", self.alpha, 0.0, MOST_ALPHA),
            ("variation of the airlight", self.airlight_variation, 0.0, MOST_VARIATION),
            ("adjacency blur", self.adjacency, 0.0, MOST_BLUR),
            ("block size", self.block_size, MIN_BLOCK_PX, math.inf),
        ):
            require(
                value is None or (math.isfinite(value) and low <= value <= high),
                f"A {name} of {value} was given, expected {_range(low, high)}.",
            )

    def _check_colours(self) -> None:
        for name, values, count in (
            ("Airlight", self.airlight, 3),
            ("Noise (shot, read)", self.noise, 2),
        ):
            require(
                values is None
                or (len(values) == count and all(0.0 <= value <= 2.0 for value in values)),
                f"{name} is {values}, expected {count} numbers from 0 to 2.",
            )
        check_place(self.bands, None)

    def _check_paths(self) -> None:
        for option in self.creation_options:
            require("=" in option, f"Creation option '{option}' was given, expected KEY=VALUE.")
        paths = [Path(output).resolve() for output in self.outputs]
        require(len(set(paths)) == len(paths), "Two outputs have the same path, expected one each.")
        for given in (self.source, self.texture, self.dem):
            require(
                given is None or Path(given).resolve() not in paths,
                f"An output has the path of the input {given}; inputs are never overwritten.",
            )


def _range(low: float, high: float) -> str:
    if math.isinf(low):
        return "a number"
    return f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
