# SPDX-License-Identifier: GPL-3.0-or-later
"""The student with frozen scales, as one row of convolutions, for onnxruntime.

onnxruntime keeps features in blocks of channels, and convolves them twice as fast so, as long as
channels come in whole blocks and nothing is spread over channels in between. So scales go into the
weights of the convolutions before them, and the attention over pixels gives every channel its own
copy of the scale, through a middle layer filled up to a whole block. What comes out is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.models.streaming import FILL
from dehaze_core.models.student.attention import PixelAttention
from dehaze_core.models.student.student import Block, Group, Student

Kind = TypeVar("Kind", bound=nn.Module)

LANES = 16
"""Channels in the largest block that onnxruntime uses on any processor; smaller ones divide it."""


class Painter(nn.Module):
    """`Student.estimate` as convolutions, sums and products of equal shapes.

    Args:
        student: The network.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        width, groups = student.config.width, student.config.outer
        self.pre = student.pre
        self.post = student.post
        self.groups = nn.ModuleList(_Group(group) for group in _each(student.groups, Group))
        self.pixels = _spread(student.pixels, width)
        self.place = student.merge.place
        # A channel of the sum is a sum over the channels of the same place in every group.
        self.register_buffer("summing", torch.eye(width).repeat(1, groups))

    def forward(self, rgb: Tensor, values: Tensor) -> Tensor:
        """Paint a block.

        Args:
            rgb: (1, B, H, W) as for `Student.estimate`.
            values: (1, V) scales from `Student.look`.

        Returns:
            (1, B, H, W) clear pixels.
        """
        x: Tensor = self.pre(rgb - FILL)
        features = []
        for group in self.groups:
            x = group(x, values[0])
            features.append(x)
        weight = self.get_buffer("summing") * values[0, self.place]
        y = F.conv2d(torch.cat(features, dim=1), weight[:, :, None, None])
        painted: Tensor = self.post(y * self.pixels(y))
        return rgb + painted


class _Group(nn.Module):
    """A group of the student."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(block) for block in _each(group.blocks, Block))
        self.last = group.last

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        y = x
        for block in self.blocks:
            y = block(y, values)
        added: Tensor = self.last(y)
        return x + added


class _Block(nn.Module):
    """A block of the student."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.first = block.first
        self.second = block.second
        self.place = block.channels.place
        self.pixels = _spread(block.pixels, block.second.out_channels)

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        scales = values[self.place]
        weight = self.second.weight * scales[:, None, None, None]
        bias = self.second.get_parameter("bias") * scales
        y = F.conv2d(F.relu(self.first(x)) + x, weight, bias, padding=1)
        attended: Tensor = y * self.pixels(y)
        return x + attended


def _spread(attention: PixelAttention, width: int) -> nn.Sequential:
    """Return layers that map features (N, C, H, W) to scales of the same shape."""
    squeeze, excite = attention.squeeze, attention.excite
    between = squeeze.out_channels
    filled = -(-between // LANES) * LANES
    into, out = nn.Conv2d(width, filled, 1), nn.Conv2d(filled, width, 1)
    with torch.no_grad():
        for layer in (into, out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))
        into.weight[:between] = squeeze.weight
        into.get_parameter("bias")[:between] = squeeze.get_parameter("bias")
        out.weight[:, :between] = excite.weight
        out.get_parameter("bias")[:] = excite.get_parameter("bias")
    return nn.Sequential(into, nn.ReLU(), out, nn.Sigmoid())


def _each(modules: nn.ModuleList, kind: type[Kind]) -> Iterator[Kind]:
    return (module for module in modules if isinstance(module, kind))
