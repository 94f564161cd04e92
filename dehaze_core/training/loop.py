# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop of `dehazexl-lite`: budgeted by time, resumable, with averaged weights."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dehaze_core.engine.device import Device
from dehaze_core.errors import SettingsError
from dehaze_core.models.dehazexl.lite import HAZE_PX, DehazeXLLite, LiteConfig
from dehaze_core.training.batches import Batch, HazyBatches, StepSampler, stack
from dehaze_core.training.losses import LossWeights, evaluate

CONTEXT_BUDGETS = (16, 64, 256, 4096)
"""Key budgets drawn while training, so that pooled context is nothing new at inference."""

VALIDATION_IMAGES = 16
"""Held-out images per level."""


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """Everything that shapes a training run.

    Attributes:
        minutes: Time budget over all resumed parts; the learning rate follows it.
        learning_rate: Peak rate of AdamW.
        warmup: Share of the budget in which the rate rises.
        weight_decay: Of AdamW.
        clip: Largest gradient norm.
        ema: Decay of the averaged weights per step.
        seed: Seed of the batches and the initial weights.
        workers: Processes that make batches.
        config: Shape of the network.
        weights: Weights of the loss.
    """

    minutes: float
    learning_rate: float = 1e-3
    warmup: float = 0.02
    weight_decay: float = 0.01
    clip: float = 0.5
    ema: float = 0.998
    seed: int = 20
    workers: int = 1
    config: LiteConfig = field(default_factory=LiteConfig)
    weights: LossWeights = field(default_factory=LossWeights)

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return asdict(self)


@dataclass
class TrainState:
    """What a checkpoint holds."""

    model: DehazeXLLite
    average: DehazeXLLite
    optimiser: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains a `DehazeXLLite` until its time budget is used up.

    Args:
        recipe: The recipe.
        train: Batches to train on.
        validation: Batches of held-out sites.
        folder: Where checkpoint (`state.pt`) and log (`log.csv`) live; a checkpoint found there
            is resumed.
        place: Device to train on, with its number format for matrix products.
        report: Receives one line of text now and then.
    """

    validate_every = 300.0
    """Seconds between validations and checkpoints."""

    def __init__(
        self,
        recipe: TrainRecipe,
        train: HazyBatches,
        validation: HazyBatches,
        folder: Path,
        place: Device,
        report: Callable[[str], None],
    ) -> None:
        if recipe.minutes <= 0:
            raise SettingsError(
                f"A training budget of {recipe.minutes} minutes was given, expected > 0."
            )
        self.recipe = recipe
        self.train_batches = train
        self.folder = folder
        self.place = place
        self.device = place.torch
        self.report = report
        folder.mkdir(parents=True, exist_ok=True)
        self.validation = _validation_set(validation, recipe.seed)
        self.state = self._initial_state()

    def run(self) -> DehazeXLLite:
        """Train until the budget is used up and return the averaged network."""
        state, recipe = self.state, self.recipe
        budget = recipe.minutes * 60
        loader = DataLoader(
            self.train_batches,
            batch_size=None,
            sampler=StepSampler(state.step),
            num_workers=recipe.workers,
            prefetch_factor=4 if recipe.workers else None,
        )
        losses: list[float] = []
        tick = time.monotonic()
        next_validation = state.seconds + self.validate_every
        for batch in loader:
            losses.append(self._step(batch, state.seconds / budget))
            now = time.monotonic()
            state.seconds += now - tick
            tick = now
            done = state.seconds >= budget
            if state.seconds >= next_validation or done:
                self._log(sum(losses) / len(losses))
                losses.clear()
                next_validation = state.seconds + self.validate_every
                tick = time.monotonic()
            if done:
                break
        return state.average

    def validate(self) -> dict[str, float]:
        """Return mean PSNR in dB per haze level on held-out sites, and RMS change in DN on L0."""
        model = self.state.average.eval()
        result: dict[str, float] = {}
        with torch.inference_mode():
            for level, batch in self.validation.items():
                mse = evaluate(model, batch.to(self.device), self.recipe.weights).mse
                if level == "L0":
                    result["L0_rms_dn"] = float(mse.sqrt().mean()) * 255
                else:
                    result[level] = float((-10 * torch.log10(mse)).mean())
        return result

    def _step(self, batch: Batch, progress: float) -> float:
        state, recipe = self.state, self.recipe
        state.model.train()
        rate = recipe.learning_rate * _schedule(progress, recipe.warmup)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        budget = CONTEXT_BUDGETS[state.step % len(CONTEXT_BUDGETS)]
        # Haze is smooth: one pixel of every cell, another one in each step, says as much as all.
        row, col = divmod(state.step * 7 % HAZE_PX**2, HAZE_PX)
        with self.place.autocast_context():
            loss: Tensor = evaluate(
                state.model, batch.to(self.device), recipe.weights, budget, (row, col)
            ).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
        if bool(torch.isfinite(norm)):
            state.optimiser.step()
        state.optimiser.zero_grad()
        state.step += 1
        _average(state.average, state.model, min(recipe.ema, (1 + state.step) / (10 + state.step)))
        return loss.item()

    def _initial_state(self) -> TrainState:
        torch.manual_seed(self.recipe.seed)
        model = DehazeXLLite(self.recipe.config).to(self.device)
        average = DehazeXLLite(self.recipe.config).to(self.device).requires_grad_(False)
        average.load_state_dict(model.state_dict())
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay
        )
        state = TrainState(model, average, optimiser)
        path = self.folder / "state.pt"
        if path.is_file():
            saved = torch.load(path, map_location=self.device, weights_only=True)
            model.load_state_dict(saved["model"])
            average.load_state_dict(saved["average"])
            optimiser.load_state_dict(saved["optimiser"])
            state.step, state.seconds = saved["step"], saved["seconds"]
            self.report(f"Resumed at step {state.step} after {state.seconds / 60:.1f} min.")
        return state

    def _save(self) -> None:
        state = self.state
        partial = self.folder / "state.partial"
        torch.save(
            {
                "model": state.model.state_dict(),
                "average": state.average.state_dict(),
                "optimiser": state.optimiser.state_dict(),
                "step": state.step,
                "seconds": state.seconds,
            },
            partial,
        )
        os.replace(partial, self.folder / "state.pt")

    def _log(self, loss: float) -> None:
        scores = self.validate()
        self._save()
        row = {"minutes": round(self.state.seconds / 60, 2), "step": self.state.step, "loss": loss}
        row.update(scores)
        path = self.folder / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        self.report("  ".join(f"{k} {v:.4g}" for k, v in row.items()))


def _schedule(progress: float, warmup: float) -> float:
    if progress < warmup:
        return progress / warmup
    return 0.01 + 0.99 * 0.5 * (
        1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup)))
    )


@torch.no_grad()
def _average(average: DehazeXLLite, model: DehazeXLLite, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)


def _validation_set(batches: HazyBatches, seed: int) -> dict[str, Batch]:
    """Return a fixed batch per level, and one of large scenes (`large`) with haze of level L3."""
    rng = np.random.default_rng(seed)

    def draw(level: str, side: int, count: int) -> Batch:
        return stack([batches.sample(rng, side, level) for _ in range(count)])

    levels = ("L0", "L1", "L2", "L3", "L4")
    result = {level: draw(level, 256, VALIDATION_IMAGES) for level in levels}
    result["large"] = draw("L3", 1024, max(VALIDATION_IMAGES // 5, 1))
    return result
