# SPDX-License-Identifier: GPL-3.0-or-later
"""The `dehaze` command: one module a command, each registered here by one line.

A command module offers `register(app)`. Modules import heavy packages inside their functions, so
that `dehaze --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from dehaze_core import __version__
from dehaze_core.cli import benchmark, clean, models, run, score, segment, synthesize, train
from dehaze_core.errors import DehazeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="dehaze",
    help="Remove haze from georeferenced rasters of any size.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dehaze {__version__}")
        raise typer.Exit


@app.callback()
def _dehaze(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Remove haze from georeferenced rasters of any size."""


for _command in (run, segment, models, clean, score, benchmark, synthesize, train):
    _command.register(app)


def main() -> None:
    """Run the command line; errors made for users end with their exit code and no traceback."""
    try:
        app()
    except DehazeError as error:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"error {error.code}: {error.message}", style="bold red", markup=False)
        if error.hint:
            console.print(error.hint, markup=False)
        sys.exit(error.exit_code)
