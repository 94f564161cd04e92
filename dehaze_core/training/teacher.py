# SPDX-License-Identifier: GPL-3.0-or-later
"""Training of a teacher: it learns to double the resolution of clear pictures.

The first of the two stages of Rich Feature Distillation (Mitheran et al. 2022, arXiv 2207.11250):
mean square error of every band. A fine picture is a crop, the coarse one its means over 2 x 2
display values; the published code enlarges pictures by interpolation and learns that instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.errors import SettingsError
from dehaze_core.models import ModelCard
from dehaze_core.models.student.teacher import SCALE, Teacher, TeacherConfig
from dehaze_core.models.teachers import save_teacher
from dehaze_core.training.budget import Budget, schedule
from dehaze_core.training.imagery import ImagePool
from dehaze_core.training.session import begin, data_facts

HELD_OUT_CROPS = 32
"""Crops of held-out sites on which a teacher is scored."""

_BANDS = 3
_WARMUP = 0.05
_REPORTS = 10


@dataclass(frozen=True, slots=True)
class TeacherRecipe:
    """What shapes the training of a teacher.

    Attributes:
        budget: How long it lasts; the learning rate follows.
        learning_rate: Peak rate of AdamW.
        clip: Largest gradient norm.
        side: Side of the fine crops in px.
        count: Crops of a step.
        seed: Seed of crops and initial weights.
        config: Shape of the teacher, for pictures of three bands.

    Raises:
        SettingsError: A value is out of range.
    """

    budget: Budget = field(default_factory=lambda: Budget(steps=10_000))
    learning_rate: float = 5e-3
    clip: float = 1.0
    side: int = 64
    count: int = 8
    seed: int = 20
    config: TeacherConfig = field(default_factory=TeacherConfig)

    def __post_init__(self) -> None:
        """Check what a user can choose."""
        if self.seed < 0:
            raise SettingsError(f"'seed' is {self.seed!r}, expected a whole number >= 0.")
        if self.config.bands != _BANDS:
            raise SettingsError(f"A teacher has {self.config.bands} bands, expected {_BANDS}.")


def train_teacher(
    data: Path,
    out: Path,
    recipe: TeacherRecipe,
    device: str,
    threads: int | None,
    report: Callable[[str], None],
) -> ModelCard:
    """Train a teacher and write its weights and card; a training that is stopped leaves nothing.

    Args:
        data: Clear RGB images.
        out: Folder for weights and card.
        recipe: Budget, seed and everything else that shapes the run.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads, all cores if None.
        report: Receives lines of text.

    Returns:
        The card of the weights.

    Raises:
        DehazeError: There are no images, a setting is wrong, or the training has diverged.
    """
    place, clear, held_out = begin(data, device, threads, report)
    rng = np.random.default_rng(recipe.seed)
    fine = draw(held_out, rng, recipe.side, HELD_OUT_CROPS).to(place.torch)
    torch.manual_seed(recipe.seed)
    network = Teacher(recipe.config).to(place.torch)
    steps, seconds = _learn(network, clear, fine, recipe, report)
    facts = {
        **data_facts(data, clear, held_out),
        "steps": steps,
        "minutes": round(seconds / 60, 1),
        "hardware": f"{place.description}, torch {torch.__version__}",
        "recipe": asdict(recipe),
    }
    scores = {"PSNR": psnr(network, fine), "PSNR of bicubic interpolation": psnr(bicubic, fine)}
    return save_teacher(network, out, facts, {"held_out": scores})


def _learn(
    network: Teacher,
    clear: ImagePool,
    held_out: Tensor,
    recipe: TeacherRecipe,
    report: Callable[[str], None],
) -> tuple[int, float]:
    """Train a network until its budget is used up, and return the steps and seconds it took."""
    # In float32 on every device: the error of a good teacher is below the steps of half precision.
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=0.0)
    rng = np.random.default_rng((recipe.seed, 1))
    budget, began, steps, reports = recipe.budget, time.monotonic(), 0, 0
    while (progress := budget.used(steps, time.monotonic() - began)) < 1:
        if progress * _REPORTS >= reports:
            reports = int(progress * _REPORTS) + 1
            report(f"step {steps}  {_compared(network, held_out)}")
        fine = draw(clear, rng, recipe.side, recipe.count).to(held_out.device)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * schedule(progress, _WARMUP)
        loss = F.mse_loss(network(coarse(fine)).image, fine)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimiser.step()
        steps += 1
    report(f"{steps} steps  {_compared(network, held_out)}")
    return steps, time.monotonic() - began


def draw(pool: ImagePool, rng: np.random.Generator, side: int, count: int) -> Tensor:
    """Return crops of clear pictures, (count, 3, side, side) float32 display-encoded, [0, 1]."""
    crops = np.stack([pool.crop(rng, side) for _ in range(count)])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def coarse(fine: Tensor) -> Tensor:
    """Return pictures (N, B, H, W) at half the resolution: means of display values."""
    return F.avg_pool2d(fine, SCALE)


def bicubic(picture: Tensor) -> Tensor:
    """Return pictures (N, B, H, W) at twice the resolution, interpolated."""
    return F.interpolate(picture, scale_factor=SCALE, mode="bicubic")


@torch.inference_mode()
def psnr(enlarge: Teacher | Callable[[Tensor], Tensor], fine: Tensor) -> float:
    """Return the mean PSNR in dB with which pictures are found again from coarse ones.

    Args:
        enlarge: A teacher, or any function from coarse to fine pictures.
        fine: (N, B, H, W) the pictures, [0, 1].
    """
    found = enlarge(coarse(fine))
    image = found if isinstance(found, Tensor) else found.image
    errors = (image.clamp(0.0, 1.0) - fine).square().mean(dim=(1, 2, 3))
    return float((-10 * torch.log10(errors.clamp_min(1e-10))).mean())


def _compared(network: Teacher, held_out: Tensor) -> str:
    return (
        f"held-out PSNR {psnr(network, held_out):.2f} dB, bicubic {psnr(bicubic, held_out):.2f} dB"
    )
