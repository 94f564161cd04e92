# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze run` and `dehaze plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dehaze_core.cli.values import numbers, show

if TYPE_CHECKING:
    from dehaze_core.engine import RunSettings

Source = Annotated[str, typer.Argument(metavar="IN", help="Raster to dehaze.")]
ModelName = Annotated[str, typer.Option(help="Model, see 'dehaze models'.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        help="auto, torch or onnxruntime: what computes the network; onnxruntime is CPU only.",
    ),
]
ContextName = Annotated[
    str,
    typer.Option(
        "--context",
        help="auto, exact, bounded or hyper: how every place learns of the whole scene.",
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(help="Red, green and blue as band numbers, e.g. 3,2,1; or one band."),
]
Extent = Annotated[
    str | None,
    typer.Option(help="xmin,ymin,xmax,ymax in the raster's CRS; the whole raster if left out."),
]
Block = Annotated[int | None, typer.Option(help="Block size in px; chosen by memory if left out.")]
MemoryLimit = Annotated[int | None, typer.Option(help="Memory to use at most, MiB.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores if left out.")]
MaskFile = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        help="Raster of segments for a guided model: 8-bit codes, or labels, of any resolution; "
        "made by the segmenter if left out.",
    ),
]
StructureName = Annotated[
    str,
    typer.Option(
        "--structure",
        help="What guides a guided model: haze_mask, segments of the raster as it is; dehaze_mask, "
        "segments found after a first removal of haze; haze_gray, the mean of the bands.",
    ),
]
SegmenterOption = Annotated[
    str,
    typer.Option(
        "--segmenter",
        help="What finds the segments for a guided model: mobile, small, middle or large (Segment "
        "Anything), slic or felzenszwalb.",
    ),
]
CodingName = Annotated[
    str,
    typer.Option(
        "--coding", help="How segments become codes: paint, paper_sum_clip or paper_sum_wrap."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("run")(run)
    app.command("plan")(plan)


def run(
    source: Source,
    destination: Annotated[Path, typer.Argument(metavar="OUT", help=".tif or .zarr to write.")],
    model: ModelName = "dehazexl-lite",
    device: DeviceName = "auto",
    backend: BackendName = "auto",
    context: ContextName = "auto",
    strength: Annotated[float, typer.Option(help="Share of the haze to remove, 0 to 1.5.")] = 1.0,
    bands: Bands = None,
    extent: Extent = None,
    block: Block = None,
    memory_limit: MemoryLimit = None,
    threads: Threads = None,
    mask: MaskFile = None,
    structure: StructureName = "haze_mask",
    segmenter: SegmenterOption = "mobile",
    coding: CodingName = "paint",
    thickness: Annotated[
        Path | None, typer.Option(help="Also write the haze thickness to this GeoTIFF.")
    ] = None,
    creation_option: Annotated[
        list[str] | None, typer.Option("--co", help="GDAL creation option KEY=VALUE, repeatable.")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("--format", help="cog, gtiff or zarr; by the suffix if left out.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing outputs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the haze of a raster; an interrupted run goes on when started again."""
    from dehaze_core.cli.console import TerminalProgress
    from dehaze_core.engine import run as run_engine

    settings = _settings(
        source=source,
        destination=str(destination),
        model=model,
        device=device,
        backend=backend,
        context=context,
        strength=strength,
        bands=numbers(bands, int, "--bands"),
        extent=numbers(extent, float, "--extent"),
        block_size=block,
        memory_limit=memory_limit,
        threads=threads,
        mask=None if mask is None else str(mask),
        structure=structure,
        segmenter=segmenter,
        coding=coding,
        thickness=None if thickness is None else str(thickness),
        overwrite=overwrite,
        creation_options=tuple(creation_option or ()),
        format=output_format,
    )
    with TerminalProgress(quiet=as_json) as progress:
        report = run_engine(settings, progress)
    show(report.as_dict(), as_json)


def plan(
    source: Source,
    model: ModelName = "dehazexl-lite",
    device: DeviceName = "auto",
    backend: BackendName = "auto",
    context: ContextName = "auto",
    bands: Bands = None,
    extent: Extent = None,
    block: Block = None,
    memory_limit: MemoryLimit = None,
    threads: Threads = None,
    mask: MaskFile = None,
    structure: StructureName = "haze_mask",
    segmenter: SegmenterOption = "mobile",
    coding: CodingName = "paint",
    as_json: AsJson = False,
) -> None:
    """Say what a run would do and need: blocks, memory, disk, time. Nothing is written."""
    from dehaze_core.engine import make_plan

    settings = _settings(
        source=source,
        destination="not written",
        model=model,
        device=device,
        backend=backend,
        context=context,
        bands=numbers(bands, int, "--bands"),
        extent=numbers(extent, float, "--extent"),
        block_size=block,
        memory_limit=memory_limit,
        threads=threads,
        mask=None if mask is None else str(mask),
        structure=structure,
        segmenter=segmenter,
        coding=coding,
    )
    show(make_plan(settings).as_dict(), as_json)


def _settings(**values: Any) -> RunSettings:  # noqa: ANN401 - fields of RunSettings
    from dehaze_core.engine import RunSettings

    return RunSettings(**values)
