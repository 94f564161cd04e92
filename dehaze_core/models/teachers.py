# SPDX-License-Identifier: GPL-3.0-or-later
"""Trained teachers by name: they guide a training, and are no models that dehaze.

Card and weights are those of models (`dehaze_core.models.registry`), in a folder of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dehaze_core.errors import ModelError
from dehaze_core.models.architectures import check_finite, check_shape
from dehaze_core.models.cards import ModelCard, check_name, read_card
from dehaze_core.models.registry import WEIGHTS_FOLDER, read_weights, refusals_of, save_model
from dehaze_core.models.student.teacher import Teacher, TeacherConfig

TEACHERS_FOLDER = WEIGHTS_FOLDER / "teachers"
"""Where the teachers lie that come with Dehaze."""

_GROWTH = 8
"""A teacher from a card may be this many times as wide or deep as the published one."""


@dataclass(frozen=True, slots=True)
class TrainedTeacher:
    """A teacher with its weights, on the CPU, frozen, and its card."""

    card: ModelCard
    network: Teacher


def teacher_name(config: TeacherConfig) -> str:
    """Return the name a teacher of ours has: separable convolutions are DSC, others MC."""
    return f"{Teacher.architecture}-{'dsc' if config.separable else 'mc'}"


def load_teacher(name: str) -> TrainedTeacher:
    """Load a teacher.

    Args:
        name: Name of one that comes with Dehaze, or path of a `.safetensors` file with its card
            beside it.

    Raises:
        ModelError: There is none (MODEL_UNKNOWN), its name is not plain (MODEL_NAME), its card is
            damaged (MODEL_CARD) or not of a teacher (MODEL_ARCHITECTURE), its weights are not
            finite (MODEL_VALUES), or as for the weights of any model.
    """
    path = Path(name)
    if path.suffix != ".safetensors":
        check_name(name)
        path = TEACHERS_FOLDER / f"{name}.safetensors"
    if not path.with_suffix(".json").is_file():
        known = ", ".join(sorted(card.stem for card in TEACHERS_FOLDER.glob("*.json")))
        raise ModelError(
            f"There is no teacher '{name}'; known are {known or 'none'}.",
            hint="'dehaze train teacher --data FOLDER --out TEACHERS' trains one; give its "
            ".safetensors file with --teacher.",
            code="MODEL_UNKNOWN",
        )
    card = read_card(path.with_suffix(".json"))
    with refusals_of(card.name):
        network = _untrained(card)
        tensors = read_weights(path, card, network)
        check_finite(tensors)
        network.load_state_dict(tensors, strict=True)
    return TrainedTeacher(card, network.eval().requires_grad_(False))


def save_teacher(
    network: Teacher, folder: Path, training: dict[str, Any], scores: dict[str, Any]
) -> ModelCard:
    """Write a teacher as half-precision safetensors with its card beside it.

    Args:
        network: Trained teacher; it gets the name of its kind.
        folder: Where to write.
        training: Data, recipe, time and hardware, for the card.
        scores: Measured results, for the card.

    Returns:
        The card.

    Raises:
        ModelError: The weights are not finite (MODEL_VALUES), or the folder cannot be written
            (MODEL_FOLDER).
    """
    check_finite(network.state_dict())
    return save_model(network, teacher_name(network.config), folder, training, scores)


def _untrained(card: ModelCard) -> Teacher:
    if card.architecture != Teacher.architecture:
        raise ModelError(
            f"It is a {card.architecture[:80]!r}, expected a teacher, '{Teacher.architecture}'.",
            hint="Name a teacher; models that dehaze guide with --guide model.",
            code="MODEL_ARCHITECTURE",
        )
    default = TeacherConfig().as_dict()
    try:
        check_shape(card.config, default, _GROWTH)
        return Teacher(TeacherConfig.from_dict({**default, **card.config}))
    except (LookupError, ValueError, TypeError) as error:
        raise ModelError(
            f"There is no teacher of this shape: {error}.", code="MODEL_CARD"
        ) from error
