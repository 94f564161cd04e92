# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehazexl-lite`: halos, sizes, ranges."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_core.haze.layers import full_resolution
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig, parameter_count
from dehaze_core.models.streaming import HazeMaps

MAX_PARAMETERS = 8_000_000


@pytest.fixture
def network() -> DehazeXLLite:
    torch.manual_seed(2)
    network = DehazeXLLite(LiteConfig()).eval()
    # Weights as large as trained ones, so that influence from afar is not lost in rounding.
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("scale"):
                parameter.fill_(1.0)
            if "head" in name and parameter.ndim > 1:
                parameter.normal_(std=0.1)
    return network


def test_parameter_count_stays_in_the_aim(network: DehazeXLLite) -> None:
    assert parameter_count(network) <= MAX_PARAMETERS


SIDE = 768
CORE = slice(320, 448)


def _with_halo(halo: int) -> slice:
    return slice(CORE.start - halo, CORE.stop + halo)


def _in_tokens(pixels: slice) -> slice:
    return slice(pixels.start // 32, pixels.stop // 32)


def _token_error(network: DehazeXLLite, halo: int) -> float:
    """Return how far the core's tokens from a block with halo are from those of the whole."""
    torch.manual_seed(3)
    rgb, valid = torch.rand(1, 3, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE)
    outer = (..., _with_halo(halo), _with_halo(halo))
    core = _in_tokens(CORE)
    inset = slice(halo // 32, halo // 32 + core.stop - core.start)

    whole = network.tokens(rgb, network.skips(rgb, valid))[:, core, core]
    block = network.tokens(rgb[outer], network.skips(rgb[outer], valid[outer]))[:, inset, inset]

    return float((whole - block).abs().max())


def _map_error(network: DehazeXLLite, halo: int) -> float:
    """Return the same for the thickness at full resolution, given the tokens of the whole."""
    torch.manual_seed(3)
    rgb, valid = torch.rand(1, 3, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE)
    outer = _with_halo(halo)
    skips = network.skips(rgb, valid)
    tokens = network.tokens(rgb, skips)
    hidden = network.context(tokens, torch.ones(1, SIDE // 32, SIDE // 32), 4096)
    scene = network.scene_haze(*network.scene_sums(hidden, torch.ones(1, SIDE // 32, SIDE // 32)))
    conditions = network.conditions(tokens, hidden)

    whole = network.decode(skips, conditions, scene)
    cut = (..., outer, outer)
    given = conditions[:, _in_tokens(outer), _in_tokens(outer)]
    block = network.decode(network.skips(rgb[cut], valid[cut]), given, scene)

    inset = slice(halo, halo + CORE.stop - CORE.start)
    full = _thickness(whole, rgb)[..., CORE, CORE]
    return float((full - _thickness(block, rgb[cut])[..., inset, inset]).abs().max())


def _thickness(maps: HazeMaps, rgb: torch.Tensor) -> torch.Tensor:
    luminance = rgb.mean(dim=1, keepdim=True)
    return full_resolution(maps.thickness, maps.airlight, maps.edge_slope, luminance)[0]


@torch.no_grad()
def test_tokens_of_a_block_with_halo_equal_those_of_the_whole(network: DehazeXLLite) -> None:
    need = -(-network.config.encode_halo // 32) * 32

    assert _token_error(network, need) <= 1e-4
    assert _token_error(network, 96) > 1e-3


@torch.no_grad()
def test_haze_of_a_block_with_halo_equals_that_of_the_whole(network: DehazeXLLite) -> None:
    need = -(-network.config.decode_halo // 32) * 32

    assert _map_error(network, need) <= 1e-4
    assert _map_error(network, 64) > 1e-3


@torch.no_grad()
def test_outputs_are_physical(network: DehazeXLLite) -> None:
    rgb, valid = torch.rand(2, 3, 64, 96), torch.ones(2, 1, 64, 96)

    maps, scene = network(rgb, valid, torch.ones(2, 2, 3))

    assert maps.thickness.shape == (2, 1, 16, 24)
    assert maps.airlight.shape == (2, 3, 16, 24)
    assert (maps.thickness >= 0).all()
    assert ((maps.airlight > 0) & (maps.airlight < 1.2)).all()
    assert (scene.ratios > 0).all()


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ({"widths": (32, 64)}, "widths"),
        ({"widths": (8, 16, 24, 30)}, "multiple of 4"),
        ({"encoder_kernels": (5, 5, 4, 3)}, "even"),
        ({"decoder_blocks": (1, 0, 1)}, "decoder_blocks"),
        ({"context_heads": 2.0}, "context_heads"),
    ],
)
def test_shapes_that_no_network_can_have_are_refused(shape: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        LiteConfig(**shape)


def test_configuration_survives_json() -> None:
    config = LiteConfig(widths=(8, 16, 24, 32))

    data = {k: list(v) if isinstance(v, tuple) else v for k, v in config.as_dict().items()}

    assert LiteConfig.from_dict(data) == config
