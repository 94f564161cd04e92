# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: with a budget, resumable, with averaged weights."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from dehaze_core.engine.device import Device
from dehaze_core.errors import SettingsError
from dehaze_core.models.architectures import build_network
from dehaze_core.models.streaming import HAZE_PX, StreamedNetwork
from dehaze_core.training.batches import Batch, HazyBatches, StepSampler
from dehaze_core.training.budget import schedule
from dehaze_core.training.distillation import find_guidance, refuse_unguidable
from dehaze_core.training.log import LOSS, MINUTES, TrainLog
from dehaze_core.training.losses import evaluate
from dehaze_core.training.recipe import TrainRecipe
from dehaze_core.training.start import begin_with

CONTEXT_BUDGETS = (16, 64, 256, 1024)
"""Key budgets drawn while training, so that pooled context is nothing new at inference."""

CHECKPOINT, BEST = "state.pt", "best.pt"

VALIDATION_IMAGES = 16
"""Held-out images per level."""


@dataclass
class TrainState:
    """What a checkpoint holds."""

    model: StreamedNetwork
    average: StreamedNetwork
    optimiser: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains a network until its budget is used up or it has stopped to learn.

    With a recipe that has patience, the averaged weights of the lowest held-out loss are kept as
    `best.pt`, and a training that ends early returns those.

    Args:
        recipe: The recipe.
        train: Batches to train on.
        validation: Batches of held-out sites.
        folder: Where checkpoint (`state.pt`) and log (`log.csv`) live; a checkpoint found there
            is resumed.
        place: Device to train on, with its number format for matrix products.
        report: Receives one line of text now and then.
        start: Network whose weights training begins with; random ones if None.

    Attributes:
        guide: What the network is compared with beside the truth, in training only: held-out
            losses tell how well it dehazes, whoever guided it.

    Raises:
        SettingsError: The checkpoint in the folder is of another recipe, or the recipe's network
            cannot be guided as it says.
        ModelError: There is no such guide.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        train: HazyBatches,
        validation: HazyBatches,
        folder: Path,
        place: Device,
        report: Callable[[str], None],
        start: StreamedNetwork | None = None,
    ) -> None:
        self.recipe = recipe
        self.train_batches = train
        self.folder = folder
        self.place = place
        self.device = place.torch
        self.report = report
        folder.mkdir(parents=True, exist_ok=True)
        self.log = TrainLog(folder)
        torch.manual_seed(recipe.seed)
        model = _network(recipe)
        wanted = recipe.distillation
        self.guide = None if wanted is None else find_guidance(wanted, self.device)
        self.state = self._initial_state(model, start)
        self.validation = _validation_set(validation, recipe.seed)

    def run(self) -> StreamedNetwork:
        """Train to the end and return the averaged network."""
        state, recipe = self.state, self.recipe
        budget, pause = recipe.budget, recipe.validate_every * 60
        if state.step == 0:
            self._validate_and_save(math.nan)
        loader = DataLoader(
            self.train_batches,
            batch_size=None,
            sampler=StepSampler(state.step),
            num_workers=recipe.workers,
            prefetch_factor=4 if recipe.workers else None,
        )
        losses: list[float] = []
        tick = time.monotonic()
        next_validation = state.seconds + pause
        for batch in loader:
            losses.append(self._step(batch, budget.used(state.step, state.seconds)))
            now = time.monotonic()
            state.seconds += now - tick
            tick = now
            done = budget.used(state.step, state.seconds) >= 1
            if state.seconds >= next_validation or done:
                self._validate_and_save(sum(losses) / len(losses))
                losses.clear()
                next_validation = state.seconds + pause
                tick = time.monotonic()
                done = done or self._has_stopped_to_learn()
            if done:
                break
        return state.average

    def _has_stopped_to_learn(self) -> bool:
        patience = self.recipe.patience
        if patience is None or self.log.since_best() < patience:
            return False
        self.report(f"The held-out loss was lower {patience} validations ago; stopping.")
        best = self.folder / BEST
        # A run that was given patience only later may have its best behind it.
        if best.is_file():
            self.state.average.load_state_dict(
                torch.load(best, map_location=self.device, weights_only=True)
            )
        return True

    def validate(self) -> dict[str, float]:
        """Score the averaged network on held-out sites.

        Returns:
            The mean loss, the mean PSNR in dB per haze level, and the RMS change in DN of L0.
        """
        model = self.state.average.eval()
        scores: dict[str, float] = {}
        losses = []
        with torch.inference_mode():
            for level, batch in self.validation.items():
                outcome = evaluate(model, batch.to(self.device), self.recipe.weights)
                losses.append(float(outcome.loss))
                if level == "L0":
                    scores["L0_rms_dn"] = float(outcome.mse.sqrt().mean()) * 255
                else:
                    scores[level] = float((-10 * torch.log10(outcome.mse)).mean())
        return {LOSS: sum(losses) / len(losses), **scores}

    def _step(self, batch: Batch, progress: float) -> float:
        state, recipe = self.state, self.recipe
        state.model.train()
        rate = recipe.learning_rate * schedule(progress, recipe.warmup)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        budget = CONTEXT_BUDGETS[state.step % len(CONTEXT_BUDGETS)]
        # Haze is smooth: one pixel of every cell, another one in each step, says as much as all.
        row, col = divmod(state.step * 7 % HAZE_PX**2, HAZE_PX)
        with self.place.autocast_context():
            loss: Tensor = evaluate(
                state.model, batch.to(self.device), recipe.weights, budget, (row, col), self.guide
            ).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
        if bool(torch.isfinite(norm)):
            state.optimiser.step()
        state.optimiser.zero_grad()
        state.step += 1
        _average(state.average, state.model, min(recipe.ema, (1 + state.step) / (10 + state.step)))
        return loss.item()

    def _initial_state(self, model: StreamedNetwork, start: StreamedNetwork | None) -> TrainState:
        if start is not None:
            begin_with(model, start)
        model = model.to(self.device)
        average = _network(self.recipe).to(self.device).requires_grad_(False)
        average.load_state_dict(model.state_dict())
        optimiser = torch.optim.AdamW(
            model.parameters(),
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )
        if self.recipe.checkpointing:
            _recompute_stages(model)
        state = TrainState(model, average, optimiser)
        path = self.folder / CHECKPOINT
        if path.is_file():
            saved = torch.load(path, map_location=self.device, weights_only=True)
            self._refuse_other_recipe(saved)
            model.load_state_dict(saved["model"])
            average.load_state_dict(saved["average"])
            optimiser.load_state_dict(saved["optimiser"])
            state.step, state.seconds = saved["step"], saved["seconds"]
            self.report(f"Resumed at step {state.step} after {state.seconds / 60:.1f} min.")
        return state

    def _refuse_other_recipe(self, saved: dict[str, Any]) -> None:
        mine = self._shaping()
        # Checkpoints of earlier versions do not tell all.
        theirs = {**mine, **saved.get("recipe", {})}
        other = sorted(name for name in mine if theirs[name] != mine[name])
        if other:
            raise SettingsError(
                f"The checkpoint in {self.folder} is of a recipe with other values of "
                f"{', '.join(other)}.",
                hint="Choose another --out, or go on with the recipe it was begun with.",
            )

    def _shaping(self) -> dict[str, Any]:
        """Return what must not change when the training is resumed."""
        return {**self.recipe.shaping(), "guide": None if self.guide is None else self.guide.sha256}

    def _save(self) -> None:
        state = self.state
        self._write(
            CHECKPOINT,
            {
                "model": state.model.state_dict(),
                "average": state.average.state_dict(),
                "optimiser": state.optimiser.state_dict(),
                "step": state.step,
                "seconds": state.seconds,
                "recipe": self._shaping(),
            },
        )

    def _write(self, name: str, content: dict[str, Any]) -> None:
        partial = self.folder / f"{name}.partial"
        torch.save(content, partial)
        os.replace(partial, self.folder / name)

    def _validate_and_save(self, loss: float) -> None:
        state = self.state
        scores = self.validate()
        self._save()
        row = {MINUTES: round(state.seconds / 60, 2), "step": state.step, "loss": loss, **scores}
        self.log.add(row)
        if self.recipe.patience is not None and self.log.since_best() == 0:
            self._write(BEST, state.average.state_dict())
        self.log.draw()
        self.report("  ".join(f"{k} {v:.4g}" for k, v in row.items()))


def _network(recipe: TrainRecipe) -> StreamedNetwork:
    """Return the untrained network of a recipe.

    Raises:
        SettingsError: The recipe's crops are not made of whole patches of the network, only one of
            both has guides, or it cannot be distilled as the recipe says.
    """
    network = build_network(recipe.architecture, recipe.config.as_dict())
    odd = [side for side, _, _ in recipe.batches.shapes if side % network.unit_px]
    if odd:
        raise SettingsError(
            f"The recipe has crops of {odd[0]} px, expected multiples of {network.unit_px} px for "
            f"{recipe.architecture}."
        )
    if bool(network.guides) != (recipe.masks is not None):
        raise SettingsError(
            f"The recipe has {'no' if recipe.masks is None else 'a'} table [guide], but "
            f"{recipe.architecture} is a network with{'' if network.guides else 'out'} guides.",
            hint="A network with guides needs that table, and one without must not have it.",
        )
    if recipe.distillation is not None:
        refuse_unguidable(network, recipe.distillation.kind)
    return network


def _recompute_stages(model: StreamedNetwork) -> None:
    """Keep only the inputs of the encoder's and decoder's stages for the way back."""
    for stage in model.stages():
        stage.forward = partial(checkpoint, stage.forward, use_reentrant=False)


@torch.no_grad()
def _average(average: StreamedNetwork, model: StreamedNetwork, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)


def _validation_set(batches: HazyBatches, seed: int) -> dict[str, Batch]:
    """Return a fixed batch per level, and one of large scenes (`large`) with haze of level L3.

    In every batch guides are made of the recipe's sources, each as often as it says.
    """
    rng = np.random.default_rng(seed)

    levels = ("L0", "L1", "L2", "L3", "L4")
    result = {level: batches.fixed(rng, 256, level, VALIDATION_IMAGES) for level in levels}
    result["large"] = batches.fixed(rng, 1024, "L3", max(VALIDATION_IMAGES // 5, 1))
    return result
