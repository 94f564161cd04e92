# SPDX-License-Identifier: GPL-3.0-or-later
"""AOD-Net: the smallest published dehazing network, for pictures taken from the ground.

Written from B. Li, X. Peng, Z. Wang, J. Xu, D. Feng, "AOD-Net: All-in-One Dehazing Network", ICCV
2017. Transmission and airlight become one map K, and the clear picture is K I - K + b with b = 1.
Weights are the user's: Dehaze brings none, and a file of the names `e_conv1` .. `e_conv5` is read
where one is given.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from dehaze_core.errors import ModelError
from dehaze_core.metrics.pairs import Picture, Restorer
from dehaze_core.models.architectures import check_finite, check_layout
from dehaze_core.models.importer import unpickled_elsewhere
from dehaze_core.models.safetensors_header import read_outline

BIAS = 1.0  # b of the paper
MOST_BYTES = 1 << 20  # the network's 1,761 numbers fill 7 kB


class AODNet(nn.Module):
    """Five small convolutions of three channels each, every one with a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.e_conv1 = nn.Conv2d(3, 3, 1)
        self.e_conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.e_conv3 = nn.Conv2d(6, 3, 5, padding=2)
        self.e_conv4 = nn.Conv2d(6, 3, 7, padding=3)
        self.e_conv5 = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, hazy: Tensor) -> Tensor:
        """Return clear pictures (N, 3, H, W), >= 0, of hazy ones (N, 3, H, W), [0, 1]."""
        first = torch.relu(self.e_conv1(hazy))
        second = torch.relu(self.e_conv2(first))
        third = torch.relu(self.e_conv3(torch.cat((first, second), dim=1)))
        fourth = torch.relu(self.e_conv4(torch.cat((second, third), dim=1)))
        k = torch.relu(self.e_conv5(torch.cat((first, second, third, fourth), dim=1)))
        return torch.relu(k * hazy - k + BIAS)


def aod_net(weights: Path) -> Restorer:
    """Return the method with the weights of a file.

    Args:
        weights: `.pth` with a state dict.

    Raises:
        ModelError: The file cannot be read (MODEL_FILE), is no file of weights (MODEL_IMPORT,
            MODEL_FORMAT), or does not hold those of AOD-Net (MODEL_SHAPE, MODEL_VALUES).
    """
    network = AODNet()
    network.load_state_dict(_read(weights, network))
    network.eval().requires_grad_(False)

    def restore(picture: Picture) -> NDArray[np.uint8]:
        hazy = torch.tensor(picture).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            clear = (network(hazy)[0].clamp(0.0, 1.0) * 255).round()
        return np.asarray(clear.to(torch.uint8).permute(1, 2, 0).numpy())

    return restore


def _read(path: Path, network: AODNet) -> dict[str, Tensor]:
    """Read the weights of the network from a file that only another process unpickles."""
    try:
        size = path.stat().st_size
        if not path.is_file() or size > MOST_BYTES:
            raise ModelError(
                f"It is not a file, or has {size:,} bytes; about 8,000 are expected.",
                code="MODEL_SHAPE",
            )
        data = unpickled_elsewhere(path)
        check_layout(read_outline(io.BytesIO(data), len(data)), network)
        tensors = load_safetensors(data)
        check_finite(tensors)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", code="MODEL_FILE") from error
    except ModelError as error:
        raise ModelError(
            f"{path} does not hold the weights of AOD-Net. {error.message}",
            hint="Expected is a .pth file of e_conv1 to e_conv5 with 1,761 numbers.",
            code=error.code,
        ) from error
    return tensors
