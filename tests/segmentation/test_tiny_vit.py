# SPDX-License-Identifier: GPL-3.0-or-later
"""The encoder of MobileSAM: layout of the official checkpoint, attention in windows."""

from __future__ import annotations

import pytest
import torch

from dehaze_core.segmentation.sam.networks import outline_network
from dehaze_core.segmentation.sam.tiny_vit import TinyViT, TinyViTConfig, without_extras
from tests.segmentation.sams import NARROW, SIDE, WIDTH, needs_sam

# Some tensors of the official checkpoint, by what they belong to.
OFFICIAL = {
    "patch_embed.seq.0.c.weight": (32, 3, 3, 3),
    "patch_embed.seq.2.bn.running_var": (64,),
    "layers.0.blocks.1.conv2.c.weight": (256, 1, 3, 3),
    "layers.0.downsample.conv3.c.weight": (128, 128, 1, 1),
    "layers.1.blocks.0.attn.attention_biases": (4, 49),
    "layers.1.downsample.conv2.c.weight": (160, 1, 3, 3),
    "layers.2.blocks.5.attn.attention_biases": (5, 196),
    "layers.2.downsample.conv1.c.weight": (320, 160, 1, 1),
    "layers.3.blocks.1.attn.qkv.weight": (960, 320),
    "layers.3.blocks.1.local_conv.c.weight": (320, 1, 3, 3),
    "layers.3.blocks.1.mlp.fc2.weight": (320, 1280),
    "neck.0.weight": (256, 320, 1, 1),
    "neck.3.bias": (256,),
}
OFFICIAL_TENSORS = 302 - 31  # without 27 counters of batches and 4 tensors of a classifier


@pytest.fixture
def encoder() -> TinyViT:
    torch.manual_seed(0)
    return TinyViT(NARROW).eval().requires_grad_(False)


def test_its_tensors_are_those_of_the_official_checkpoint() -> None:
    with torch.device("meta"):
        tensors = TinyViT().state_dict()

    assert {name: tuple(tensors[name].shape) for name in OFFICIAL} == OFFICIAL
    assert len(tensors) == OFFICIAL_TENSORS


def test_mobile_sam_has_as_many_parameters_as_its_checkpoint_less_the_classifier() -> None:
    needs_sam()
    sam = outline_network("mobile")

    assert sum(value.numel() for value in sam.parameters()) == 9_808_452


def test_what_only_training_needs_is_left_behind(encoder: TinyViT) -> None:
    tensors = dict(encoder.state_dict())
    tensors["patch_embed.seq.0.bn.num_batches_tracked"] = torch.tensor(7)
    tensors["norm_head.weight"] = torch.ones(16)
    tensors["head.weight"] = torch.ones(1000, 16)
    before = set(tensors)

    TinyViT(NARROW).load_state_dict(tensors, strict=True)

    assert set(tensors) == before
    with pytest.raises(RuntimeError, match="unknown"):
        TinyViT(NARROW).load_state_dict({**tensors, "unknown": torch.ones(1)}, strict=True)


def test_only_names_below_the_prefix_are_extras() -> None:
    names = ["enc.head.bias", "enc.neck.0.weight", "mask.head.bias", "enc.bn.num_batches_tracked"]

    assert without_extras(names, "enc.") == ["enc.neck.0.weight", "mask.head.bias"]


def test_the_embedding_has_a_sixteenth_of_the_side(encoder: TinyViT) -> None:
    embedding = encoder(torch.randn(1, 3, SIDE, SIDE))

    assert embedding.shape == (1, WIDTH, SIDE // 16, SIDE // 16)
    assert embedding.std() > 0


def test_biases_belong_to_distances_of_rows_and_columns() -> None:
    block = TinyViT(NARROW).layers[1].blocks[0].attn
    side = 7
    place = {(row, col): row * side + col for row in range(side) for col in range(side)}

    for one, other, apart in (
        ((0, 0), (0, 0), 0),
        ((0, 0), (0, 3), 3),
        ((2, 5), (4, 1), 2 * side + 4),
        ((4, 1), (2, 5), 2 * side + 4),
        ((6, 6), (0, 0), side * side - 1),
    ):
        assert block.places[place[one], place[other]] == apart


def test_attention_stays_within_its_window() -> None:
    """A change in one window of 7 x 7 tokens reaches the next only by the convolution after it."""
    torch.manual_seed(0)
    block = TinyViT(NARROW).layers[1].blocks[0].eval().requires_grad_(False)
    features = torch.randn(1, 8, 14, 14)
    changed = features.clone()
    changed[0, 3, 0, 0] += 1.0  # one channel: the norm takes away what all have in common

    differs = (block(features) - block(changed)).abs().amax(dim=(0, 1)) > 0

    assert differs[:7, :7].all()
    assert not differs[8:].any()
    assert not differs[:, 8:].any()


def test_sides_that_windows_do_not_fit_are_filled_and_cut_again() -> None:
    torch.manual_seed(0)
    block = TinyViT(NARROW).layers[1].blocks[0].eval().requires_grad_(False)

    assert block(torch.randn(2, 8, 9, 16)).shape == (2, 8, 9, 16)


def test_the_weights_are_made_nowhere_but_the_places_are() -> None:
    with torch.device("meta"):
        encoder = TinyViT(TinyViTConfig())

    assert {value.device.type for value in encoder.parameters()} == {"meta"}
    assert encoder.layers[2].blocks[0].attn.places.device.type == "cpu"
