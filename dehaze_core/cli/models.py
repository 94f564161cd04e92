# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze models` and its parts: cards, import, removal, export, weights of Segment Anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dehaze_core.errors import SettingsError

if TYPE_CHECKING:
    from dehaze_core.models import ModelCard


def register(app: typer.Typer) -> None:
    """Add the command and its parts to the application."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(models)
    group.command("card")(show_card)
    group.command("import")(import_model)
    group.command("remove")(remove)
    group.command("export")(export)
    group.command("fetch-sam")(fetch_sam)
    group.command("import-sam")(import_sam)
    group.command("remove-sam")(remove_sam)
    app.add_typer(group, name="models")


def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print whole cards as JSON.")] = False,
) -> None:
    """List the models that can be used; show cards, import or remove models of your own."""
    if context.invoked_subcommand is not None:
        return
    from dehaze_core.models import list_models
    from dehaze_core.models.registry import is_shipped

    cards = list_models()
    if as_json:
        typer.echo(json.dumps([card.as_dict() for card in cards], indent=2))
        return
    table = Table("model", "architecture", "parameters", "licence", "sha256", "", box=SIMPLE_HEAD)
    for card in cards:
        table.add_row(
            card.name,
            card.architecture,
            f"{card.parameters:,}",
            card.licence,
            card.sha256[:12],
            "" if is_shipped(card.name) else "imported",
        )
    Console().print(table)
    _show_segmenters()


def _show_segmenters() -> None:
    """Print which weights of Segment Anything are here; nothing where none are."""
    from dehaze_core.segmentation.sam.checkpoints import list_cards

    cards = list_cards()
    if not cards:
        return
    table = Table("segmenter", "parameters", "licence", "imported from", "", box=SIMPLE_HEAD)
    for card in cards:
        source = str(card.training.get("imported_from", ""))
        official = "official" if card.training.get("official") else "trained further"
        table.add_row(card.name, f"{card.parameters:,}", card.licence, source, official)
    Console().print(table)


def show_card(
    names: Annotated[list[str] | None, typer.Argument(help="Models; all of them if none.")] = None,
) -> None:
    """Print what is known about models, as Markdown: data, recipe, scores, known failures."""
    from dehaze_core.models import list_models, load_model
    from dehaze_core.models.card_page import card_markdown

    cards = [load_model(name).card for name in names] if names else list_models()
    typer.echo("\n".join(card_markdown(card) for card in cards), nl=False)


def import_model(
    file: Annotated[Path, typer.Argument(help="Checkpoint: .safetensors, .pth or .pt.")],
    name: Annotated[str, typer.Option(help="Name of the model: lower case, digits and . _ -")],
    architecture: Annotated[
        str,
        typer.Option(help="Kind of network the weights are for: dehazexl-lite, -base, -small ..."),
    ] = "dehazexl-lite",
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights; that of the card, or unknown.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="What differs from the usual shape: overlap=true blends patches and hides their "
            "borders, positions=rescaled suits scenes larger than those of the training.",
        ),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Card that 'dehaze train' wrote together with the weights.")
    ] = None,
) -> None:
    """Check a checkpoint and add it to your models; no code in it is ever run."""
    from dehaze_core.models.importer import import_model as bring_in
    from dehaze_core.places import models_folder

    config = dict(map(_setting, changes or ()))
    bring_in(file, name, architecture=architecture, config=config, licence=licence, origin=card)
    typer.echo(f"Wrote {models_folder() / name}.safetensors and its card {name}.json")


def _setting(text: str) -> tuple[str, Any]:
    """Return key and value of KEY=VALUE; values are JSON, or else plain words."""
    key, sign, value = text.partition("=")
    if not sign:
        raise SettingsError(f"--set was given {text!r}, expected KEY=VALUE.")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def remove(name: Annotated[str, typer.Argument(help="One of your models.")]) -> None:
    """Delete a model that you have imported."""
    from dehaze_core.models.registry import remove_model

    remove_model(name)
    typer.echo(f"Removed {name}.")


def export(
    name: Annotated[str, typer.Argument(help="Model, see 'dehaze models'.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="File to write.")],
    side: Annotated[
        int | None,
        typer.Option(
            help="Fix height and width at this many px, a multiple of 32, for programs that "
            "need it, such as the QGIS plugin Deepness; any size if left out."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write a model as an ONNX file for other programs; RGB in [0, 1] in and out."""
    from dehaze_core.engine.onnx_file import export_model

    export_model(name, file, side, overwrite=overwrite)
    typer.echo(f"Wrote {file}")


def fetch_sam(
    name: Annotated[str, typer.Argument(help="mobile (41 MB), small, middle or large (2.6 GB).")],
    overwrite: Annotated[bool, typer.Option(help="Replace weights that are there.")] = False,
) -> None:
    """Download official weights of Segment Anything (Apache 2.0), check them and keep them."""
    from dehaze_core.cli.console import TerminalProgress
    from dehaze_core.segmentation.sam.checkpoints import fetch_checkpoint, find_checkpoint

    wanted = find_checkpoint(name)
    with TerminalProgress() as progress:
        card = fetch_checkpoint(
            name,
            overwrite=overwrite,
            advance=lambda share: progress.update(share, wanted.file),
        )
    _told_segmenter(card)


def import_sam(
    file: Annotated[Path, typer.Argument(help="Checkpoint: .pt, .pth or .safetensors.")],
    overwrite: Annotated[bool, typer.Option(help="Replace weights that are there.")] = False,
) -> None:
    """Check a checkpoint of Segment Anything or MobileSAM and keep it; no code in it is ever run.

    Its size is told by its content.
    """
    from dehaze_core.segmentation.sam.checkpoints import import_checkpoint

    _told_segmenter(import_checkpoint(file, overwrite=overwrite))


def remove_sam(
    name: Annotated[str, typer.Argument(help="mobile, small, middle or large.")],
) -> None:
    """Delete weights of Segment Anything that were brought in."""
    from dehaze_core.segmentation.sam.checkpoints import remove_checkpoint

    remove_checkpoint(name)
    typer.echo(f"Removed the weights of the segmenter '{name}'.")


def _told_segmenter(card: ModelCard) -> None:
    from dehaze_core.places import segmenters_folder

    official = "official weights" if card.training["official"] else "weights that are not official"
    typer.echo(f"Segmenter '{card.name}' is ready: {official} in {segmenters_folder()}")
