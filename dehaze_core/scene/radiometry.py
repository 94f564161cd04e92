# SPDX-License-Identifier: GPL-3.0-or-later
"""From stored numbers to light and back: one scale for a whole raster, never one per tile.

8-bit pictures are display-encoded (sRGB) and are decoded to linear light for the physics.
Everything else is taken as linear in light, with a scale such that the bright end of the scene is
about 1. No value ever passes through 8 bit on the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dehaze_core.grid.window import Window
from dehaze_core.scene.scene import Scene
from dehaze_core.scene.srgb import decode_table, srgb_decode, srgb_encode

_OVERVIEW_SIDE = 2048
_SAMPLE_GRID = 8
_SAMPLE_SIDE = 256
_BRIGHT, _DARK = 99.9, 0.1
_MAX_REFLECTANCE = 1.5


@dataclass(frozen=True, slots=True)
class Radiometry:
    """How stored numbers (DN) relate to light.

    Attributes:
        offset: DN of no light.
        scale: DN per unit of light, so that light = (DN - offset) / scale before any decoding.
        encoding: "srgb" if that quotient is display-encoded, "linear" if it is light itself.
    """

    offset: float
    scale: float
    encoding: Literal["srgb", "linear"]

    @staticmethod
    def for_scene(scene: Scene, bands: Sequence[int]) -> Radiometry:
        """Choose the scale of a whole scene from its type, its tags or a sample of its pixels.

        Args:
            scene: The scene; take the whole raster rather than a crop to keep one scale for both.
            bands: 0-based bands the model will see.
        """
        frame = scene.frame
        if frame.dtype == "uint8":
            return Radiometry(0.0, 255.0, "srgb")
        sample = _sample(scene, bands)
        dark, bright = _percentiles(sample)
        tagged = _tagged(frame.scales, frame.offsets, bands)
        if tagged is not None:
            factor, summand = tagged
            if 0.0 < bright * factor + summand <= _MAX_REFLECTANCE:
                return Radiometry(-summand / factor, 1.0 / factor, "linear")
        offset = 0.0 if frame.dtype.startswith("uint") else min(0.0, dark)
        return Radiometry(offset, _span(bright - offset, frame.dtype), "linear")

    def to_linear(self, dn: Tensor) -> Tensor:
        """Return light of stored numbers, float32, 0 to about 1 (a few pixels beyond either end).

        Args:
            dn: Any shape. float32, or uint8 as read: that takes a table and is the fastest.
        """
        if self.encoding == "linear":
            return (dn.to(torch.float32) - self.offset) / self.scale
        if dn.dtype != torch.uint8:
            return srgb_decode(dn.to(torch.float32), peak=self.scale)
        if dn.device.type == "cpu":
            # numpy's take is six times as fast as indexing in torch here.
            return torch.from_numpy(np.take(_table("cpu").numpy(), dn.numpy()))
        return _table(str(dn.device))[dn.int()]

    def to_display(self, linear: Tensor) -> Tensor:
        """Return light as the networks see it: display-encoded, clipped to [0, 1], float32."""
        return srgb_encode(linear.clamp(0.0, 1.0), in_place=True)

    def display(self, dn: Tensor) -> Tensor:
        """Return stored numbers as the networks see them: `to_display(to_linear(dn))`, direct."""
        if self.encoding == "srgb":
            return (dn.to(torch.float32) / self.scale).clamp_(0.0, 1.0)
        return self.to_display(self.to_linear(dn))

    def from_linear(self, linear: Tensor) -> Tensor:
        """Return stored numbers of light, float32, neither rounded nor clipped."""
        if self.encoding == "linear":
            return linear * self.scale + self.offset
        return srgb_encode(linear, peak=self.scale)


@cache
def _table(device: str) -> Tensor:
    return decode_table().to(device)


def _tagged(
    scales: Sequence[float], offsets: Sequence[float], bands: Sequence[int]
) -> tuple[float, float] | None:
    """Return the scale and offset tags if the bands have the same ones and they say something."""
    found = {(scales[band], offsets[band]) for band in bands}
    if len(found) != 1:
        return None
    factor, summand = found.pop()
    usable = math.isfinite(factor) and math.isfinite(summand) and factor > 0
    return (factor, summand) if usable and (factor, summand) != (1.0, 0.0) else None


def _percentiles(sample: npt.NDArray[np.float64]) -> tuple[float, float]:
    if not sample.size:
        return 0.0, 0.0
    dark, bright = np.percentile(sample, (_DARK, _BRIGHT))
    return float(dark), float(bright)


def _span(span: float, dtype: str) -> float:
    """Return a scale that can be divided by, also for rasters that are empty or constant zero."""
    if span > 0 and math.isfinite(span):
        return span
    kind = np.dtype(dtype)
    return 1.0 if kind.kind == "f" else float(np.iinfo(kind).max)


def _sample(scene: Scene, bands: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return valid numbers of the bands from an overview, or from windows spread over the scene.

    Shrinking a large file without overviews would decode all of it.
    """
    frame = scene.frame
    wanted = sorted(set(bands))
    if scene.has_overviews or max(frame.height, frame.width) <= _OVERVIEW_SIDE:
        pixels, valid = scene.overview(_OVERVIEW_SIDE, wanted)
        return np.asarray(pixels[:, valid], dtype=np.float64).ravel()
    parts = []
    for row in _starts(frame.height):
        for col in _starts(frame.width):
            window = Window(row, col, _SAMPLE_SIDE, _SAMPLE_SIDE).clipped(frame.height, frame.width)
            pixels, valid = scene.read(window, wanted)
            parts.append(pixels[:, valid].astype(np.float64).ravel())
    return np.concatenate(parts)


def _starts(size: int) -> list[int]:
    last = max(size - _SAMPLE_SIDE, 0)
    return sorted({last * index // (_SAMPLE_GRID - 1) for index in range(_SAMPLE_GRID)})
