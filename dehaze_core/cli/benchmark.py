# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze benchmark`: models and baselines over the same pictures, by one protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dehaze_core.cli.run import SegmenterOption
from dehaze_core.errors import OutputError

if TYPE_CHECKING:
    from dehaze_core.benchmark import tables

ALL = "all"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("benchmark")(benchmark)


def benchmark(
    pairs: Annotated[Path, typer.Argument(help="Folder with hazy/ and clear/ pictures.")],
    out: Annotated[
        Path, typer.Option(help="Folder that receives pictures, pages, tables and CSV files.")
    ],
    models: Annotated[
        str, typer.Option(help="Models, separated by commas; the first is compared with the rest.")
    ] = "dehazexl-lite",
    baselines: Annotated[
        str,
        typer.Option(
            help="Baselines, separated by commas, empty for none: identity, dark-channel, "
            "haze-thickness-map, aod-net, slices-512, slices-256."
        ),
    ] = ALL,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Number of pictures at most, spread over all.")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Folder of real hazy rasters, to be judged without clear.")
    ] = None,
    aod_weights: Annotated[
        Path | None, typer.Option(help="AOD-Net's weights (.pth); left out without.")
    ] = None,
    doc: Annotated[
        Path | None, typer.Option(help="Markdown file whose section of this title is replaced.")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Add the means to the card of the first model.")
    ] = False,
    structures: Annotated[
        str,
        typer.Option(
            "--structure",
            help="What guides guided models, separated by commas, each a method of its own: "
            "haze_gray, haze_mask, dehaze_mask.",
        ),
    ] = "haze_mask",
    segmenter: SegmenterOption = "mobile",
    title: Annotated[
        str | None, typer.Option(help="Title of the results; the name of the folder by default.")
    ] = None,
) -> None:
    """Compare models and baselines on hazy and clear pairs, and on real haze."""
    from dehaze_core.benchmark.document import check_title
    from dehaze_core.benchmark.methods import BASELINES, Guiding, choose_methods
    from dehaze_core.benchmark.pairs_run import run_pairs
    from dehaze_core.benchmark.real_run import run_real
    from dehaze_core.benchmark.report import Report
    from dehaze_core.benchmark.tables import pair_tables, summary
    from dehaze_core.benchmark.targets import target_table
    from dehaze_core.cli.console import TerminalProgress
    from dehaze_core.models.registry import record_scores

    title = title or pairs.resolve().name
    check_title(title)
    chosen = list(BASELINES) if baselines == ALL else _names(baselines)
    guiding = Guiding(tuple(_names(structures)), segmenter)
    contest = choose_methods(_names(models), chosen, aod_weights, guiding)
    _make_folder(out)
    with TerminalProgress() as progress:
        for line in contest.left_out:
            progress.warning(line)
        results = run_pairs(pairs, out, contest, limit, progress)
        seen = None if real is None else run_real(real, out, contest, limit, progress)
    report = Report(title, results, seen)
    report.write(out)
    if doc is not None:
        report.insert(doc)
    if record:
        first = contest.first
        guide = first.name.removeprefix(first.model or "")
        record_scores(first.model or first.name, f"{title}{guide}", summary(results))
    _print(pair_tables(results)[0], columns=6)
    _print(target_table(results))
    typer.echo(f"Pictures: {out / 'index.html'}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _make_folder(out: Path) -> None:
    """Find out before the work, not after it, whether there is a place for its results."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made: {error}.", code="OUTPUT_FOLDER") from error


def _print(table: tables.Table, columns: int | None = None) -> None:
    """Print the first columns of a table; the whole of it is in the files."""
    shown = Table(title=table.title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, heading in enumerate(table.headings[:columns]):
        shown.add_column(heading, justify="right" if index else "left")
    for row in table.rows:
        shown.add_row(*row[:columns])
    console = Console()
    console.print(shown)
    console.print()
