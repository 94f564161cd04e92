# SPDX-License-Identifier: GPL-3.0-or-later
"""One training run from a folder of clear images to weights with a card."""

from __future__ import annotations

import platform
from collections.abc import Callable
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


def train_lite(
    *,
    data: Path,
    textures: Path | None,
    out: Path,
    minutes: float,
    device: str,
    threads: int | None,
    seed: int,
    report: Callable[[str], None],
) -> ModelCard:
    """Train `dehazexl-lite` and write `dehazexl-lite.safetensors` and its card into `out`.

    Args:
        data: Folder of clear RGB images.
        textures: Folder of real thickness textures, or None.
        out: Folder for checkpoint, log, weights and card; a checkpoint there is resumed.
        minutes: Time budget over all resumed parts.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads, all cores if None.
        seed: Seed of weights and batches.
        report: Receives lines of text.

    Returns:
        The card of the weights.

    Raises:
        DehazeError: There are no images, or a setting is wrong.
    """
    use_threads(threads)
    place = choose_device(cast(DeviceChoice, device))
    recipe = TrainRecipe(minutes=minutes, seed=seed)
    train, validation = load_images(data)
    report(f"{len(train)} images of {len(train.sites)} sites to train on, {len(validation)} of "
           f"{len(validation.sites)} held out; {place.description}")
    thickness = load_textures(textures) if textures is not None else []
    trainer = Trainer(
        recipe,
        HazyBatches(train, thickness, seed),
        HazyBatches(validation, thickness, seed + 1),
        out,
        place.torch,
        report,
    )
    network = trainer.run()
    facts: dict[str, Any] = {
        "images": len(train),
        "sites": sorted(train.sites),
        "held_out_sites": sorted(validation.sites),
        "textures": len(thickness),
        "steps": trainer.state.step,
        "hardware": f"{platform.machine()}, {place.description}, torch {torch.__version__}",
        "recipe": recipe.as_dict(),
    }
    return save_model(network, NAME, out, facts, scores={"held_out": trainer.validate()})
