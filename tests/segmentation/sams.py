# SPDX-License-Identifier: GPL-3.0-or-later
"""Small networks of Segment Anything for tests: real ones, with random weights."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from dehaze_core.errors import ModelError
from dehaze_core.segmentation.sam.networks import sam_package
from dehaze_core.segmentation.sam.tiny_vit import TinyViT, TinyViTConfig

SIDE = 128
WIDTH = 32
NARROW = TinyViTConfig(
    widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(2, 2, 2), side=SIDE, answer=WIDTH
)


def needs_sam() -> None:
    """Skip a test where Segment Anything is not installed."""
    try:
        sam_package()
    except ModelError as error:
        pytest.skip(error.message)


def tiny_sam(encoder: nn.Module | None = None) -> nn.Module:
    """Return a Sam of about 0.1 million parameters for pictures of 128 px, always the same.

    Args:
        encoder: Takes the place of a small vision transformer.
    """
    needs_sam()
    parts = sam_package(".modeling")
    torch.manual_seed(0)
    transformer = parts.ImageEncoderViT(
        img_size=SIDE,
        depth=1,
        embed_dim=48,
        num_heads=4,
        mlp_ratio=2,
        out_chans=WIDTH,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        global_attn_indexes=[0],
    )
    decoder = parts.TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=4, mlp_dim=64)
    sam: nn.Module = parts.Sam(
        image_encoder=encoder or transformer,
        prompt_encoder=parts.PromptEncoder(WIDTH, (SIDE // 16, SIDE // 16), (SIDE, SIDE), 8),
        mask_decoder=parts.MaskDecoder(
            transformer_dim=WIDTH,
            transformer=decoder,
            num_multimask_outputs=3,
            iou_head_depth=2,
            iou_head_hidden_dim=32,
        ),
    )
    return sam.eval().requires_grad_(False)


def tiny_mobile() -> nn.Module:
    """Return a Sam with a narrow encoder of MobileSAM, always the same."""
    torch.manual_seed(0)
    return tiny_sam(TinyViT(NARROW))


def squares(height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture of coloured squares on noise, (H, W, 3)."""
    picture = np.random.default_rng(0).integers(90, 110, (height, width, 3)).astype(np.uint8)
    picture[10:40, 10:40] = (200, 40, 40)
    picture[50:80, 30:90] = (30, 60, 220)
    return picture
