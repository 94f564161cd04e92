# SPDX-License-Identifier: GPL-3.0-or-later
"""Training that goes on from a trained model instead of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from dehaze_core.errors import ModelError
from dehaze_core.models import Model, load_model
from dehaze_core.models.sam_guided.guided import expanded
from dehaze_core.models.streaming import StreamedNetwork, TokenNetwork

NEW_LAYERS = "context.layers."
"""Names of the tensors that the network may have and the model it starts from may lack."""


def find_start(name: str) -> Model:
    """Load the model to start from.

    Args:
        name: Name of an installed model, or the folder or weights file of a finished training.

    Raises:
        ModelError: There is no such model, or it is damaged.
    """
    path = Path(name)
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise ModelError(
                f"The folder {path} holds {len(found)} weights files, expected one.",
                hint="Give the weights file itself with --start.",
                code="MODEL_UNKNOWN",
            )
        path = found[0]
    if path.suffix == ".safetensors":
        return load_model(path.stem, path.parent)
    return load_model(name)


@torch.no_grad()
def begin_with(network: StreamedNetwork, start: StreamedNetwork) -> None:
    """Give a fresh network the weights of a trained one.

    Context layers that the trained one does not have become identities (their residual branches
    begin with zero), so that the network computes the same as the trained one, and can learn more.
    For the same reason the guides that the trained one does not have begin without influence.

    Args:
        network: The network to train; changed in place.
        start: The trained network, of the same shape but for the number of context layers and for
            guides.

    Raises:
        ModelError: The shapes differ otherwise (MODEL_SHAPE), or networks of the trained one's kind
            cannot be given guides (MODEL_ARCHITECTURE).
    """
    if network.guides and not start.guides:
        start = expanded(start)
    trained = start.state_dict()
    _refuse_other_shapes(network.state_dict(), trained)
    network.load_state_dict(trained, strict=False)
    if not (isinstance(network, TokenNetwork) and isinstance(start, TokenNetwork)):
        return
    known = len(start.context.each_layer())
    for layer in network.context.each_layer()[known:]:
        for branch in layer.branch_ends():
            for parameter in branch.parameters():
                parameter.zero_()


def _refuse_other_shapes(
    own: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor]
) -> None:
    other = [name for name in trained if name not in own or own[name].shape != trained[name].shape]
    other += [name for name in own if name not in trained and not name.startswith(NEW_LAYERS)]
    if other:
        raise ModelError(
            f"The model to start from has another shape: {len(other)} tensors differ, "
            f"the first is {other[0]}.",
            hint="Only the number of context layers may be larger in the recipe.",
            code="MODEL_SHAPE",
        )
