# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of guided network in the engine: streamed equals whole, and a mask changes pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dehaze_core.engine.in_memory import restore_linear
from dehaze_core.models.architectures import build_network
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.scene import Radiometry, open_scene
from tests.engine.test_resume import read, start

MakeRaster = Callable[..., Path]

SHAPES: dict[str, dict[str, Any]] = {
    "guided-lite": {"widths": (8, 8, 16, 16), "context_heads": 2, "context_head_dim": 8},
    "guided-small": {
        "width": 8,
        "depths": (1, 1, 1, 1),
        "heads": (1, 1, 1, 1),
        "encoder_window": 8,
        "context_layers": 1,
        "context_heads": 2,
    },
    "guided-distilled": {"width": 4, "outer": 2, "inner": 1},
    "guided-unet": {"widths": (4, 4, 8, 8, 8)},
    "guided-restormer": {"width": 2, "blocks": (1, 1, 1, 1), "heads": (1, 1, 2, 2)},
}


def guided(name: str) -> StreamedNetwork:
    """Return a small network with weights large enough for what surrounds a block to show."""
    torch.manual_seed(7)
    network = build_network(name, SHAPES[name]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.3)
        if name == "guided-lite":
            network.get_parameter("thickness_head.weight").normal_(std=0.03)
        if name == "guided-unet":
            network.get_parameter("last.weight").normal_(std=0.1)
    return network


def whole(source: Path, network: StreamedNetwork, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dehaze a float raster in one pass of the network."""
    with open_scene(str(source)) as scene:
        radiometry = Radiometry.for_scene(scene, (0, 1, 2))
        pixels, valid = scene.read(scene.frame.window)
    stored, mask = torch.from_numpy(pixels), torch.from_numpy(valid).float()
    guide = torch.from_numpy(codes)[None].float() / 255
    with torch.inference_mode():
        display, linear = radiometry.display(stored), radiometry.to_linear(stored)
        clear = restore_linear(network, display.clamp(0, 1), linear, mask, guide=guide)
        restored: NDArray[np.float32] = radiometry.from_linear(clear).numpy()
    return restored


@pytest.mark.parametrize("name", SHAPES)
def test_streamed_equals_whole(
    make_raster: MakeRaster,
    tmp_path: Path,
    hazy: NDArray[np.float32],
    use: Callable[[StreamedNetwork], None],
    name: str,
) -> None:
    # Nothing dark in it, so that the mask matters nearly everywhere.
    picture = 0.06 + hazy[:, :270, :400]
    codes = np.random.default_rng(3).integers(0, 256, (17, 25), np.uint8)
    codes = codes.repeat(16, axis=0).repeat(16, axis=1)[:270, :400]
    source = make_raster(data=picture)
    mask = make_raster("mask.tif", data=codes[None])
    network = guided(name)
    use(network)
    expected = whole(source, network, codes)

    start(source, tmp_path / "out.tif", mask=str(mask), block_size=256)

    streamed = read(tmp_path / "out.tif")
    assert np.abs(streamed - expected).max() <= 1e-5
    assert np.abs(expected - picture).max() > 0.05
    assert np.abs(expected - whole(source, network, np.zeros_like(codes))).max() > 1e-4
