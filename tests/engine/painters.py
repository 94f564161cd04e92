# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that paint: a tiny DehazeXL, a tiny student, and one that knows which haze there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.engine.in_memory import restore_linear
from dehaze_core.haze.physics import RGB_WAVELENGTHS, angstrom_ratio, remove_haze
from dehaze_core.models import Model, ModelCard
from dehaze_core.models.dehazexl.context import ContextNetwork
from dehaze_core.models.dehazexl.published import DehazeXL
from dehaze_core.models.dehazexl.published_config import DehazeXLConfig
from dehaze_core.models.streaming import (
    Footprint,
    PaintedImage,
    PaintingTokenNetwork,
    SceneHaze,
    StreamedNetwork,
)
from dehaze_core.models.student.student import Student, StudentConfig
from dehaze_core.scene import Radiometry, open_scene
from dehaze_core.scene.srgb import srgb_decode, srgb_encode

THICKNESS, ALPHA, AIRLIGHT = 0.5, 1.2, 0.8


def as_model(network: StreamedNetwork) -> Model:
    card = ModelCard(
        name="painter",
        architecture=network.architecture,
        config=network.config.as_dict(),
        sha256="0" * 64,
        parameters=0,
        training={},
        scores={},
        limits=(),
    )
    return Model(card, network.eval().requires_grad_(False))


def tiny_dehazexl(**config: object) -> DehazeXL:
    """Return an untrained network that is small but has every part of the published one."""
    torch.manual_seed(3)
    shape = {"width": 8, "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2), "encoder_window": 8}
    context = {"context_layers": 1, "context_heads": 2}
    network = DehazeXL(DehazeXLConfig(**shape, **context, **config))  # type: ignore[arg-type]
    with torch.no_grad():
        # The last layer as large as a trained one, so that no mistake hides behind the input.
        for parameter in network.decoder.parameters():
            parameter.mul_(1.5)
    return network


def tiny_student() -> Student:
    """Return an untrained student that is small but has every part of the published one."""
    torch.manual_seed(4)
    return Student(StudentConfig(width=4, outer=2, inner=1))


def whole(source: Path, network: StreamedNetwork) -> NDArray[np.float32]:
    """Dehaze a raster in one pass of the network; stored values, not rounded."""
    with open_scene(str(source)) as scene:
        radiometry = Radiometry.for_scene(scene, (0, 1, 2))
        pixels, valid = scene.read(scene.frame.window)
    stored, mask = torch.from_numpy(pixels), torch.from_numpy(valid)
    display, linear = radiometry.display(stored), radiometry.to_linear(stored)
    with torch.inference_mode():
        clear = restore_linear(network.eval(), display, linear, mask.float())
        restored: NDArray[np.float32] = radiometry.from_linear(clear).numpy()
    return restored


class KnownHaze(PaintingTokenNetwork):
    """Takes an even haze of `THICKNESS`, `ALPHA` and `AIRLIGHT` out, patch by patch."""

    architecture = "known-haze"
    config = DehazeXLConfig()
    unit_px = 256
    halo_px = 0
    token_width = condition_width = 4
    context_budget = 4096
    footprint = Footprint(fixed_mib=0, bytes_per_px=60)

    def __init__(self) -> None:
        super().__init__()
        self.context = ContextNetwork(4, 1, 1, 4)

    def stages(self) -> list[nn.Module]:
        return []

    def encode(self, rgb: Tensor, valid: Tensor) -> Tensor:
        return F.avg_pool2d(torch.cat((rgb, valid), dim=1), 32).permute(0, 2, 3, 1)

    def conditions(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        return hidden

    def estimate(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor, scene: SceneHaze
    ) -> PaintedImage:
        alpha = torch.tensor(ALPHA)
        ratios = torch.stack([angstrom_ratio(alpha, each) for each in RGB_WAVELENGTHS])
        t = torch.exp(-THICKNESS * ratios)[:, None, None]
        return PaintedImage(srgb_encode(remove_haze(srgb_decode(rgb), t, torch.tensor(AIRLIGHT))))
