# SPDX-License-Identifier: GPL-3.0-or-later
"""Model names and model cards: small JSON files, read with suspicion."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dehaze_core.errors import ModelError
from dehaze_core.places import MOST_CARD_BYTES

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TYPES = {
    "name": str,
    "architecture": str,
    "config": dict,
    "sha256": str,
    "parameters": int,
    "licence": str,
    "training": dict,
    "scores": dict,
    "limits": list,
}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known about a model.

    Attributes:
        name: Name by which it is chosen, equal to the file names of card and weights.
        architecture: Kind of network, one of `architectures.ARCHITECTURES`.
        config: Shape of the network.
        sha256: Digest of the weights file.
        parameters: Number of trained values.
        licence: Licence of the weights.
        training: How it was trained: data, recipe, time, hardware.
        scores: Measured results.
        limits: Known failures, one sentence each.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    sha256: str
    parameters: int
    licence: str = "GPL-3.0-or-later"
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the card as JSON-able data."""
        return asdict(self)


def check_name(name: object) -> None:
    """Refuse names that could be anything but a plain file name.

    Names come from job files and command lines and become file names, so that path parts, capitals
    (two names for one file on some systems) and odd characters have no place in them.

    Raises:
        ModelError: The name is not plain (MODEL_NAME).
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ModelError(
            f"{str(name)[:80]!r} is no model name; expected are up to 64 lower-case letters, "
            "digits, dots, dashes and underscores, a letter or digit first and last.",
            hint="See 'dehaze models'.",
            code="MODEL_NAME",
        )


def read_card(path: Path) -> ModelCard:
    """Read a model card.

    Raises:
        ModelError: The file is no card of the model it is named after (MODEL_CARD).
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_CARD_BYTES + 1)
        if len(data) > MOST_CARD_BYTES:
            raise ValueError(f"it is larger than {MOST_CARD_BYTES >> 10} KiB")
        return _card(json.loads(data.decode("utf-8")), path.stem)
    # Deeply nested JSON ends in RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"The model card {path.name} cannot be read: {error}.",
            hint="Install Dehaze again, or import the model again.",
            code="MODEL_CARD",
        ) from error


def _card(content: object, name: str) -> ModelCard:
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    unknown = sorted(set(content) - set(_TYPES))
    missing = sorted({"name", "architecture", "config", "sha256", "parameters"} - set(content))
    if unknown or missing:
        raise ValueError(f"unknown fields {unknown[:5]}, missing fields {missing}")
    for key, value in content.items():
        if type(value) is not _TYPES[key]:
            raise ValueError(f"'{key}' is of type {type(value).__name__}")
    if content["name"] != name:
        raise ValueError(f"it is for model {content['name'][:80]!r}, expected '{name}'")
    if not _SHA256.fullmatch(content["sha256"]):
        raise ValueError("its sha256 is not 64 hexadecimal digits")
    limits = content.get("limits", [])
    if not all(isinstance(text, str) for text in limits):
        raise ValueError("its limits are not texts")
    return ModelCard(**{**content, "limits": tuple(limits)})
