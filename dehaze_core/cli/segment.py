# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze segment` and `dehaze segment-set`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dehaze_core.cli.run import AsJson, Bands, DeviceName, Extent, Threads
from dehaze_core.cli.values import numbers, show

if TYPE_CHECKING:
    from dehaze_core.engine.segments.folder import SegmentSetSettings
    from dehaze_core.engine.segments.settings import SegmentSettings

SegmenterOption = Annotated[
    str,
    typer.Option(
        "--segmenter",
        help="Segment Anything by size: mobile, small, middle, large; or slic, felzenszwalb.",
    ),
]
Side = Annotated[
    int, typer.Option(help="Longest side of the picture that is segmented, 256 to 4096 px.")
]
Tiles = Annotated[int, typer.Option(help="Most tiles to segment, of all levels of detail.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("segment")(segment)
    app.command("segment-set")(segment_set)


def segment(
    source: Annotated[str, typer.Argument(metavar="IN", help="Raster to segment.")],
    destination: Annotated[
        Path, typer.Argument(metavar="OUT", help="GeoTIFF of the segments' gray codes to write.")
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Also write the segments' numbers to this GeoTIFF.")
    ] = None,
    polygons: Annotated[
        Path | None, typer.Option(help="Also write the segments to this GeoPackage.")
    ] = None,
    segmenter: SegmenterOption = "mobile",
    coding: Annotated[
        str,
        typer.Option(
            help="paint; or the sums of the paper: paper_sum_clip, paper_sum_wrap.",
        ),
    ] = "paint",
    side: Side = 1024,
    tiles: Tiles = 64,
    bands: Bands = None,
    extent: Extent = None,
    device: DeviceName = "auto",
    threads: Threads = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing outputs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Divide a raster into segments: a mask for runs guided by masks, or for work of its own."""
    from dehaze_core.cli.console import TerminalProgress
    from dehaze_core.engine.segments.segment import segment as run_segmentation

    settings = _settings(
        source=source,
        destination=str(destination),
        labels=None if labels is None else str(labels),
        polygons=None if polygons is None else str(polygons),
        segmenter=segmenter,
        coding=coding,
        side=side,
        tiles=tiles,
        bands=numbers(bands, int, "--bands"),
        extent=numbers(extent, float, "--extent"),
        device=device,
        threads=threads,
        overwrite=overwrite,
    )
    with TerminalProgress(quiet=as_json) as progress:
        report = run_segmentation(settings, progress)
    show(report.as_dict(), as_json)


def segment_set(
    source: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of pictures, with folders in it.")
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of the label pictures.")
    ],
    segmenter: SegmenterOption = "mobile",
    side: Side = 1024,
    tiles: Tiles = 64,
    device: DeviceName = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Make a label picture of every picture of a folder, for training with masks.

    Goes on where it was stopped.
    """
    from dehaze_core.cli.console import TerminalProgress
    from dehaze_core.engine.segments.folder import segment_set as run_segmentation

    settings = _set_settings(
        source=source,
        destination=destination,
        segmenter=segmenter,
        side=side,
        tiles=tiles,
        device=device,
        threads=threads,
    )
    with TerminalProgress(quiet=as_json) as progress:
        report = run_segmentation(settings, progress)
    show(report.as_dict(), as_json)


def _settings(**values: Any) -> SegmentSettings:  # noqa: ANN401 - fields of SegmentSettings
    from dehaze_core.engine.segments.settings import SegmentSettings

    return SegmentSettings(**values)


def _set_settings(**values: Any) -> SegmentSetSettings:  # noqa: ANN401 - fields of its settings
    from dehaze_core.engine.segments.folder import SegmentSetSettings

    return SegmentSetSettings(**values)
