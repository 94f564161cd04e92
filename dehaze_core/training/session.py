# SPDX-License-Identifier: GPL-3.0-or-later
"""One training run from a folder of clear images to weights with a card."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dehaze_core.engine.device import Device, choose_device, for_training, use_threads
from dehaze_core.engine.memory import keep_freed_memory
from dehaze_core.engine.settings import DeviceChoice
from dehaze_core.models import Model, ModelCard, save_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite
from dehaze_core.models.streaming import TOKEN_PX, StreamedNetwork
from dehaze_core.training.batches import HazyBatches
from dehaze_core.training.imagery import ImagePool, licences, load_images, load_textures
from dehaze_core.training.loop import Trainer
from dehaze_core.training.recipe import TrainRecipe
from dehaze_core.training.start import find_start

LIMITS = (
    "Trained on synthetic haze over display-encoded RGB pictures, not on pairs of real hazy and "
    "clear scenes.",
    "Opaque cloud cannot be removed; its rim may be darkened.",
    "Bright, uniform ground (snow, salt, dunes, pale concrete) can be taken for haze.",
)
"""Known failures of every model that is trained this way, for its card."""

HAZE_LIMITS = ("Roads, roofs and the sea under dense haze can come out purple or brown.",)
"""Those of models that answer with haze: an airlight a little off shows most in dark ground."""

PAINTING_LIMITS = (
    "Pixels are painted: fine texture that haze nearly hides can come out blurred or changed.",
)
"""Those of models that paint."""

GUIDED_LIMITS = (
    "Masks have helped little or not at all in our own comparison (docs/quality.md), and thin haze "
    "comes off better without one: compare with a model without a guide before relying on it.",
)
"""Those of models that segments guide."""


@dataclass(frozen=True, slots=True)
class TrainFolders:
    """Where a training run reads and writes.

    Attributes:
        data: Clear RGB images.
        textures: Grey images of real haze thickness, or None.
        out: Checkpoint, log, weights and card; a checkpoint there is resumed.
        masks: Label pictures of the clear images, or None.
    """

    data: Path
    textures: Path | None
    out: Path
    masks: Path | None = None


def train(
    folders: TrainFolders,
    recipe: TrainRecipe,
    device: str,
    threads: int | None,
    report: Callable[[str], None],
    start: Model | None = None,
) -> ModelCard:
    """Train a network and write its weights and card into the output folder.

    Args:
        folders: Where to read and write.
        recipe: Budget, seed and everything else that shapes the run.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads, all cores if None.
        report: Receives lines of text.
        start: Model to go on from; the one the recipe names, or random weights, if None.

    Returns:
        The card of the weights.

    Raises:
        DehazeError: There are no images, or a setting is wrong.
    """
    chosen, clear, validation = begin(folders.data, device, threads, report, folders.masks)
    if start is None and recipe.start is not None:
        start = find_start(recipe.start)
    place = for_training(chosen)
    textures = load_textures(folders.textures) if folders.textures is not None else []
    trainer = Trainer(
        recipe,
        HazyBatches(clear, textures, recipe.seed, recipe.batches, recipe.masks),
        HazyBatches(validation, textures, recipe.seed + 1, recipe.batches, recipe.masks),
        folders.out,
        place,
        report,
        None if start is None else _before_correction(start),
    )
    network = trainer.run()
    if isinstance(network, DehazeXLLite):
        network.raise_presence(prior_correction(recipe.batches.levels, recipe.clear_in_use))
    facts = {
        **data_facts(folders.data, clear, validation),
        "textures": len(textures),
        "steps": trainer.state.step,
        "minutes": round(trainer.state.seconds / 60, 1),
        "hardware": f"{place.description}, torch {torch.__version__}",
        "gflop_per_mpx": round(gflop_per_mpx(network), 2),
        "recipe": recipe.as_dict(),
    }
    if trainer.guide is not None:
        facts["guide"] = {"name": trainer.guide.name, "sha256": trainer.guide.sha256}
    if start is not None:
        facts["start"] = {"sha256": start.card.sha256, "training": start.card.training}
    scores = {"held_out": trainer.validate()}
    limits = (
        *LIMITS,
        *(PAINTING_LIMITS if network.paints else HAZE_LIMITS),
        *(GUIDED_LIMITS if network.guides else ()),
    )
    return save_model(network, recipe.architecture, folders.out, facts, scores, limits)


def begin(
    data: Path,
    device: str,
    threads: int | None,
    report: Callable[[str], None],
    masks: Path | None = None,
) -> tuple[Device, ImagePool, ImagePool]:
    """Choose where to train and load the clear images: those to train on, and those held out.

    Args:
        data: Clear RGB images.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads, all cores if None.
        report: Receives a line about both.
        masks: Label pictures of the images, or None.

    Raises:
        DehazeError: There is no such device, or there are no images or no masks of them.
    """
    keep_freed_memory()
    use_threads(threads)
    place = choose_device(cast(DeviceChoice, device))
    clear, held_out = load_images(data, masks=masks)
    report(
        f"{len(clear)} images of {len(clear.sites)} sites to train on, {len(held_out)} of "
        f"{len(held_out.sites)} held out; {place.description}"
    )
    return place, clear, held_out


def data_facts(folder: Path, clear: ImagePool, validation: ImagePool) -> dict[str, Any]:
    """Return what the card of a network tells of the clear images it was trained on.

    Args:
        folder: Folder of the images.
        clear: Those trained on.
        validation: Those held out.
    """
    return {
        "images": len(clear),
        "licences": licences(folder),
        "sites": sorted(clear.sites),
        "held_out_sites": sorted(validation.sites),
    }


def prior_correction(levels: Mapping[str, float], clear_in_use: float) -> float:
    """Return what to add to the logit of haze, as other scenes are met in use than in training.

    Bayes' rule: the odds of a class scale with the odds of meeting it (Saerens et al. 2002,
    "Adjusting the outputs of a classifier to new a priori probabilities").

    Args:
        levels: How often training draws each haze level.
        clear_in_use: Share of clear scenes among those that users have.
    """
    clear = levels.get("L0", 0.0)
    hazy = sum(levels.values()) - clear
    if not clear or not hazy:
        return 0.0
    return math.log(clear / hazy) - math.log(clear_in_use / (1 - clear_in_use))


def _before_correction(start: Model) -> StreamedNetwork:
    """Return the network of a trained model as it was before `prior_correction`."""
    network, recipe = start.network, start.card.training.get("recipe")
    if recipe and isinstance(network, DehazeXLLite):
        correction = prior_correction(recipe["batches"]["levels"], recipe["clear_in_use"])
        network.raise_presence(-correction)
    return network


def gflop_per_mpx(network: StreamedNetwork) -> float:
    """Return the operations of one pass over a picture, in 10^9 for 10^6 px."""
    side = 512
    channels = network.bands + network.guides
    picture = torch.rand(1, channels, side, side, device=next(network.parameters()).device)
    whole = torch.ones_like(picture[:, :1])
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(picture, whole, F.avg_pool2d(whole, TOKEN_PX)[:, 0])
    return float(counter.get_total_flops()) / 1e9 / (side**2 / 1e6)
