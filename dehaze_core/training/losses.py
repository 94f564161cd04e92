# SPDX-License-Identifier: GPL-3.0-or-later
"""What networks are trained for: the clear image, and the truth of the haze behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.haze.layers import at_phase, correct
from dehaze_core.models.streaming import (
    FILL,
    HAZE_PX,
    TOKEN_PX,
    HazeMaps,
    PaintedImage,
    SceneHaze,
    StreamedNetwork,
)
from dehaze_core.scene.srgb import srgb_decode, srgb_encode
from dehaze_core.training.batches import Batch
from dehaze_core.training.recipe import LossWeights

CLEAR_BELOW = 0.02
"""Optical thickness below which a token counts as clear."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Loss of a batch and the squared error of its images.

    Attributes:
        loss: Scalar.
        mse: (N,) mean squared error in display values [0, 1] over valid pixels.
    """

    loss: Tensor
    mse: Tensor


class Guide(Protocol):
    """Something else than the truth that a painting network is compared with."""

    def __call__(self, batch: Batch, answer: PaintedImage) -> Tensor:
        """Return a scalar that is added to the loss.

        Args:
            batch: Images and truth, on the device of the answer.
            answer: What the network made of the hazy images.
        """


def as_seen(pictures: Tensor, valid: Tensor) -> Tensor:
    """Return pictures (N, 3, H, W) uint8 as a network sees them where (N, 1, H, W) bool is true."""
    return torch.where(valid, pictures.float() / 255, FILL)


def shown(network: StreamedNetwork, batch: Batch) -> Tensor:
    """Return all that a network is shown of a batch: hazy bands, and guides if it has any.

    Args:
        network: The network.
        batch: Its guide is 0 where there is no data, and everywhere if it has none.

    Returns:
        (N, 3 + guides, H, W) float32.
    """
    seen = as_seen(batch.hazy, batch.valid)
    if not network.guides:
        return seen
    if batch.guide is None:
        guide = torch.zeros_like(seen[:, :1])
    else:
        guide = torch.where(batch.valid, batch.guide.float() / 255, 0.0)
    return torch.cat((seen, guide), dim=1)


def token_weight(valid: Tensor) -> Tensor:
    """Return the share of valid pixels, (N, 1, H, W) float32, of every token, (N, H/32, W/32)."""
    return F.avg_pool2d(valid, TOKEN_PX)[:, 0]


def evaluate(
    model: StreamedNetwork,
    batch: Batch,
    weights: LossWeights,
    budget: int | None = None,
    phase: tuple[int, int] | None = None,
    guide: Guide | None = None,
) -> Outcome:
    """Run a network on a batch and compare with the truth.

    Args:
        model: The network. One that paints is compared in its pixels alone, all of them.
        batch: Images and truth.
        weights: Weights of the loss.
        budget: Largest number of context keys; the network's own if None.
        phase: Compare only this pixel of every 4 x 4 cell, which costs less; all if None.
        guide: What a network that paints is compared with beside the truth; nothing if None.
    """
    valid = batch.valid.float()
    seen = shown(model, batch)
    answer = model(seen, valid, token_weight(valid), budget)
    if isinstance(answer, PaintedImage):
        image = _image_loss(answer.clear.float(), batch.clear, valid, weights)
        return image if guide is None else Outcome(image.loss + guide(batch, answer), image.mse)
    maps, scene = answer
    seen = seen[:, : model.bands]
    quarter = F.avg_pool2d(valid, HAZE_PX)
    if phase is None:
        step, row, col = 1, 0, 0
        tau, airlight = maps.per_pixel(seen)
    else:
        step, (row, col), luminance = HAZE_PX, phase, seen.mean(dim=1, keepdim=True)
        tau, airlight = at_phase(maps.thickness, maps.airlight, maps.edge_slope, luminance, phase)
    chosen = (..., slice(row, None, step), slice(col, None, step))
    linear = correct(srgb_decode(seen[chosen]), tau, airlight, scene.ratios)
    clear = srgb_encode(_softly_clipped(linear))
    image = _image_loss(clear, batch.clear[chosen], valid[chosen], weights, step)
    return Outcome(image.loss + _haze_loss(maps, scene, batch, quarter, weights), image.mse)


def restored(answer: PaintedImage | tuple[HazeMaps, SceneHaze], seen: Tensor) -> Tensor:
    """Return the clear pictures of a network's answer, (N, 3, H, W) display-encoded, not clipped.

    Args:
        answer: What the network answered in memory.
        seen: (N, 3, H, W) what it saw.
    """
    if isinstance(answer, PaintedImage):
        return answer.clear.float()
    maps, scene = answer
    return srgb_encode(correct(srgb_decode(seen), *maps.per_pixel(seen), scene.ratios))


def _image_loss(
    restored: Tensor, clear: Tensor, valid: Tensor, weights: LossWeights, step: int = 1
) -> Outcome:
    """Compare display values (N, 3, h, w) of every `step`-th pixel with the clear ones, uint8."""
    difference = (restored - clear.float() / 255) * valid
    mse = difference.square().mean(dim=(1, 2, 3)) / valid.mean(dim=(1, 2, 3)).clamp_min(1e-3)
    loss = (
        weights.image * difference.abs().mean()
        + weights.psnr * torch.log(mse + 3e-5).mean()
        + weights.smooth * F.avg_pool2d(difference, 16 // step).abs().mean()
    )
    if weights.frequency:
        spectrum = torch.view_as_real(torch.fft.rfft2(difference, norm="ortho"))
        loss = loss + weights.frequency * spectrum.abs().mean()
    return Outcome(loss, mse.detach())


def _haze_loss(
    maps: HazeMaps, scene: SceneHaze, batch: Batch, quarter: Tensor, weights: LossWeights
) -> Tensor:
    """Compare the haze itself with the truth, at a quarter of the resolution."""
    t_true, t = torch.exp(-batch.thickness), torch.exp(-maps.thickness * scene.ratios)
    error = (t - t_true) * quarter
    air = (maps.airlight - batch.airlight).abs() * (1 - t_true)
    side = TOKEN_PX // HAZE_PX
    hazy_at_all = (F.avg_pool2d(batch.thickness[:, 1:2], side) > CLEAR_BELOW).float()
    presence = F.binary_cross_entropy_with_logits(
        maps.presence, hazy_at_all, F.avg_pool2d(quarter, side)
    )
    return (
        weights.thickness * error.abs().mean()
        + weights.texture * (_roughness(error) + _roughness(F.avg_pool2d(error, 4)))
        + weights.airlight * (air * quarter).mean()
        + weights.presence * presence
    )


def _softly_clipped(linear: Tensor) -> Tensor:
    """Clip to [0, 1], but keep some slope outside, or a bad start would have no way back.

    Below 0 the slope is steep: no ground is darker than black, so the haze was overestimated.
    """
    excess = linear - linear.clamp(0.0, 1.0)
    return linear - torch.where(excess < 0, 0.5, 0.95) * excess


def _roughness(x: Tensor) -> Tensor:
    return x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()
