# SPDX-License-Identifier: GPL-3.0-or-later
"""`guided-unet`: its size, its reach, blocks and the whole."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from dehaze_core.errors import ModelError
from dehaze_core.models.architectures import build_network
from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.sam_guided.unet import UNet, UNetConfig
from dehaze_core.models.streaming import SceneStatistics
from tests.models.painted_blocks import in_blocks, in_one, picture, with_gaps

SMALL = UNetConfig(widths=(4, 6, 8, 8, 10))
NOTHING = SceneStatistics(torch.zeros(1, 0))


def unet(config: UNetConfig = SMALL) -> UNet:
    """Return a network whose weights are large enough for influence from afar to show."""
    torch.manual_seed(4)
    network = UNet(config).eval()
    with torch.no_grad():
        network.last.weight.normal_(std=0.3)
    return network


def test_it_has_ten_million_parameters_and_no_normalisation() -> None:
    network = UNet()

    assert parameter_count(network) == 10_025_219
    names = {type(module).__name__ for module in network.modules()}
    assert not any("Norm" in name for name in names)


def test_it_begins_by_painting_nearly_what_it_sees() -> None:
    torch.manual_seed(1)
    seen, valid, weight = picture(64, 64)

    with torch.no_grad():
        change = UNet(SMALL).eval()(seen, valid, weight).clear - seen[:, :3]

    assert 0 < change.abs().max() < 0.1


@torch.no_grad()
def test_features_keep_their_size_from_level_to_level() -> None:
    torch.manual_seed(2)
    network = UNet(UNetConfig(widths=(16, 32, 64, 64, 64))).eval()
    sizes: list[float] = []
    for stage in network.encoder:
        stage.register_forward_hook(lambda module, given, out: sizes.append(float(out.std())))

    network(*picture(64, 64))

    assert len(sizes) == 5
    assert all(0.1 < later / earlier < 10 for earlier, later in pairwise(sizes))


def test_nothing_farther_than_the_reach_has_influence() -> None:
    network = UNet(SMALL).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.abs() + 0.01)  # so that nothing is lost in a rectifier
    side, core = 256, slice(96, 128)
    seen = torch.full((1, 4, side, side), 0.9, dtype=torch.float64, requires_grad=True)

    painted = in_one(network, seen, torch.ones_like(seen[:, :1]), NOTHING)
    painted[..., core, core].sum().backward()

    assert seen.grad is not None
    rows, cols = seen.grad[0, :3].abs().sum(dim=0).nonzero().unbind(dim=1)
    reach = network.config.reach
    for found in (rows, cols):
        assert (int(found.min()), int(found.max())) == (core.start - reach, core.stop - 1 + reach)


def test_the_reach_is_what_the_convolutions_add_up_to() -> None:
    # Last layer, decoder and bottom on the way back: 1 + 2, to a multiple of 2, + 4, ...
    assert UNetConfig().reach == (((1 + 2 + 1) + 4) + 8 + 16 + 32) + 2 * (1 + 2 + 4 + 8)
    assert UNet(SMALL).halo_px == 96


@pytest.mark.parametrize("side", [64, 160])
@torch.no_grad()
def test_blocks_equal_the_whole(side: int) -> None:
    network = unet()
    seen, valid, _ = with_gaps(picture(64, 256)[0])

    expected = in_one(network, seen, valid, NOTHING)

    assert (expected - seen[:, :3]).abs().max() > 0.1
    found = in_blocks(network, (seen, valid), NOTHING, side, network.halo_px)
    assert (found - expected).abs().max() <= 1e-6


@torch.no_grad()
def test_blocks_with_too_little_halo_show() -> None:
    network = unet()
    seen, valid, _ = picture(64, 128)

    expected = in_one(network, seen, valid, NOTHING)

    assert (in_blocks(network, (seen, valid), NOTHING, 64, 0) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_one_pass_equals_a_look_and_an_estimate() -> None:
    network = unet()
    seen, valid, weight = with_gaps(picture(96, 64)[0])

    frozen = network.look(seen, valid, weight)

    assert frozen.values.shape == (1, 0)
    assert torch.equal(network(seen, valid, weight).clear, in_one(network, seen, valid, frozen))


def test_training_can_compute_every_level_again() -> None:
    assert len(unet().stages()) == 9
    assert all(isinstance(stage, nn.Sequential) for stage in unet().stages())


@pytest.mark.parametrize("shape", [{"widths": (32, 64, 128)}, {"widths": (0, 1, 1, 1, 1)}])
def test_shapes_that_cannot_be_are_refused(shape: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="widths"):
        UNetConfig(**shape)


def test_the_architecture_is_known_and_bounded() -> None:
    assert isinstance(build_network("guided-unet", SMALL.as_dict()), UNet)
    with pytest.raises(ModelError, match="at most 2 times as large") as caught:
        build_network("guided-unet", {"widths": (65, 64, 128, 256, 512)})
    assert caught.value.code == "MODEL_CARD"
