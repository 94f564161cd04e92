# SPDX-License-Identifier: GPL-3.0-or-later
"""Guidance: what a student is told beside the truth, by a network that is trained already.

A super-resolution teacher sees the clear picture, and the student is to find the same places alike
(`dehaze_core.training.affinity`): in its output, as the published code of Rich Feature Distillation
compares, or in its features at three depths, as its paper says (Mitheran et al. 2022, arXiv
2207.11250). Or another model dehazes the same picture, and the student is to paint what it does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.errors import SettingsError
from dehaze_core.models import load_model
from dehaze_core.models.streaming import PaintedImage, StreamedNetwork
from dehaze_core.models.student.student import Student
from dehaze_core.models.student.teacher import SCALE, Teacher, TeacherAnswer
from dehaze_core.models.teachers import load_teacher
from dehaze_core.training.affinity import AffinityKind, affinity_loss
from dehaze_core.training.batches import Batch
from dehaze_core.training.losses import Guide, as_seen, restored, shown, token_weight
from dehaze_core.training.recipe import Distillation

CELL_PX = 4
"""Side of the cells over which pictures and features are averaged before they are compared."""

_SCALES = 3
"""Features a teacher offers: of its first layer, before its last, and its picture."""

_BANDS = 3
"""Bands of the pictures of a batch."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """A guide with its weight, and which network it is made of.

    Attributes:
        compare: The guide.
        weight: Its weight in the loss.
        name: Name of the network behind it.
        sha256: Digest of that network's weights.
    """

    compare: Guide
    weight: float
    name: str
    sha256: str

    def __call__(self, batch: Batch, answer: PaintedImage) -> Tensor:
        """Return the weighted loss, in float32 also under autocast: small differences count."""
        with torch.autocast(batch.hazy.device.type, enabled=False):
            return self.weight * self.compare(batch, answer)


@dataclass(frozen=True, slots=True)
class TeacherGuide(ABC):
    """Affinities of the student and of a teacher.

    Attributes:
        teacher: Sees the clear picture, on the device of the training.
        loss: How affinities are compared.
    """

    teacher: Teacher
    loss: AffinityKind

    @abstractmethod
    def __call__(self, batch: Batch, answer: PaintedImage) -> Tensor:
        """Return the loss."""

    @torch.no_grad()
    def taught(self, batch: Batch) -> TeacherAnswer:
        """Return what the teacher finds in the clear pictures."""
        answer: TeacherAnswer = self.teacher(as_seen(batch.clear, batch.valid))
        return answer


class OutputGuide(TeacherGuide):
    """Affinities of the student's picture and of the teacher's, as published in code.

    With `l2` the norm is divided by the square of the number of positions P: the root of the mean
    square once more by P. So little of it is left (P is 4,096 for a crop of 256 px) that the
    published weight of 0.25 hardly moves anything.
    """

    def __call__(self, batch: Batch, answer: PaintedImage) -> Tensor:
        """Return the loss."""
        wanted = _positions(self.taught(batch).image, SCALE * CELL_PX)
        loss = affinity_loss(_positions(answer.clear, CELL_PX), wanted, self.loss, _whole(batch))
        return loss / wanted.shape[-1] if self.loss == "l2" else loss


class FeatureGuide(TeacherGuide):
    """Affinities of the features of three depths, the mean over them, as the paper says.

    Features are brought to length 1 at every position, so that affinities are cosines and their
    scale, which differs between networks and layers, has no part in it.
    """

    def __call__(self, batch: Batch, answer: PaintedImage) -> Tensor:
        """Return the loss."""
        seen = self.taught(batch)
        wanted = [
            F.normalize(_positions(features, cell), dim=1)
            for features, cell in (
                (seen.first, CELL_PX),
                (seen.mid, CELL_PX),
                (seen.image, SCALE * CELL_PX),
            )
        ]
        whole = _whole(batch)
        losses = [
            affinity_loss(F.normalize(_positions(own, CELL_PX), dim=1), theirs, self.loss, whole)
            for own, theirs in zip(answer.features, wanted, strict=True)
        ]
        return torch.stack(losses).mean()


@dataclass(frozen=True, slots=True)
class ModelGuide:
    """Mean absolute difference to what another model makes of the same hazy pictures.

    Attributes:
        network: The model, on the device of the training.
    """

    network: StreamedNetwork

    def __call__(self, batch: Batch, answer: PaintedImage) -> Tensor:
        """Return the loss over valid pixels, in display values."""
        valid = batch.valid.float()
        seen = shown(self.network, batch)
        with torch.no_grad():
            found = self.network(seen, valid, token_weight(valid))
            wanted = restored(found, seen[:, : self.network.bands]).clamp(0.0, 1.0)
        difference = (answer.clear.float() - wanted).abs().mean(dim=1, keepdim=True)
        return (difference * valid).sum() / valid.sum().clamp_min(1.0)


def find_guidance(wanted: Distillation, device: torch.device) -> Guidance:
    """Load what a recipe names for guidance.

    Args:
        wanted: Part of the recipe.
        device: Where the training runs.

    Raises:
        ModelError: There is no such teacher or model, or it is damaged.
        SettingsError: The teacher is for pictures with other bands.
    """
    if wanted.kind == "model":
        model = load_model(wanted.model)
        guide: Guide = ModelGuide(model.network.to(device))
        return Guidance(guide, wanted.weight, model.card.name, model.card.sha256)
    teacher = load_teacher(wanted.teacher)
    if teacher.network.config.bands != _BANDS:
        raise SettingsError(
            f"The teacher '{wanted.teacher}' is for pictures of {teacher.network.config.bands} "
            f"bands, expected {_BANDS}."
        )
    network = teacher.network.to(device)
    guide = (OutputGuide if wanted.kind == "outputs" else FeatureGuide)(network, wanted.loss)
    return Guidance(guide, wanted.weight, teacher.card.name, teacher.card.sha256)


def refuse_unguidable(network: StreamedNetwork, kind: str) -> None:
    """Refuse guidance for a network that has nothing to compare.

    Raises:
        SettingsError: The network does not paint, or has no features at three depths.
    """
    if not network.paints:
        raise SettingsError(
            f"A guide of the kind '{kind}' compares painted pictures, but "
            f"{network.architecture} answers with haze.",
            hint="Train 'distilled', or leave the guide out.",
        )
    if kind == "features" and not (
        isinstance(network, Student) and network.config.outer == _SCALES
    ):
        raise SettingsError(
            f"A guide of the kind 'features' compares features of {_SCALES} groups of layers, "
            f"which this {network.architecture} does not have.",
            hint=f"Train 'distilled' with outer = {_SCALES}, or choose the guide 'outputs' or "
            "'model'.",
        )


def _positions(features: Tensor, cell: int) -> Tensor:
    """Average over cells of so many pixels and list them, (N, C, P)."""
    return F.avg_pool2d(features.float(), cell).flatten(2)


def _whole(batch: Batch) -> Tensor:
    """Return which cells have valid pixels only, (N, P) bool: the others do not count."""
    return _positions(batch.valid, CELL_PX)[:, 0] == 1
