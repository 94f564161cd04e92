# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a run will take: the network, timed on this machine on a small block."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import Tensor

from dehaze_core.models.streaming import (
    TOKEN_PX,
    OverviewNetwork,
    SceneValues,
    StreamedNetwork,
    TokenNetwork,
)

SIDE = 16
"""Side of the block in tokens."""

KEY_SIDE = 64
"""The attention is timed on the square of this many keys, and on a single one."""

HYPER_KEYS = 512
"""Keys that a token of hyper attention looks at: its own run of neighbours, and a sample."""

IO_SECONDS = 1.5e-7
"""Reading, writing and the final file, for each pixel."""

TRIES = 3
"""How often work is timed. What else the machine does only ever adds time, and so does the first
try, which has to get its memory."""

SLOW_SECONDS = 0.5
"""Work that takes this long is not tried a third time."""

Result = TypeVar("Result")


def pixel_seconds(network: StreamedNetwork, device: torch.device) -> float:
    """Return the time both passes take for a pixel, without a halo, files included.

    Files are read and written beside the work, and delay it by as much as one pass at most.
    """
    side = SIDE * TOKEN_PX
    rgb = torch.rand(1, network.bands + network.guides, side, side, device=device)
    mask = torch.ones(1, 1, side, side, device=device)
    with torch.inference_mode():
        given, scene, encoding = _first_pass(network, rgb, mask, device)
        _, answering = _timed(lambda: network.estimate(rgb, mask, given, scene), device)
    return (encoding + answering) / side**2 + min(encoding / side**2, IO_SECONDS) + IO_SECONDS


def _first_pass(
    network: StreamedNetwork, rgb: Tensor, mask: Tensor, device: torch.device
) -> tuple[Tensor, SceneValues, float]:
    """Return what pass B is given, and the seconds of pass A."""
    share = torch.ones(1, SIDE, SIDE, device=device)
    if isinstance(network, OverviewNetwork):
        # Looked at once, whatever the size of the raster.
        return rgb.new_zeros(1, SIDE, SIDE, 0), network.look(rgb, mask, share), 0.0
    tokened = cast(TokenNetwork, network)
    tokens, encoding = _timed(lambda: tokened.encode(rgb, mask), device)
    hidden = tokened.context.embed(tokens, 0, tokens.shape[1])
    scene = tokened.scene_haze(*tokened.scene_sums(hidden, share))
    return tokened.conditions(tokens, hidden), scene, encoding


def token_seconds(network: TokenNetwork, keys: int, device: torch.device) -> float:
    """Return the time the context takes for a token that looks at so many keys."""

    def states(side: int) -> Tensor:
        tokens = torch.rand(1, side, side, network.token_width, device=device)
        return network.context.embed(tokens, 0, side)

    layers = network.context.each_layer()
    layer = layers[0]

    def seconds(key_side: int) -> float:
        looked_at = states(key_side)
        pool = layer.keys(layer.normalise(looked_at), torch.ones_like(looked_at[..., 0]))
        layer(queries, pool)
        return _timed(lambda: layer(queries, pool), device)[1]

    with torch.inference_mode():
        queries = states(SIDE)
        fixed, longer = seconds(1), seconds(KEY_SIDE)
    each = max(longer - fixed, 0.0) / KEY_SIDE**2
    return len(layers) * (fixed + keys * each) / SIDE**2


def _timed(work: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """Return what work returns, and the seconds it takes: the least of a few tries."""
    least = math.inf
    for tried in range(1, TRIES + 1):
        start = time.perf_counter()
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        least = min(least, time.perf_counter() - start)
        if tried > 1 and least > SLOW_SECONDS:
            break
    return result, least
