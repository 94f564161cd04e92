# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of the published DehazeXL, in the names that its own program gives the tensors.

Ours are the same but for the wrapper around its encoder and the name of its bottleneck. Beside the
weights it stores what follows from the shape alone: which relative position two features have, and
which of them a moved window keeps apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from dehaze_core.models.architectures import Slot

_OURS = (
    (re.compile(r"^encoder\.model\.layers_(\d+)\."), r"encoder.layers.\1."),
    (re.compile(r"^encoder\.model\."), "encoder."),
    (re.compile(r"^bottleneck\."), "context."),
    (re.compile(r"\.attn_mask$"), ".attn.mask"),
)

Entry = TypeVar("Entry", Slot, Tensor)


def own_names(tensors: Mapping[str, Entry], network: nn.Module) -> dict[str, Entry]:
    """Return the entries of a checkpoint by the names of our network, without computed ones.

    Entries in names that are ours already keep them; an entry is taken for computed if the network
    has a buffer of this name and shape. What is then missing or too much is left to `check_layout`.

    Args:
        tensors: Tensors, or what is known of them.
        network: The network they are for.
    """
    named = {_own_name(name): entry for name, entry in tensors.items()}
    if len(named) < len(tensors):
        return dict(tensors)  # two for one place: no layout that anyone has
    computed = {name: tuple(buffer.shape) for name, buffer in network.named_buffers()}
    return {
        name: entry for name, entry in named.items() if computed.get(name) != tuple(entry.shape)
    }


def _own_name(name: str) -> str:
    for theirs, ours in _OURS:
        name = theirs.sub(ours, name)
    return name
