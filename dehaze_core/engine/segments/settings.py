# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user can ask of a segmentation, and what it tells when it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from dehaze_core.engine.settings import DeviceChoice, check_place, require
from dehaze_core.segmentation.coding import CODINGS, Coding
from dehaze_core.segmentation.segmenter import CLASSICAL_SEGMENTERS, SEGMENTERS, SegmenterName

LEAST_SIDE, MOST_SIDE = 256, 4096
"""Range of the longest side of the picture that is segmented, px."""

DEFAULT_SIDE = 1024
DEFAULT_TILES = 64

_RASTER_SUFFIXES = (".tif", ".tiff")
_POLYGON_SUFFIX = ".gpkg"


@dataclass(frozen=True, slots=True)
class SegmentOptions:
    """How a scene is segmented; checked when made.

    Attributes:
        segmenter: Name of the segmenter, see `SEGMENTERS`.
        coding: How segments become grey codes.
        side: Longest side of the picture that is segmented, 256..4096 px.
        tiles: Most tiles the segmenter looks at, of all levels together.

    Raises:
        SettingsError: A value is out of its range.
    """

    segmenter: SegmenterName
    coding: Coding = "paint"
    side: int = DEFAULT_SIDE
    tiles: int = DEFAULT_TILES

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value, choices in (
            ("segmenter", self.segmenter, SEGMENTERS),
            ("coding", self.coding, CODINGS),
        ):
            require(
                value in choices,
                f"The {name} '{value}' is unknown, expected one of {', '.join(choices)}.",
            )
        require(
            LEAST_SIDE <= self.side <= MOST_SIDE,
            f"A side of {self.side} px was given, expected {LEAST_SIDE} to {MOST_SIDE}.",
        )
        require(self.tiles >= 1, f"{self.tiles} tiles were allowed, expected at least 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSettings:
    """Settings of one segmentation; checked when made.

    Attributes:
        source: Raster to segment: a path or anything GDAL opens.
        destination: GeoTIFF of grey codes to write, uint8, 0 where there is no segment.
        labels: Also write the number of every pixel's segment here: GeoTIFF, int32, 0 for none.
        polygons: Also write the segments as polygons here: GeoPackage.
        segmenter: Name of the segmenter, see `SEGMENTERS`.
        coding: How segments become grey codes.
        side: Longest side of the picture that is segmented, 256..4096 px.
        tiles: Most tiles the segmenter looks at, of all levels together.
        bands: 1-based numbers of the bands that stand for red, green and blue, or of one band;
            None finds them by colour interpretation.
        extent: (xmin, ymin, xmax, ymax) in the raster's CRS; None for the whole raster.
        device: `auto` takes a CUDA device where there is one.
        threads: CPU threads; None for all cores.
        overwrite: Replace existing outputs.

    Raises:
        SettingsError: A value is out of its range.
    """

    source: str
    destination: str
    labels: str | None = None
    polygons: str | None = None
    segmenter: SegmenterName = "mobile"
    coding: Coding = "paint"
    side: int = DEFAULT_SIDE
    tiles: int = DEFAULT_TILES
    bands: tuple[int, ...] | None = None
    extent: tuple[float, float, float, float] | None = None
    device: DeviceChoice = "auto"
    threads: int | None = None
    overwrite: bool = True

    def __post_init__(self) -> None:
        """Check every value that can be checked without opening the source."""
        require(bool(self.source), "An input raster is needed, none was given.")
        require(bool(self.destination), "An output path is needed, none was given.")
        _ = self.options
        require_machine(self.device, self.threads)
        check_place(self.bands, self.extent)
        self._check_paths()

    @property
    def options(self) -> SegmentOptions:
        """Return how the scene is segmented."""
        return SegmentOptions(self.segmenter, self.coding, self.side, self.tiles)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Paths of all files to write, that of the codes first."""
        others = (self.labels, self.polygons)
        return (self.destination, *(path for path in others if path is not None))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able data."""
        return asdict(self)

    def _check_paths(self) -> None:
        for name, path, suffixes in (
            ("codes", self.destination, _RASTER_SUFFIXES),
            ("labels", self.labels, _RASTER_SUFFIXES),
            ("polygons", self.polygons, (_POLYGON_SUFFIX,)),
        ):
            require(
                path is None or Path(path).suffix.lower() in suffixes,
                f"The path {path} was given for the {name}, expected one that ends in "
                f"{' or '.join(suffixes)}.",
            )
        paths = [Path(output).resolve() for output in self.outputs]
        require(len(set(paths)) == len(paths), "Two outputs have the same path, expected one each.")
        require(
            Path(self.source).resolve() not in paths,
            f"An output has the path of the input {self.source}; inputs are never overwritten.",
        )


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """What a segmentation did.

    Attributes:
        output: The raster of codes.
        labels: The raster of labels, or None.
        polygons: The GeoPackage, or None.
        width: Columns of the rasters written, px.
        height: Rows of the same.
        masks: Number of segments.
        coverage: Share of the pixels with data that belong to a segment, 0..1.
        levels: Number of levels of detail that were segmented.
        tiles: Number of tiles the segmenter looked at.
        segmenter: Its name.
        coding: How segments became codes.
        cached: The segments were found by an earlier segmentation of the same scene.
        device: Where it was computed.
        seconds: Wall time.
        peak_memory_mib: Peak resident memory of the process.
    """

    output: str
    labels: str | None
    polygons: str | None
    width: int
    height: int
    masks: int
    coverage: float
    levels: int
    tiles: int
    segmenter: str
    coding: str
    cached: bool
    device: str
    seconds: float
    peak_memory_mib: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        return asdict(self)


def device_choice(segmenter: SegmenterName, device: DeviceChoice) -> DeviceChoice:
    """Return the device to compute on: classical segmenters know the CPU only."""
    return "cpu" if segmenter in CLASSICAL_SEGMENTERS and device == "auto" else device


def require_machine(device: str, threads: int | None) -> None:
    """Check the choice of a device and the number of threads.

    Raises:
        SettingsError: One is out of its range.
    """
    choices = get_args(DeviceChoice)
    require(
        device in choices,
        f"Device '{device}' is unknown, expected one of {', '.join(choices)}.",
    )
    require(
        threads is None or threads >= 1,
        f"A thread count of {threads} threads was given, expected at least 1.",
    )
