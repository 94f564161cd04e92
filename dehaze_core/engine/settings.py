# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user can ask of a run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dehaze_core.engine.tokens.context_backends import ContextKind
from dehaze_core.errors import SettingsError
from dehaze_core.segmentation.coding import Coding
from dehaze_core.segmentation.segmenter import SegmenterName

DeviceChoice = Literal["auto", "cpu", "cuda"]
BackendChoice = Literal["auto", "torch", "onnxruntime"]
FormatChoice = Literal["cog", "gtiff", "zarr"]
Structure = Literal["haze_mask", "dehaze_mask", "haze_gray"]

MAX_STRENGTH = 1.5
MIN_MEMORY_MIB = 1024
MIN_BLOCK_PX = 64
EXTENT_NUMBERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of one run; checked when made.

    Attributes:
        source: Raster to dehaze: a path or anything GDAL opens.
        destination: Raster to write.
        format: `cog`, `gtiff` or `zarr`; None for zarr if the destination ends in .zarr, else a
            cloud-optimised GeoTIFF.
        model: Name of a model, see `dehaze models`.
        device: `auto` takes a CUDA device where there is one.
        backend: What computes the passes over the pixels: `torch`; `onnxruntime`, on the CPU; or
            `auto`, the faster one of them that is installed.
        context: How every token of the raster learns of all others: `exact` attention; `bounded`,
            to averages of neighbouring tokens; `hyper`, to similar tokens and a sample; `auto` is
            exact up to the network's budget of tokens, and bounded beyond.
        strength: Share of the haze to remove, 0..1.5; 1 is the full correction.
        bands: 1-based numbers of the bands that stand for red, green and blue (three), or of
            the one band of a panchromatic image; None finds them by colour interpretation.
        extent: (xmin, ymin, xmax, ymax) in the raster's CRS; None for the whole raster.
        block_size: Side of a block in px; None lets the plan choose. Never changes pixels.
        memory_limit: Memory the run may use, in MiB; None for a share of what is free.
        threads: CPU threads; None for all cores.
        thickness: Also write the haze thickness (optical thickness at 550 nm, float32) here.
        overwrite: Replace existing outputs.
        creation_options: GDAL creation options of the output, `KEY=VALUE`.
        mask: Raster of segments that guides a model of the kind `guided`: 8 bit are grey codes,
            other integers are labels; 0, nodata and what it does not cover are no segment. It has
            the raster's CRS and any resolution; one without georeference covers the raster.
        structure: What guides such a model: `haze_mask`, segments of the raster as it is, those of
            `mask` or found by the segmenter; `dehaze_mask`, segments found after a first removal of
            haze; `haze_gray`, the mean of the bands. Other models are not guided.
        segmenter: What finds the segments where no mask is given.
        coding: How these become grey codes.

    Raises:
        SettingsError: A value is out of its range.
    """

    source: str
    destination: str
    model: str = "dehazexl-lite"
    device: DeviceChoice = "auto"
    backend: BackendChoice = "auto"
    context: ContextKind = "auto"
    strength: float = 1.0
    bands: tuple[int, ...] | None = None
    extent: tuple[float, float, float, float] | None = None
    block_size: int | None = None
    memory_limit: int | None = None
    threads: int | None = None
    thickness: str | None = None
    overwrite: bool = True
    creation_options: tuple[str, ...] = ()
    format: FormatChoice | None = None
    mask: str | None = None
    structure: Structure = "haze_mask"
    segmenter: SegmenterName = "mobile"
    coding: Coding = "paint"

    def __post_init__(self) -> None:
        """Check every value that can be checked without opening the source."""
        require(bool(self.source), "An input raster is needed, none was given.")
        require(bool(self.destination), "An output path is needed, none was given.")
        for name, value, choices in (
            ("Device", self.device, get_args(DeviceChoice)),
            ("Backend", self.backend, get_args(BackendChoice)),
            ("Context", self.context, get_args(ContextKind)),
            ("Structure", self.structure, get_args(Structure)),
            ("Segmenter", self.segmenter, get_args(SegmenterName)),
            ("Coding", self.coding, get_args(Coding)),
        ):
            require(
                value in choices,
                f"{name} '{value}' is unknown, expected one of {', '.join(choices)}.",
            )
        require(
            (self.device, self.backend) != ("cuda", "onnxruntime"),
            "Device 'cuda' and backend 'onnxruntime' were given; onnxruntime computes on the CPU, "
            "expected device 'auto' or 'cpu', or backend 'torch'.",
        )
        require(
            0.0 <= self.strength <= MAX_STRENGTH,
            f"A strength of {self.strength:g} was given, expected 0 to {MAX_STRENGTH:g}.",
        )
        check_place(self.bands, self.extent)
        self._check_sizes()
        for option in self.creation_options:
            require("=" in option, f"Creation option '{option}' was given, expected KEY=VALUE.")
        require(
            self.mask is None or (bool(self.mask) and self.structure == "haze_mask"),
            f"A mask {self.mask!r} and structure '{self.structure}' were given; a mask is used as "
            "it is, expected structure 'haze_mask', or no mask.",
        )
        for output in self.outputs:
            for source in filter(None, (self.source, self.mask)):
                require(
                    Path(output).resolve() != Path(source).resolve(),
                    f"The output {output} is an input itself; inputs are never overwritten.",
                )
        require(
            len({Path(output).resolve() for output in self.outputs}) == len(self.outputs),
            "Output and haze thickness have the same path, expected two different ones.",
        )

    def _check_sizes(self) -> None:
        for name, value, least, unit in (
            ("block size", self.block_size, MIN_BLOCK_PX, "px"),
            ("memory limit", self.memory_limit, MIN_MEMORY_MIB, "MiB"),
            ("thread count", self.threads, 1, "threads"),
        ):
            require(
                value is None or value >= least,
                f"A {name} of {value} {unit} was given, expected at least {least}.",
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Paths this run writes."""
        return (self.destination,) if self.thickness is None else (self.destination, self.thickness)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able data."""
        return asdict(self)


def check_place(
    bands: tuple[int, ...] | None, extent: tuple[float, float, float, float] | None
) -> None:
    """Check what of a raster is to be looked at; None stands for what the raster says itself.

    Raises:
        SettingsError: There are not one or three bands counted from 1, or the extent is none.
    """
    if bands is not None:
        require(
            len(bands) in (1, 3) and min(bands) >= 1,
            f"Bands {bands} were given, expected three (red, green, blue) or one, counted from 1.",
        )
    if extent is not None:
        ok = len(extent) == EXTENT_NUMBERS and all(math.isfinite(v) for v in extent)
        require(
            ok and extent[0] < extent[2] and extent[1] < extent[3],
            f"Extent {extent} was given, expected xmin, ymin, xmax, ymax "
            "with xmin < xmax and ymin < ymax.",
        )


def require(condition: bool, message: str) -> None:
    """Raise SettingsError with a message unless a condition holds."""
    if not condition:
        raise SettingsError(message)
