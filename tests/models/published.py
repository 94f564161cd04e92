# SPDX-License-Identifier: GPL-3.0-or-later
"""The published DehazeXL once more, written down as plainly as can be, and its checkpoints.

Nothing of `dehaze_core` is used for the network: NumPy in float64, one patch, window and head after
the other, and weights by the names of the published program.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor

from dehaze_core.models.dehazexl.published import DehazeXL
from dehaze_core.models.dehazexl.published_config import DehazeXLConfig

Array = NDArray[np.float64]

TINY = DehazeXLConfig(
    width=16, depths=(2, 2, 1, 1), heads=(1, 2, 2, 4), context_layers=2, context_heads=4
)
"""Small, with windows in place and moved ones, and a map that is one window."""


def tiny(**changes: Any) -> DehazeXL:
    """Return a small network with random weights of the size of trained ones."""
    torch.manual_seed(5)
    network = DehazeXL(DehazeXLConfig.from_dict({**TINY.as_dict(), **changes})).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def checkpoint(network: DehazeXL) -> dict[str, Tensor]:
    """Return a network's tensors as the published program saves them, computed ones included."""
    named = {
        name.replace("encoder.layers.", "encoder.model.layers_")
        .replace("encoder.patch_embed", "encoder.model.patch_embed")
        .replace("context.", "bottleneck."): value
        for name, value in network.state_dict().items()
    }
    for name, buffer in network.named_buffers():
        if name.startswith("decoder"):
            named[name.replace(".attn.mask", ".attn_mask")] = buffer
    return named


class PlainDehazeXL:
    """The network; `weights` are named as published."""

    def __init__(self, weights: dict[str, Tensor], config: DehazeXLConfig) -> None:
        self.weights = {name: value.numpy().astype(np.float64) for name, value in weights.items()}
        self.config = config

    def __call__(self, rgb: Array) -> Array:
        """Map an image (3, H, W) to a clear one."""
        _, height, width = rgb.shape
        places = [(row, col) for row in range(0, height, 256) for col in range(0, width, 256)]
        features = {
            (row, col): self.encoder(rgb[:, row : row + 256, col : col + 256])
            for row, col in places
        }
        tokens = np.zeros((height // 32, width // 32, self.config.token_width))
        for row, col in places:
            tokens[row // 32 : row // 32 + 8, col // 32 : col // 32 + 8] = features[row, col][3]
        hidden = self.bottleneck(tokens)
        clear = rgb.copy()
        for row, col in places:
            known = hidden[row // 32 : row // 32 + 8, col // 32 : col // 32 + 8]
            clear[:, row : row + 256, col : col + 256] += self.decoder(known, features[row, col])
        return clear

    def encoder(self, patch: Array) -> list[Array]:
        weight = self.weights["encoder.model.patch_embed.proj.weight"]
        bias = self.weights["encoder.model.patch_embed.proj.bias"]
        x = np.zeros((64, 64, self.config.width))
        for row in range(64):
            for col in range(64):
                pixels = patch[:, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4]
                x[row, col] = (weight * pixels).sum(axis=(1, 2, 3)) + bias
        x = self.norm("encoder.model.patch_embed.norm", x)
        features = []
        for stage in range(4):
            name = f"encoder.model.layers_{stage}"
            if stage:
                corners = [x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]]
                x = self.linear(f"{name}.downsample.reduction", np.concatenate(corners, axis=-1))
                x = self.norm(f"{name}.downsample.norm", x)
            for block in range(self.config.depths[stage]):
                x = self.encoder_block(f"{name}.blocks.{block}", x, stage, moved=block % 2 == 1)
            features.append(x)
        return features

    def encoder_block(self, name: str, x: Array, stage: int, moved: bool) -> Array:
        heads, side = self.config.heads[stage], min(self.config.encoder_window, len(x))
        k_bias = np.zeros_like(self.weights[f"{name}.attn.q_bias"])
        biases = [self.weights[f"{name}.attn.q_bias"], k_bias, self.weights[f"{name}.attn.v_bias"]]
        qkv = x @ self.weights[f"{name}.attn.qkv.weight"].T + np.concatenate(biases)
        scales = np.exp(np.minimum(self.weights[f"{name}.attn.logit_scale"], math.log(100)))[
            :, 0, 0
        ]

        def logits(query: Array, key: Array, head: int) -> Array:
            query = query / np.linalg.norm(query, axis=-1, keepdims=True)
            key = key / np.linalg.norm(key, axis=-1, keepdims=True)
            return query @ key.T * scales[head]

        def bias(rows: int, cols: int) -> Array:
            place = np.array([rows, cols]) / (side - 1) * 8
            place = np.sign(place) * np.log2(np.abs(place) + 1) / math.log2(8)
            inner = np.maximum(self.linear(f"{name}.attn.cpb_mlp.0", place), 0)
            return 16 / (1 + np.exp(-self.linear(f"{name}.attn.cpb_mlp.2", inner)))

        attended = attend(qkv, heads, side, moved, logits, table(bias, side))
        x = x + self.norm(f"{name}.norm1", self.linear(f"{name}.attn.proj", attended))
        return x + self.norm(f"{name}.norm2", self.mlp(f"{name}.mlp", x))

    def bottleneck(self, tokens: Array) -> Array:
        rows, cols, width = tokens.shape
        heads = self.config.context_heads
        x = self.linear("bottleneck.input_proj", tokens)
        frequencies = [10000 ** (-4 * k / width) for k in range(width // 4)]
        for row in range(rows):
            for col in range(cols):
                x[row, col] += [
                    wave(place * frequency)
                    for place in (col, row)
                    for wave in (math.sin, math.cos)
                    for frequency in frequencies
                ]
        x = x.reshape(-1, width)
        for layer in range(self.config.context_layers):
            name = f"bottleneck.layers.{layer}"
            qkv = self.linear(f"{name}.attn.qkv", self.rms(f"{name}.input_layernorm", x))
            query, key, value = (part.reshape(len(x), heads, -1) for part in np.split(qkv, 3, -1))
            attended = np.zeros_like(query)
            for head in range(heads):
                scores = query[:, head] @ key[:, head].T / math.sqrt(width / heads)
                attended[:, head] = softmax(scores) @ value[:, head]
            x = x + self.linear(f"{name}.attn.proj", attended.reshape(len(x), width))
            normed = self.rms(f"{name}.post_attention_layernorm", x)
            gate = gelu(self.linear(f"{name}.mlp.gate_proj", normed))
            gated = gate * self.linear(f"{name}.mlp.up_proj", normed)
            x = x + self.linear(f"{name}.mlp.down_proj", gated)
        return x.reshape(rows, cols, width)

    def decoder(self, known: Array, features: list[Array]) -> Array:
        x = known
        for stage in range(4):
            name, heads = f"decoder.layers_up.{stage}", self.config.heads[3 - stage]
            x = np.concatenate([x, features[3 - stage]], axis=-1)
            for block in range(2):
                x = self.decoder_block(f"{name}.blocks.{block}", x, heads, moved=block == 1)
            x = self.expand(f"{name}.upsample.expand", x)
        x = self.expand("decoder.up_x2.expand", x)
        return np.einsum("oc,hwc->ohw", self.weights["decoder.output.weight"][:, :, 0, 0], x)

    def decoder_block(self, name: str, x: Array, heads: int, moved: bool) -> Array:
        side = min(self.config.decoder_window, len(x))
        entries = self.weights[f"{name}.attn.relative_position_bias_table"]
        qkv = self.linear(f"{name}.attn.qkv", self.norm(f"{name}.norm1", x))

        def logits(query: Array, key: Array, head: int) -> Array:
            return query @ key.T / math.sqrt(query.shape[-1])

        def bias(rows: int, cols: int) -> Array:
            return entries[(rows + side - 1) * (2 * side - 1) + cols + side - 1]

        attended = attend(qkv, heads, side, moved, logits, table(bias, side))
        x = x + self.linear(f"{name}.attn.proj", attended)
        return x + self.mlp(f"{name}.mlp", self.norm(f"{name}.norm2", x))

    def expand(self, name: str, x: Array) -> Array:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        out = np.zeros((2 * len(x), 2 * len(x), len(bias)))
        for row in range(2):
            for col in range(2):
                out[row::2, col::2] = x @ weight[:, :, row, col] + bias
        return out

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0.0)

    def mlp(self, name: str, x: Array) -> Array:
        return self.linear(f"{name}.fc2", gelu(self.linear(f"{name}.fc1", x)))

    def norm(self, name: str, x: Array) -> Array:
        apart = x - x.mean(axis=-1, keepdims=True)
        apart = apart / np.sqrt((apart**2).mean(axis=-1, keepdims=True) + 1e-5)
        return apart * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def rms(self, name: str, x: Array) -> Array:
        size = np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
        return x / size * self.weights[f"{name}.weight"]


def attend(qkv: Array, heads: int, side: int, moved: bool, logits: Any, biases: Array) -> Array:
    """Attend in windows of maps of queries, keys and values (S, S, 3C); one window never moves."""
    size, width = len(qkv), qkv.shape[-1] // 3
    move = side // 2 if moved and side < size else 0
    out = np.zeros((size, size, width))
    for top in range(0, size, side):
        for left in range(0, size, side):
            places = [
                (top + row + move, left + col + move) for row in range(side) for col in range(side)
            ]
            over = np.array([(row >= size, col >= size) for row, col in places])
            apart = (over[:, None] != over[None, :]).any(axis=-1)
            rows = [row % size for row, _ in places]
            cols = [col % size for _, col in places]
            parts = qkv[rows, cols].reshape(side * side, 3, heads, -1)
            for head in range(heads):
                query, key, value = parts[:, 0, head], parts[:, 1, head], parts[:, 2, head]
                scores = logits(query, key, head) + biases[..., head] - 100.0 * apart
                of_head = slice(head * width // heads, (head + 1) * width // heads)
                out[rows, cols, of_head] = softmax(scores) @ value
    return out


def table(bias: Any, side: int) -> Array:
    """Return the bias of every pair of places of a window, (side^2, side^2, heads)."""
    offsets = range(1 - side, side)
    known = {(rows, cols): bias(rows, cols) for rows in offsets for cols in offsets}
    places = [(row, col) for row in range(side) for col in range(side)]
    return np.array([[known[a - c, b - d] for c, d in places] for a, b in places])


def softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))
