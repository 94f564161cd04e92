# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze models`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("models")(models)


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print whole cards as JSON.")] = False,
) -> None:
    """List the models that can be used."""
    from dehaze_core.models import list_models

    cards = list_models()
    if as_json:
        typer.echo(json.dumps([card.as_dict() for card in cards], indent=2))
        return
    table = Table("model", "architecture", "parameters", "licence", "sha256", box=SIMPLE_HEAD)
    for card in cards:
        table.add_row(
            card.name, card.architecture, f"{card.parameters:,}", card.licence, card.sha256[:12]
        )
    Console().print(table)
