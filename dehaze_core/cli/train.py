# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dehaze_core.errors import SettingsError

RECIPES = {
    "dehazexl-lite": "lite-cpu",
    "dehazexl-small": "small-gpu",
    "dehazexl-base": "base-published",
    "distilled": "distilled-cpu",
    "guided-lite": "guided-lite-cpu",
    "guided-small": "guided-small-gpu",
    "guided-distilled": "guided-distilled-cpu",
    "guided-unet": "guided-unet",
    "guided-restormer": "guided-restormer",
}
"""Models that can be trained, and the recipe that is taken if none is named."""

TEACHER = "teacher"
"""What is trained before a distilled model, by another loop."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train")(train)


def train(
    model: Annotated[
        str,
        typer.Argument(
            help="What to train: dehazexl-lite, -small or -base; distilled; the teacher that "
            "guides it; or, guided by masks, guided-lite, -small, -distilled, -unet or -restormer."
        ),
    ],
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
        float | None, typer.Option(help="Budget instead of the recipe's, resumes included.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="The same in steps: equal on every machine.")
    ] = None,
    textures: Annotated[
        Path | None, typer.Option(help="Folder of grey images of real haze thickness.")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of label pictures, one for every image, as dehaze segment-set makes them: "
            "masks for a model that is guided by masks."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Model, or folder of a finished training, to go on from instead of what the "
            "recipe names."
        ),
    ] = None,
    guide: Annotated[
        str | None,
        typer.Option(
            help="What guides distilled beside the truth: features or outputs of a teacher, the "
            "pictures of another model, or none."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Teacher that guides, by name or .safetensors file; with --guide model, the model."
        ),
    ] = None,
    separable: Annotated[
        bool | None,
        typer.Option(
            "--separable/--standard",
            help="Convolutions of a teacher: separable ones unless told otherwise.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all cores if left out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed instead of the recipe's.")] = None,
) -> None:
    """Train a model on clear images, with haze made on the fly; goes on where it was stopped.

    A teacher learns to double the resolution of clear images, and is trained in one piece.
    """
    from dehaze_core.training.budget import Budget
    from dehaze_core.training.recipe import load_recipe
    from dehaze_core.training.session import TrainFolders
    from dehaze_core.training.session import train as train_network
    from dehaze_core.training.start import find_start

    if model == TEACHER:
        student = {"masks": masks, "start": start, "guide": guide, "teacher": teacher}
        _refuse(model, recipe=recipe, textures=textures, **student)
        budget = None if minutes is None and steps is None else Budget(minutes, steps)
        changes = {"budget": budget, "seed": seed}
        _train_teacher(data, out, separable is not False, changes, device, threads)
        return
    if model not in RECIPES:
        raise SettingsError(
            f"Model '{model}' cannot be trained; known are {', '.join((*RECIPES, TEACHER))}."
        )
    _refuse(model, separable=separable)
    chosen = load_recipe(recipe or RECIPES[model], minutes=minutes, steps=steps, seed=seed)
    if chosen.architecture != model:
        raise SettingsError(
            f"The recipe {recipe} is for {chosen.architecture}, not for {model}.",
            hint="Name another recipe with --recipe.",
        )
    if masks is not None:
        chosen = chosen.with_mask_files()
    card = train_network(
        TrainFolders(data, textures, out, masks),
        chosen.guided_by(guide, teacher),
        device,
        threads,
        report=_told,
        start=None if start is None else find_start(start),
    )
    typer.echo(f"Wrote {out / card.name}.safetensors and its card {card.name}.json")


def _train_teacher(
    data: Path,
    out: Path,
    separable: bool,
    changes: dict[str, Any],
    device: str,
    threads: int | None,
) -> None:
    from dehaze_core.models.student.teacher import TeacherConfig
    from dehaze_core.training.teacher import TeacherRecipe, train_teacher

    given = {name: value for name, value in changes.items() if value is not None}
    recipe = TeacherRecipe(config=TeacherConfig(separable=separable), **given)
    card = train_teacher(data, out, recipe, device, threads, report=_told)
    path = out / f"{card.name}.safetensors"
    typer.echo(f"Wrote {path} and its card; --teacher {path} lets it guide 'distilled'")


def _refuse(model: str, **options: object) -> None:
    """Refuse options that mean nothing for what is trained."""
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        named = "--separable and --standard" if given == ["--separable"] else ", ".join(given)
        raise SettingsError(f"{named} cannot be used to train '{model}'.")


def _told(line: str) -> None:
    typer.echo(line, err=True)
