# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze score`: how good is a model, or any other method, on a folder of hazy and clear pairs?"""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dehaze_core.cli.run import SegmenterOption, StructureName
from dehaze_core.errors import InputError, SettingsError

if TYPE_CHECKING:
    from dehaze_core.metrics.pairs import Group, Pair, Restorer, Summary

DEFAULT_MODEL = "dehazexl-lite"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("score")(score)


def score(
    folder: Annotated[Path, typer.Argument(help="Folder with hazy/ and clear/ pictures.")],
    model: Annotated[str, typer.Option(help="Model to score.")] = DEFAULT_MODEL,
    structure: StructureName = "haze_mask",
    segmenter: SegmenterOption = "mobile",
    method: Annotated[
        str | None, typer.Option(help="A function instead of a model, as module:function.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder of restored pictures to score instead of a model.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder that receives the restored pictures as PNG.")
    ] = None,
    csv_path: Annotated[
        Path | None,
        typer.Option("--csv", help="CSV file that receives the numbers of every image."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score restored pictures against clear ones: PSNR, SSIM, CIEDE2000, per haze level."""
    from dehaze_core.engine.segments.picture_guide import model_restorer
    from dehaze_core.metrics.pairs import LoadedPair, Summary, find_pairs, write_rows

    if method is not None and predictions is not None:
        raise SettingsError("--method and --predictions exclude each other; give one of them.")
    pairs = find_pairs(folder)
    if predictions is not None:
        label, restorers = str(predictions), [_stored(predictions, pair) for pair in pairs]
    else:
        label = method or model
        restore = (
            model_restorer(model, structure, segmenter) if method is None else _load_method(method)
        )
        restorers = [restore] * len(pairs)
    scores = [
        LoadedPair.load(pair).score(restore, None if out is None else out / f"{pair.name}.png")
        for pair, restore in track(
            list(zip(pairs, restorers, strict=True)),
            description=f"Scoring {label}",
            console=Console(stderr=True),
            transient=True,
        )
    ]
    summary = Summary.of(scores)
    if csv_path is not None:
        write_rows(csv_path, [result.as_dict() for result in scores])
    if as_json:
        typer.echo(json.dumps({"method": label, **_finite(summary.as_dict())}, indent=2))
    else:
        _print(summary, label)


def _load_method(entry: str) -> Restorer:
    module_name, colon, function_name = entry.partition(":")
    if not colon:
        raise SettingsError(
            f"--method is {entry!r}; expected module:function.",
            hint="For example: --method dehaze_core.baselines.dark_channel:restore.",
        )
    try:
        function = getattr(import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"--method {entry} cannot be loaded: {error}.",
            hint="The module must be importable from here; set PYTHONPATH if it is elsewhere.",
        ) from error
    restorer: Restorer = function
    return restorer


def _stored(folder: Path, pair: Pair) -> Restorer:
    from dehaze_core.metrics.pairs import find_partner, load_picture

    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected restored pictures in it.")
    path = find_partner(folder, pair.name)
    return lambda _: load_picture(path)


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Replace infinities, which JSON does not know, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _print(summary: Summary, label: str) -> None:
    table = Table(
        title=f"{label}: input → output, mean over images",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("level", no_wrap=True)
    for heading in ("n", "PSNR dB", "SSIM", "CIEDE2000", "change DN"):
        table.add_column(heading, justify="right", no_wrap=True)
    for level, group in summary.levels.items():
        table.add_row(*_cells(level, group))
    table.add_section()
    for name, chosen in (
        ("all hazy", summary.hazy),
        ("chips", summary.chips),
        ("large scenes", summary.large),
    ):
        if chosen is not None:
            table.add_row(*_cells(name, chosen), style="bold" if chosen is summary.hazy else "")
    console = Console()
    console.print(table)
    console.print()
    if summary.improved is not None:
        console.print(f"improved (PSNR): {summary.improved:.1%} of the hazy images")
    if summary.clear is not None:
        console.print(f"clear images (L0) changed by {summary.clear.change_dn:.2f} DN RMS")


def _cells(name: str, group: Group) -> list[str]:
    return [
        name,
        str(group.images),
        f"{group.psnr_in:.2f} → {group.psnr_out:.2f}",
        f"{group.ssim_in:.3f} → {group.ssim_out:.3f}",
        f"{group.ciede_in:.2f} → {group.ciede_out:.2f}",
        f"{group.change_dn:.2f}",
    ]
