# SPDX-License-Identifier: GPL-3.0-or-later
"""The image encoder of MobileSAM, TinyViT, in plain PyTorch and for inference only.

Wu et al., *TinyViT: Fast Pretraining Distillation for Small Vision Transformers*, ECCV 2022; Zhang
et al., *Faster Segment Anything: Towards Lightweight SAM for Mobile Applications*, 2023. Names and
shapes of the weights are those of the official checkpoint. What that also holds and inference does
without (the head of the classifier, counters of batches) is left behind when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEFT_BEHIND = ("head.", "norm_head.")
_COUNTER = ".num_batches_tracked"
_EXPANSION = 4
_PATCH_NORM_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class TinyViTConfig:
    """Shape of the encoder; the defaults are those of MobileSAM.

    Attributes:
        widths: Channels of the four stages; the first is convolutional.
        depths: Blocks of the four stages.
        heads: Attention heads of the last three stages.
        windows: Sides of their attention windows, tokens.
        side: Side of the square picture, px; a multiple of 16.
        answer: Channels of the answer.
    """

    widths: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int] = (4, 5, 10)
    windows: tuple[int, int, int] = (7, 14, 7)
    side: int = 1024
    answer: int = 256


def without_extras(names: Iterable[str], prefix: str = "") -> list[str]:
    """Return the names of tensors that the encoder has, of all in an official checkpoint.

    Args:
        names: Names in the checkpoint.
        prefix: What stands before the encoder's own names.
    """
    extras = tuple(prefix + name for name in _LEFT_BEHIND)
    return [
        name
        for name in names
        if not (name.startswith(prefix) and (name.startswith(extras) or name.endswith(_COUNTER)))
    ]


class TinyViT(nn.Module):
    """Picture to embedding, one vector for 16 x 16 px.

    Args:
        config: Shape of the encoder.
    """

    def __init__(self, config: TinyViTConfig | None = None) -> None:
        super().__init__()
        config = config or TinyViTConfig()
        widths = config.widths
        self.img_size = config.side  # the name that Segment Anything asks for
        self.patch_embed = _PatchEmbedding(widths[0])
        first = [_InvertedBottleneck(widths[0]) for _ in range(config.depths[0])]
        stages = [_Stage(first, _Merging(widths[0], widths[1], stride=2))]
        for stage in (1, 2, 3):
            window, heads = config.windows[stage - 1], config.heads[stage - 1]
            blocks = [_Block(widths[stage], heads, window) for _ in range(config.depths[stage])]
            # The last two stages share a resolution: the decoder wants 1/16 of the picture's.
            merging = _Merging(widths[stage], widths[stage + 1], 3 - stage) if stage < 3 else None
            stages.append(_Stage(blocks, merging))
        self.layers = nn.Sequential(*stages)
        self.neck = nn.Sequential(
            nn.Conv2d(widths[3], config.answer, 1, bias=False),
            _ChannelNorm(config.answer),
            nn.Conv2d(config.answer, config.answer, 3, padding=1, bias=False),
            _ChannelNorm(config.answer),
        )
        self.register_load_state_dict_pre_hook(_leave_extras_behind)  # type: ignore[no-untyped-call]

    def forward(self, picture: Tensor) -> Tensor:
        """Embed normalised pictures (N, 3, S, S) as (N, C, S / 16, S / 16)."""
        embedding: Tensor = self.neck(self.layers(self.patch_embed(picture)))
        return embedding


def _leave_extras_behind(_: nn.Module, tensors: dict[str, Any], prefix: str, *__: object) -> None:
    kept = set(without_extras(tensors, prefix))
    for name in [name for name in tensors if name not in kept]:
        del tensors[name]


class _FixedNorm(nn.Module):
    """Batch normalisation by the statistics of the training."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        return functional.batch_norm(x, mean, variance, self.weight, self.bias)


class _ChannelNorm(nn.Module):
    """Layer normalisation over the channels of every place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        normal = functional.layer_norm(
            last, self.weight.shape, self.weight, self.bias, _PATCH_NORM_EPS
        )
        return normal.permute(0, 3, 1, 2)


class _Convolution(nn.Sequential):
    """Convolution without bias, then the fixed normalisation."""

    def __init__(
        self, inside: int, outside: int, side: int = 1, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(inside, outside, side, stride, side // 2, groups=groups, bias=False)
        self.bn = _FixedNorm(outside)


class _PatchEmbedding(nn.Module):
    """Picture to tokens of 4 x 4 px."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            _Convolution(3, width // 2, 3, stride=2),
            nn.GELU(),
            _Convolution(width // 2, width, 3, stride=2),
        )

    def forward(self, picture: Tensor) -> Tensor:
        tokens: Tensor = self.seq(picture)
        return tokens


class _Expanding(nn.Module):
    """Three convolutions: wider, depthwise, and to the width wanted."""

    def __init__(self, widths: tuple[int, int, int], stride: int) -> None:
        super().__init__()
        inside, middle, outside = widths
        self.conv1 = _Convolution(inside, middle)
        self.conv2 = _Convolution(middle, middle, 3, stride=stride, groups=middle)
        self.conv3 = _Convolution(middle, outside)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.conv1(x))
        narrow: Tensor = self.conv3(functional.gelu(self.conv2(x)))
        return narrow


class _Merging(_Expanding):
    """From one stage to the next, at half the resolution (stride 2) or at the same (1)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__((inside, outside, outside), stride)


class _InvertedBottleneck(_Expanding):
    """Residual block of MobileNetV2."""

    def __init__(self, width: int) -> None:
        super().__init__((width, _EXPANSION * width, width), stride=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(x + super().forward(x))


class _Attention(nn.Module):
    """Attention within windows, with a learned bias for every distance of rows and columns."""

    places: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        # On the CPU even where the weights are not made at all: it is computed, never loaded.
        index = torch.arange(window * window, device="cpu")
        rows, cols = index // window, index % window
        apart = (rows[:, None] - rows).abs() * window + (cols[:, None] - cols).abs()
        self.register_buffer("places", apart, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (B, tokens, C) to the same shape."""
        count, tokens, width = x.shape
        # Queries, keys and values of a head lie beside each other.
        mixed = self.qkv(self.norm(x)).view(count, tokens, self.heads, -1).transpose(1, 2)
        query, key, value = mixed.chunk(3, dim=-1)
        bias = self.attention_biases[:, self.places]
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        answer: Tensor = self.proj(seen.transpose(1, 2).reshape(count, tokens, width))
        return answer


class _Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, _EXPANSION * width)
        self.fc2 = nn.Linear(_EXPANSION * width, width)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(x))))
        return answer


class _Block(nn.Module):
    """Attention in windows, a depthwise convolution across them, a perceptron."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = _Attention(width, heads, window)
        self.local_conv = _Convolution(width, width, 3, groups=width)
        self.mlp = _Perceptron(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, C, H, W) to the same shape."""
        x = x + self._attended(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        mixed: Tensor = x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return mixed

    def _attended(self, x: Tensor) -> Tensor:
        """Attend within the windows of features (N, H, W, C); sides are filled with zeros."""
        count, rows, cols, width = x.shape
        side = self.window
        x = functional.pad(x, (0, 0, 0, -cols % side, 0, -rows % side))
        down, across = x.shape[1] // side, x.shape[2] // side
        windows = x.view(count, down, side, across, side, width).transpose(2, 3)
        seen = self.attn(windows.reshape(-1, side * side, width))
        whole = seen.view(count, down, across, side, side, width).transpose(2, 3)
        back = whole.reshape(count, down * side, across * side, width)
        cut: Tensor = back[:, :rows, :cols]
        return cut


class _Stage(nn.Module):
    def __init__(self, blocks: Iterable[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(x)
        return features if self.downsample is None else self.downsample(features)
