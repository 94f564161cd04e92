# SPDX-License-Identifier: GPL-3.0-or-later
"""Small guided networks on which a mask has much influence, and bright scenes to show it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dehaze_core.engine.in_memory import restore_linear
from dehaze_core.models.dehazexl.lite import LiteConfig
from dehaze_core.models.sam_guided.guided import GuidedLite, GuidedStudent
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.models.student.student import StudentConfig
from dehaze_core.scene import Radiometry, open_scene


@torch.no_grad()
def tiny_guided(seed: int = 6) -> GuidedLite:
    """Return an untrained `guided-lite` that answers to every mask in another way."""
    torch.manual_seed(seed)
    shape = {"widths": (8, 8, 16, 16), "encoder_blocks": (1, 1, 1, 1), "decoder_blocks": (1, 1, 1)}
    network = GuidedLite(LiteConfig(**shape, context_layers=1, context_heads=2))  # type: ignore[arg-type]
    embed = network.stem.embed
    embed.weight[:, embed.known :] = torch.randn_like(embed.weight[:, embed.known :])
    network.thickness_head.weight.mul_(100.0)
    return network


@torch.no_grad()
def tiny_guided_student() -> GuidedStudent:
    """Return an untrained `guided-distilled`, which looks at an overview and paints."""
    torch.manual_seed(7)
    network = GuidedStudent(StudentConfig(width=4, outer=2, inner=1))
    network.pre.weight[:, network.pre.known :] *= 3.0
    return network


def bright_scene(height: int, width: int, seed: int = 8) -> NDArray[np.uint8]:
    """Return a hazy picture, (3, height, width): nothing in it is dark."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(110, 200, (3, height // 20 + 1, width // 20 + 1))
    picture = coarse.repeat(20, axis=1).repeat(20, axis=2)[:, :height, :width]
    return (picture + rng.integers(-20, 20, picture.shape)).astype(np.uint8)


def restored(
    source: Path, network: StreamedNetwork, guide: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Dehaze a raster in one pass of the network with a guide (H, W); stored values."""
    with open_scene(str(source)) as scene:
        radiometry = Radiometry.for_scene(scene, (0, 1, 2))
        pixels, valid = scene.read(scene.frame.window)
    stored, mask = torch.from_numpy(pixels), torch.from_numpy(valid).float()
    shown = torch.from_numpy(guide.astype(np.float32))[None]
    with torch.inference_mode():
        clear = restore_linear(
            network.eval(), radiometry.display(stored), radiometry.to_linear(stored), mask, 1.0,
            shown,
        )  # fmt: skip
        values: NDArray[np.float32] = radiometry.from_linear(clear.clamp_min(0.0)).numpy()
    return values
