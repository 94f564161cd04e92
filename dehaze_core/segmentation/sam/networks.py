# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of Segment Anything by size, built from the official package.

Kirillov et al., *Segment Anything*, ICCV 2023. The smallest is that of MobileSAM: the same prompt
encoder and decoder behind TinyViT, which the package does not have.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from dehaze_core.errors import ModelError
from dehaze_core.segmentation.sam.tiny_vit import TinyViT
from dehaze_core.segmentation.sam.torchvision_stand_in import import_torchvision
from dehaze_core.segmentation.segmenter import SamName

_PACKAGE = "segment_anything"
_BUILDERS: dict[SamName, str] = {
    "mobile": "vit_b",
    "small": "vit_b",
    "middle": "vit_l",
    "large": "vit_h",
}


def sam_package(part: str = "") -> ModuleType:
    """Return the package of Segment Anything, or a part of it, imported.

    Args:
        part: Name of a module in it, such as ".utils.amg".

    Raises:
        ModelError: It, or torchvision, which it needs, is not installed or does not work
            (MODEL_PACKAGE).
    """
    try:
        import_torchvision()
        return importlib.import_module(_PACKAGE + part)
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            "The Python packages segment-anything and torchvision are needed for Segment Anything, "
            f"and cannot be imported: {error}.",
            hint="Run pip install 'dehaze[sam]', or choose the segmenter 'slic' or 'felzenszwalb'.",
            code="MODEL_PACKAGE",
        ) from error


def outline_network(name: SamName) -> nn.Module:
    """Return the network of a size without values, for names and shapes of its tensors."""
    with torch.device("meta"):
        return build_sam(name)


def build_sam(name: SamName) -> nn.Module:
    """Return the untrained network of a size."""
    sam: nn.Module = sam_package().sam_model_registry[_BUILDERS[name]]()
    if name == "mobile":
        sam.image_encoder = TinyViT()
    return sam.eval()


def trained_sam(name: SamName, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the network of a size with its weights, in float32, ready for inference.

    Raises:
        RuntimeError: They are not exactly those of the network.
    """
    sam: Any = outline_network(name)
    sam.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
    # They are no weights, so nothing has loaded them; these are the values of Segment Anything.
    sam.pixel_mean = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1)
    sam.pixel_std = torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)
    network: nn.Module = sam.eval().requires_grad_(False)
    return network
