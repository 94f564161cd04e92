# SPDX-License-Identifier: GPL-3.0-or-later
"""What `dehazexl-lite` is trained for: the clear image, and the truth of the haze behind it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.haze.layers import correct, full_resolution
from dehaze_core.models.dehazexl.lite import TOKEN_PX, DehazeXLLite, HazeMaps, SceneHaze
from dehaze_core.scene.srgb import srgb_decode, srgb_encode
from dehaze_core.training.batches import Batch


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the parts of the loss.

    Attributes:
        image: L1 in display values.
        psnr: Logarithm of the mean square error of every image, so that each counts as it does
            in a mean PSNR.
        smooth: L1 after averaging over 16 x 16 px: colour and brightness.
        thickness: L1 of the transmission.
        airlight: L1 of the airlight, weighted by how much of it is in the image.
        presence: Cross entropy of there being haze at all.
    """

    image: float = 1.0
    psnr: float = 0.02
    smooth: float = 1.0
    thickness: float = 0.5
    airlight: float = 0.3
    presence: float = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """Loss of a batch and the squared error of its images.

    Attributes:
        loss: Scalar.
        mse: (N,) mean squared error in display values [0, 1] over valid pixels.
    """

    loss: Tensor
    mse: Tensor


def restore(
    model: DehazeXLLite, hazy: Tensor, valid: Tensor, budget: int | None
) -> tuple[Tensor, HazeMaps, SceneHaze]:
    """Dehaze display-encoded images (N, 3, H, W); returns linear light and the haze found."""
    weight = F.avg_pool2d(valid, TOKEN_PX)[:, 0]
    maps, scene = model(hazy, valid, weight, budget)
    luminance = hazy.mean(dim=1, keepdim=True)
    thickness, airlight = full_resolution(maps.thickness, maps.airlight, maps.edge_slope, luminance)
    return correct(srgb_decode(hazy), thickness, airlight, scene.ratios), maps, scene


def evaluate(
    model: DehazeXLLite, batch: Batch, weights: LossWeights, budget: int | None = None
) -> Outcome:
    """Run the network on a batch and compare with the truth."""
    valid = batch.valid.float()
    hazy, clear = batch.hazy.float() / 255, batch.clear.float() / 255
    linear, maps, scene = restore(model, hazy, valid, budget)
    # Keep a little slope where the result is out of range, or a bad start would have no way back.
    clipped = linear.clamp(0.0, 1.0)
    difference = (srgb_encode(clipped + 0.05 * (linear - clipped)) - clear) * valid
    share = valid.mean(dim=(1, 2, 3)).clamp_min(1e-3)
    mse = difference.square().mean(dim=(1, 2, 3)) / share
    quarter = F.avg_pool2d(valid, 4)
    t_true, t = torch.exp(-batch.thickness), torch.exp(-maps.thickness * scene.ratios)
    air = (maps.airlight - batch.airlight).abs() * (1 - t_true)
    hazy_at_all = (batch.thickness.amax(dim=(1, 2, 3)) > 0).float()
    loss = (
        weights.image * difference.abs().mean()
        + weights.psnr * torch.log(mse + 3e-5).mean()
        + weights.smooth * F.avg_pool2d(difference, 16).abs().mean()
        + weights.thickness * ((t - t_true).abs() * quarter).mean()
        + weights.airlight * (air * quarter).mean()
        + weights.presence * F.binary_cross_entropy_with_logits(scene.presence[:, 0], hazy_at_all)
    )
    return Outcome(loss, mse.detach())
