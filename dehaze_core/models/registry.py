# SPDX-License-Identifier: GPL-3.0-or-later
"""Models by name: cards as data, weights as safetensors, nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from dehaze_core.errors import ModelError
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig, parameter_count

WEIGHTS_FOLDER = Path(__file__).parent / "weights"

ARCHITECTURES = ("dehazexl-lite",)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known about a model.

    Attributes:
        name: Name by which it is chosen, equal to the file names of card and weights.
        architecture: Kind of network, one of `ARCHITECTURES`.
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


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its weights, on the CPU, ready for inference, and its card."""

    card: ModelCard
    network: DehazeXLLite


def list_models(folder: Path = WEIGHTS_FOLDER) -> list[ModelCard]:
    """Return the cards of all models in a folder, by name."""
    return [_read_card(path) for path in sorted(folder.glob("*.json"))]


def load_model(name: str, folder: Path = WEIGHTS_FOLDER) -> Model:
    """Load a model by name.

    Raises:
        ModelError: There is no such model (MODEL_UNKNOWN), its weights are missing
            (MODEL_WEIGHTS_MISSING), not those of the card (MODEL_DIGEST) or do not fit the network
            (MODEL_SHAPE).
    """
    known = {card.name: card for card in list_models(folder)}
    if name not in known:
        raise ModelError(
            f"There is no model '{name}'; known are {', '.join(known) or 'none'}.",
            hint="See 'dehaze models'.",
            code="MODEL_UNKNOWN",
        )
    card = known[name]
    path = folder / f"{name}.safetensors"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"The weights of model '{name}' cannot be read: {error}.",
            hint="Install Dehaze again.",
            code="MODEL_WEIGHTS_MISSING",
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise ModelError(
            f"The weights of model '{name}' have SHA-256 {digest[:12]}..., "
            f"its card says {card.sha256[:12]}...",
            hint="The file is damaged or was exchanged. Install Dehaze again.",
            code="MODEL_DIGEST",
        )
    return Model(card, _network(card, data))


def save_model(
    network: DehazeXLLite,
    name: str,
    folder: Path,
    training: dict[str, Any],
    scores: dict[str, Any] | None = None,
    limits: tuple[str, ...] = (),
) -> ModelCard:
    """Write a network as half-precision safetensors with its card beside it.

    Args:
        network: Trained network.
        name: Name of the model and of both files.
        folder: Where to write.
        training: Data, recipe, time and hardware, for the card.
        scores: Measured results, for the card.
        limits: Known failures, for the card.

    Returns:
        The card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.half().contiguous().cpu() for key, value in network.state_dict().items()}
    data = save_safetensors(tensors)
    card = ModelCard(
        name=name,
        architecture="dehazexl-lite",
        config=network.config.as_dict(),
        sha256=hashlib.sha256(data).hexdigest(),
        parameters=parameter_count(network),
        training=training,
        scores=scores or {},
        limits=limits,
    )
    (folder / f"{name}.safetensors").write_bytes(data)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(card.as_dict(), indent=2) + "\n", encoding="utf-8")
    return _read_card(path)


def _read_card(path: Path) -> ModelCard:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["limits"] = tuple(data.get("limits", ()))
        card = ModelCard(**data)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"The model card {path.name} cannot be read: {error}.", code="MODEL_CARD"
        ) from error
    if card.name != path.stem or card.architecture not in ARCHITECTURES:
        raise ModelError(
            f"The model card {path.name} is for model '{card.name}' of architecture "
            f"'{card.architecture}', expected '{path.stem}' of {', '.join(ARCHITECTURES)}.",
            code="MODEL_CARD",
        )
    return card


def _network(card: ModelCard, data: bytes) -> DehazeXLLite:
    try:
        network = DehazeXLLite(LiteConfig.from_dict(card.config))
        tensors = {key: value.float() for key, value in load_safetensors(data).items()}
        network.load_state_dict(tensors, strict=True)
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise ModelError(
            f"The weights of model '{card.name}' do not fit its network: {error}",
            code="MODEL_SHAPE",
        ) from error
    return network.eval().requires_grad_(False)
