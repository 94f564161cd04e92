# SPDX-License-Identifier: GPL-3.0-or-later
"""Dehaze a small picture in one piece: for scoring, and as the streaming engine's yardstick."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.engine.corrections import painted_light
from dehaze_core.grid.blocks import mirrored
from dehaze_core.haze.layers import correct
from dehaze_core.models import load_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite
from dehaze_core.models.streaming import (
    FILL,
    TOKEN_PX,
    HazeMaps,
    PaintedImage,
    SceneHaze,
    StreamedNetwork,
)
from dehaze_core.scene.srgb import srgb_decode, srgb_encode


def restore_array(
    image: NDArray[np.uint8],
    model: str,
    strength: float = 1.0,
    guide: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Dehaze an 8-bit picture.

    Args:
        image: (H, W, 3) uint8, display-encoded red, green, blue; all pixels valid.
        model: Name of a model.
        strength: Share of the haze to remove.
        guide: (H, W) codes of segments for a network with a guide; none for 0 everywhere.

    Returns:
        The same shape and type.
    """
    display = torch.tensor(image).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        valid = torch.ones(image.shape[:2])
        codes = None if guide is None else torch.tensor(guide)[None].float() / 255
        linear = restore_linear(
            _network(model), display, srgb_decode(display), valid, strength, codes
        )
        encoded = srgb_encode(linear.clamp_(0.0, 1.0), peak=255.0)
    return encoded.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def restore_linear(
    network: StreamedNetwork,
    display: Tensor,
    linear: Tensor,
    valid: Tensor,
    strength: float = 1.0,
    guide: Tensor | None = None,
) -> Tensor:
    """Dehaze a picture in one pass of the network over all of it.

    Args:
        network: The model.
        display: (3, H, W) float32, display-encoded, clipped to [0, 1]: what the network sees.
        linear: (3, H, W) float32, the same in linear light, not clipped: what is corrected.
        valid: (H, W) float32, 1 where the pixel holds data, else 0.
        strength: Share of the haze to remove.
        guide: (1, H, W) float32, [0, 1]: what guides a network with a guide; none for 0 everywhere.

    Returns:
        (3, H, W) linear light, not clipped.
    """
    answer, seen = _ask(network, display, valid, guide)
    if isinstance(answer, PaintedImage):
        height, width = valid.shape
        return painted_light(answer.clear[0, :, :height, :width], linear, strength)
    haze = _pixel_haze(answer, seen, valid)
    return correct(linear, haze.thickness, haze.airlight, haze.ratios, strength)


@dataclass(frozen=True, slots=True)
class PixelHaze:
    """Haze of every pixel of a picture.

    Attributes:
        thickness: (1, H, W) optical thickness at 550 nm.
        airlight: (3, H, W) linear light.
        ratios: (3, 1, 1) optical thickness of red, green and blue relative to that at 550 nm.
    """

    thickness: Tensor
    airlight: Tensor
    ratios: Tensor


def estimate_haze(network: DehazeXLLite, display: Tensor, valid: Tensor) -> PixelHaze:
    """Return the haze that a physical network finds in a picture.

    Args:
        network: The model.
        display: As for `restore_linear`.
        valid: As for `restore_linear`.
    """
    answer, seen = _ask(network, display, valid)
    return _pixel_haze(answer, seen, valid)


def _ask(
    network: StreamedNetwork, display: Tensor, valid: Tensor, guide: Tensor | None = None
) -> tuple[Any, Tensor]:
    """Run the network on a picture mirrored to whole units, and return what it saw as well."""
    if guide is None and network.guides:
        guide = display.new_zeros(network.guides, *valid.shape)
    seen, mask, weight = seen_whole(display, valid, network.unit_px, guide)
    return network(seen, mask, weight), seen


def seen_whole(
    display: Tensor, valid: Tensor, unit_px: int, guide: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a picture as a network sees all of it at once, mirrored to whole units.

    Args:
        display: (3, H, W) float32, display-encoded, clipped to [0, 1].
        valid: (H, W) float32, 1 where the pixel holds data, else 0.
        unit_px: Sides become multiples of this.
        guide: (G, H, W) what guides the network, if anything does.

    Returns:
        (1, 3, H', W') pixels, `FILL` where there is no data, with the guide behind them, 0 there;
        (1, 1, H', W') their validity; and (1, H'/32, W'/32) the share of real, valid pixels of
        every token.
    """
    height, width = valid.shape
    rows = torch.from_numpy(mirrored(0, -(-height // unit_px) * unit_px, height))
    cols = torch.from_numpy(mirrored(0, -(-width // unit_px) * unit_px, width))
    real = F.pad(valid, (0, len(cols) - width, 0, len(rows) - height))
    weight = F.avg_pool2d(real[None], TOKEN_PX)
    mask = valid[rows][:, cols][None, None]
    seen = torch.where(mask > 0, display[:, rows][:, :, cols][None], FILL)
    if guide is not None:
        shown = torch.where(mask > 0, guide[:, rows][:, :, cols][None], 0.0)
        seen = torch.cat((seen, shown), dim=1)
    return seen, mask, weight


def _pixel_haze(answer: tuple[HazeMaps, SceneHaze], seen: Tensor, valid: Tensor) -> PixelHaze:
    maps, scene = answer
    height, width = valid.shape
    tau, airlight = maps.per_pixel(seen)
    return PixelHaze(tau[0, :, :height, :width], airlight[0, :, :height, :width], scene.ratios[0])


@lru_cache(maxsize=2)
def _network(name: str) -> StreamedNetwork:
    return load_model(name).network
