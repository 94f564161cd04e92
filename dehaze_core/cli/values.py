# SPDX-License-Identifier: GPL-3.0-or-later
"""How commands read lists of numbers and show their results."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from dehaze_core.errors import SettingsError


def numbers(text: str | None, kind: type, option: str) -> tuple[Any, ...] | None:
    """Return numbers separated by commas; None for None.

    Args:
        text: What was given.
        kind: int or float.
        option: Name of the option, for the message.

    Raises:
        SettingsError: The text is something else.
    """
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(
            f"{option} is '{text}', expected numbers separated by commas."
        ) from error


def show(values: dict[str, Any], as_json: bool) -> None:
    """Print results by name, as a table or as JSON."""
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    table = Table(show_header=False, box=None)
    for key, value in values.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " "), shown)
    Console(soft_wrap=True, highlight=False).print(table)
