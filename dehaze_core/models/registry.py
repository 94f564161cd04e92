# SPDX-License-Identifier: GPL-3.0-or-later
"""Models by name: cards as data, weights as safetensors, nothing else.

Models come with Dehaze (`WEIGHTS_FOLDER`) or are the user's own (`models_folder`). A name that
comes with Dehaze always means the model that does.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from dehaze_core.errors import ModelError
from dehaze_core.models.architectures import ARCHITECTURES, build_network, check_layout
from dehaze_core.models.cards import ModelCard, check_name, read_card
from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.safetensors_header import MOST_HEADER_BYTES, read_outline
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.models.student.teacher import Teacher
from dehaze_core.places import models_folder

WEIGHTS_FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its weights, on the CPU, ready for inference, and its card."""

    card: ModelCard
    network: StreamedNetwork


def list_models(folder: Path | None = None) -> list[ModelCard]:
    """Return the cards of all models by name, those that come with Dehaze first.

    A damaged card among the user's own models is warned of and left out.

    Args:
        folder: List only the models in this folder, and refuse damaged cards.

    Raises:
        ModelError: A card is damaged (MODEL_CARD).
    """
    if folder is not None:
        return [read_card(path) for path in sorted(folder.glob("*.json"))]
    cards = list_models(WEIGHTS_FOLDER)
    shipped = {card.name for card in cards}
    for path in sorted(models_folder().glob("*.json")):
        try:
            check_name(path.stem)
            card = read_card(path)
        except ModelError as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        if card.name not in shipped:
            cards.append(card)
    return cards


def is_shipped(name: str) -> bool:
    """Tell whether a model of this name comes with Dehaze."""
    return _is_in(WEIGHTS_FOLDER, name)


def load_model(name: str, folder: Path | None = None) -> Model:
    """Load a model by name.

    Args:
        name: Name of the model.
        folder: Look in this folder only.

    Raises:
        ModelError: The name is not plain (MODEL_NAME), there is no such model (MODEL_UNKNOWN), its
            card is damaged (MODEL_CARD) or of an unknown kind (MODEL_ARCHITECTURE), its weights are
            missing (MODEL_WEIGHTS_MISSING), too large (MODEL_SIZE), not those of the card
            (MODEL_DIGEST), malformed (MODEL_FORMAT) or do not fit the network (MODEL_SHAPE).
    """
    check_name(name)
    folders = (WEIGHTS_FOLDER, models_folder()) if folder is None else (folder,)
    home = next((place for place in folders if _is_in(place, name)), None)
    if home is None:
        raise _missing(name, folder)
    card = read_card(home / f"{name}.json")
    with refusals_of(name):
        network = build_network(card.architecture, card.config)
        tensors = read_weights(home / f"{name}.safetensors", card, network)
        # Half precision becomes float32 on the way; another copy of large weights would hurt.
        network.load_state_dict(tensors, strict=True)
    return Model(card, network.eval().requires_grad_(False))


def save_model(
    network: StreamedNetwork | Teacher,
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
    tensors = {key: value.half().contiguous().cpu() for key, value in network.state_dict().items()}
    data = save_safetensors(tensors)
    card = ModelCard(
        name=name,
        architecture=network.architecture,
        config=network.config.as_dict(),
        sha256=hashlib.sha256(data).hexdigest(),
        parameters=parameter_count(network),
        training=training,
        scores=scores or {},
        limits=limits,
    )
    return write_model(card, data, folder)


def write_model(card: ModelCard, data: bytes, folder: Path) -> ModelCard:
    """Write weights and then their card, each complete or not at all, and return the card as read.

    Raises:
        ModelError: The name is not plain (MODEL_NAME), or the folder cannot be written
            (MODEL_FOLDER).
    """
    check_name(card.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / f"{card.name}.safetensors", data)
        write_card(card, folder)
    except OSError as error:
        raise unwritable_folder(folder, error) from error
    return read_card(folder / f"{card.name}.json")


def record_scores(name: str, title: str, scores: dict[str, Any]) -> ModelCard:
    """Add measured results to the card of an installed model, and return the card.

    Args:
        name: Name of the model.
        title: What they were measured on; results of the same title are replaced.
        scores: Numbers by what they say.

    Raises:
        ModelError: There is no such model, or its folder cannot be written (MODEL_FOLDER).
    """
    card = load_model(name).card
    card = replace(card, scores={**card.scores, title: scores})
    folder = WEIGHTS_FOLDER if is_shipped(name) else models_folder()
    try:
        write_card(card, folder)
    except OSError as error:
        raise unwritable_folder(folder, error) from error
    return card


def refuse_taken_name(name: str, folder: Path) -> None:
    """Refuse a name for a new model that another one has.

    Raises:
        ModelError: The name belongs to a model of Dehaze or of this folder (MODEL_EXISTS).
    """
    if is_shipped(name):
        raise ModelError(
            f"Model '{name}' comes with Dehaze.", hint="Choose another name.", code="MODEL_EXISTS"
        )
    if _is_in(folder, name):
        raise ModelError(
            f"There is a model '{name}' in {folder} already.",
            hint=f"Choose another name, or 'dehaze models remove {name}' first.",
            code="MODEL_EXISTS",
        )


def remove_model(name: str) -> None:
    """Delete one of the user's own models, card first.

    Raises:
        ModelError: The name is not plain (MODEL_NAME), of a model that comes with Dehaze
            (MODEL_SHIPPED) or of none (MODEL_UNKNOWN), or the folder cannot be written
            (MODEL_FOLDER).
    """
    check_name(name)
    folder = models_folder()
    if not _is_in(folder, name):
        raise ModelError(
            f"There is no model '{name}' in {folder}."
            + (" The one of this name comes with Dehaze." if is_shipped(name) else ""),
            hint="See 'dehaze models'.",
            code="MODEL_SHIPPED" if is_shipped(name) else "MODEL_UNKNOWN",
        )
    delete_model(folder, name)


def delete_model(folder: Path, name: str) -> None:
    """Delete card and weights from a folder, card first: weights without one are nobody's.

    Raises:
        ModelError: The folder cannot be written (MODEL_FOLDER).
    """
    try:
        for suffix in (".json", ".safetensors"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    except OSError as error:
        raise unwritable_folder(folder, error) from error


def _is_in(folder: Path, name: str) -> bool:
    # Not Path.is_file: a folder that may not be entered is one without models.
    return os.path.isfile(folder / f"{name}.json")


def _missing(name: str, folder: Path | None) -> ModelError:
    """Return why there is no model of a name: it is unknown, or a network without weights."""
    if name in ARCHITECTURES:
        return ModelError(
            f"Dehaze knows the network '{name}', but has no weights for it.",
            hint="If you have some, 'dehaze models import FILE --name "
            f"{name} --architecture {name}' brings them in; or choose another model.",
            code="MODEL_WEIGHTS_MISSING",
        )
    known = ", ".join(card.name for card in list_models(folder))
    return ModelError(
        f"There is no model '{name}'; known are {known or 'none'}.",
        hint="See 'dehaze models'.",
        code="MODEL_UNKNOWN",
    )


@contextmanager
def refusals_of(name: str) -> Iterator[None]:
    """Let what is wrong with a network or its weights be told as a `ModelError` of that model."""
    try:
        yield
    except ModelError as error:
        raise ModelError(
            f"Model '{name}' cannot be used. {error.message}", hint=error.hint, code=error.code
        ) from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"The weights of model '{name}' do not fit its network: {error}", code="MODEL_SHAPE"
        ) from error


def read_weights(path: Path, card: ModelCard, network: nn.Module) -> dict[str, Tensor]:
    """Read a weights file that is the one its card was written for and fits a network.

    Raises:
        ModelError: It is missing (MODEL_WEIGHTS_MISSING), too large (MODEL_SIZE), another one
            (MODEL_DIGEST), malformed (MODEL_FORMAT) or of another shape (MODEL_SHAPE).
        SafetensorError: It is malformed in a way that only the library finds.
    """
    data = _weights(path, card, network)
    check_layout(read_outline(io.BytesIO(data), len(data)), network)
    return load_safetensors(data)


def _weights(path: Path, card: ModelCard, network: nn.Module) -> bytes:
    """Return the content of a weights file, which is the one its card was written for."""
    most = 4 * parameter_count(network) + MOST_HEADER_BYTES
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ModelError(
            f"Its weights cannot be read: {error}.",
            hint="Install Dehaze again, or import the model again.",
            code="MODEL_WEIGHTS_MISSING",
        ) from error
    if len(data) > most:
        raise ModelError(
            f"Its weights have more than the {most:,} bytes expected for its network.",
            code="MODEL_SIZE",
        )
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise ModelError(
            f"Its weights have SHA-256 {digest[:12]}..., its card says {card.sha256[:12]}...",
            hint="The file is damaged or was exchanged. Install Dehaze again, or import the model "
            "again.",
            code="MODEL_DIGEST",
        )
    return data


def write_card(card: ModelCard, folder: Path) -> None:
    """Write a card into a folder, complete or not at all."""
    data = (json.dumps(card.as_dict(), indent=2) + "\n").encode("utf-8")
    _replace(folder / f"{card.name}.json", data)


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def unwritable_folder(folder: Path, error: OSError) -> ModelError:
    """Return the error for a folder of models that cannot be written (MODEL_FOLDER)."""
    return ModelError(
        f"The model folder {folder} cannot be written: {error}.",
        hint="Set DEHAZE_MODELS to a folder of yours.",
        code="MODEL_FOLDER",
    )
