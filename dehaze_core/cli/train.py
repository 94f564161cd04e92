# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dehaze_core.errors import SettingsError

RECIPES = {
    "dehazexl-lite": "lite-cpu",
    "dehazexl-small": "small-gpu",
    "dehazexl-base": "base-published",
}
"""Models that can be trained, and the recipe that is taken if none is named."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train")(train)


def train(
    model: Annotated[str, typer.Argument(help="Model to train: dehazexl-lite, -small or -base.")],
    data: Annotated[
        Path, typer.Option(help="Folder of clear RGB images; a MANIFEST.csv may give their sites.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log, weights and card.")] = Path(
        "build/train"
    ),
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe, such as lite-cpu, or a TOML file.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time budget instead of the recipe's, resumes included.")
    ] = None,
    textures: Annotated[
        Path | None, typer.Option(help="Folder of grey images of real haze thickness.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Model, or folder of a finished training, to go on from."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all cores if left out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed instead of the recipe's.")] = None,
) -> None:
    """Train a model on clear images, with haze made on the fly; goes on where it was stopped."""
    from dehaze_core.training.recipe import load_recipe
    from dehaze_core.training.session import TrainFolders
    from dehaze_core.training.session import train as train_network
    from dehaze_core.training.start import find_start

    if model not in RECIPES:
        raise SettingsError(f"Model '{model}' cannot be trained; known are {', '.join(RECIPES)}.")
    chosen = load_recipe(recipe or RECIPES[model], minutes=minutes, seed=seed)
    if chosen.architecture != model:
        raise SettingsError(
            f"The recipe {recipe} is for {chosen.architecture}, not for {model}.",
            hint="Name another recipe with --recipe.",
        )
    card = train_network(
        TrainFolders(data, textures, out),
        chosen,
        device,
        threads,
        report=lambda line: typer.echo(line, err=True),
        start=None if start is None else find_start(start),
    )
    typer.echo(f"Wrote {out / card.name}.safetensors and its card {card.name}.json")
