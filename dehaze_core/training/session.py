# SPDX-License-Identifier: GPL-3.0-or-later
"""One training run from a folder of clear images to weights with a card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from dehaze_core.engine.device import choose_device, use_threads
from dehaze_core.engine.settings import DeviceChoice
from dehaze_core.models import ModelCard, save_model
from dehaze_core.training.batches import HazyBatches
from dehaze_core.training.imagery import load_images, load_textures
from dehaze_core.training.loop import Trainer, TrainRecipe

NAME = "dehazexl-lite"

LIMITS = (
    "Trained on synthetic haze over display-encoded RGB pictures, not on pairs of real hazy and "
    "clear scenes.",
    "Opaque cloud cannot be removed; its rim may be darkened.",
    "Bright, uniform ground (snow, salt, pale concrete) can be taken for haze.",
)
"""Known failures of every model this recipe makes, for its card."""


@dataclass(frozen=True, slots=True)
class TrainFolders:
    """Where a training run reads and writes.

    Attributes:
        data: Clear RGB images.
        textures: Grey images of real haze thickness, or None.
        out: Checkpoint, log, weights and card; a checkpoint there is resumed.
    """

    data: Path
    textures: Path | None
    out: Path


def train_lite(
    folders: TrainFolders,
    recipe: TrainRecipe,
    device: str,
    threads: int | None,
    report: Callable[[str], None],
) -> ModelCard:
    """Train `dehazexl-lite` and write its weights and card into the output folder.

    Args:
        folders: Where to read and write.
        recipe: Time budget, seed and everything else that shapes the run.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads, all cores if None.
        report: Receives lines of text.

    Returns:
        The card of the weights.

    Raises:
        DehazeError: There are no images, or a setting is wrong.
    """
    use_threads(threads)
    place = choose_device(cast(DeviceChoice, device))
    train, validation = load_images(folders.data)
    report(
        f"{len(train)} images of {len(train.sites)} sites to train on, {len(validation)} of "
        f"{len(validation.sites)} held out; {place.description}"
    )
    textures = load_textures(folders.textures) if folders.textures is not None else []
    trainer = Trainer(
        recipe,
        HazyBatches(train, textures, recipe.seed),
        HazyBatches(validation, textures, recipe.seed + 1),
        folders.out,
        place,
        report,
    )
    network = trainer.run()
    facts: dict[str, Any] = {
        "images": len(train),
        "sites": sorted(train.sites),
        "held_out_sites": sorted(validation.sites),
        "textures": len(textures),
        "steps": trainer.state.step,
        "hardware": f"{place.description}, torch {torch.__version__}",
        "recipe": recipe.as_dict(),
    }
    scores = {"held_out": trainer.validate()}
    return save_model(network, NAME, folders.out, facts, scores, LIMITS)
