# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze clean`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from dehaze_core.engine.leftovers import Leftover


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("clean")(clean)


def clean(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", help="Where to look; here if left out."),
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Look in all folders below, too.")] = False,
    remove: Annotated[bool, typer.Option(help="Delete what is not in use.")] = False,
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Only what was not touched for so long.")
    ] = 0.0,
    masks: Annotated[
        bool, typer.Option("--masks", help="Also the masks of rasters segmented before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List what interrupted runs have left beside their outputs, or delete it.

    An unfinished run goes on when it is started again; once deleted, it starts from the beginning.
    """
    from dehaze_core.engine.leftovers import find_leftovers, find_masks, remove_leftover

    everything = find_leftovers(folders or [Path()], recursive=recursive)
    everything += find_masks() if masks else []
    found = [leftover for leftover in everything if leftover.age_days >= older_than]
    removed = {leftover.folder for leftover in found if remove and remove_leftover(leftover)}
    if as_json:
        rows = [{**item.as_dict(), "removed": item.folder in removed} for item in found]
        typer.echo(json.dumps(rows, indent=2))
    else:
        _show(found, removed, remove)


def _show(found: list[Leftover], removed: set[Path], remove: bool) -> None:
    console = Console(soft_wrap=True, highlight=False)
    if not found:
        console.print("Nothing was left behind.")
        return
    table = Table("output", "state", "finished", "age", "size", "folder", box=SIMPLE_HEAD)
    for item in found:
        table.add_row(
            _plain(item.output),
            "removed" if item.folder in removed else "in use" if item.in_use else item.kind,
            f"{item.finished_blocks / item.blocks:.0%}" if item.blocks else "",
            f"{item.age_days:.1f} days",
            _mib(item.size),
            _plain(str(item.folder)),
        )
    console.print(table)
    if remove:
        freed = sum(item.size for item in found if item.folder in removed)
        console.print(f"{len(removed)} of {len(found)} removed, {_mib(freed)} freed.")
    else:
        console.print("Start such a run again to go on, or delete all this with --remove.")


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _plain(text: str) -> str:
    """Return a file name as it can be printed: neither markup nor bytes that are not UTF-8."""
    from rich.markup import escape

    return escape(text.encode(errors="replace").decode())
