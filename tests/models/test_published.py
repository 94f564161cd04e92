# SPDX-License-Identifier: GPL-3.0-or-later
"""DehazeXL as published: equal to the original, at any size, block by block, with overlap."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.models.dehazexl.bottleneck import Bottleneck
from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.dehazexl.published import DehazeXL
from dehaze_core.models.dehazexl.published_config import BASE, SMALL, DehazeXLConfig
from dehaze_core.models.dehazexl.windows import StochasticDepth
from dehaze_core.models.importer_published import own_names
from dehaze_core.models.streaming import SceneHaze
from tests.models.published import PlainDehazeXL, checkpoint, tiny

SHARED = Path(__file__).parents[3] / "shared" / "specs" / "dehazexl_published"
NOTHING = SceneHaze(torch.zeros(1, 0), torch.zeros(1, 0))


@pytest.fixture(scope="module")
def base() -> DehazeXL:
    return DehazeXL(BASE).eval()


def picture(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random pixels, a mask without gaps, and the weights of its tokens."""
    rgb = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(1, 1, height, width)
    return rgb, valid, F.avg_pool2d(valid, 32)[:, 0]


def streamed(network: DehazeXL, rgb: Tensor, valid: Tensor, side: int) -> Tensor:
    """Run the network as the engine does: in blocks of `side` px, with its halo."""
    _, _, height, width = rgb.shape
    blocks = [(row, col) for row in range(0, height, side) for col in range(0, width, side)]
    tokens = torch.zeros(1, height // 32, width // 32, network.token_width)
    for row, col in blocks:
        block = (..., slice(row, row + side), slice(col, col + side))
        cells = (0, slice(row // 32, (row + side) // 32), slice(col // 32, (col + side) // 32))
        tokens[cells] = network.encode(rgb[block], valid[block])[0]
    weight = F.avg_pool2d(valid, 32)[:, 0]
    conditions = network.conditions(tokens, network.context(tokens, weight, 4096))
    clear, halo = torch.zeros_like(rgb), network.halo_px
    for row, col in blocks:
        top, left = max(row - halo, 0), max(col - halo, 0)
        bottom, right = row + side + halo, col + side + halo
        outer = (..., slice(top, bottom), slice(left, right))
        known = conditions[:, top // 32 : bottom // 32, left // 32 : right // 32]
        painted = network.estimate(rgb[outer], valid[outer], known, NOTHING).clear
        inset = painted[..., row - top : row - top + side, col - left : col - left + side]
        clear[..., row : row + side, col : col + side] = inset
    return clear


@pytest.mark.parametrize(
    ("part", "parameters"),
    [
        ("encoder", 27_576_618),
        ("context", 19_474_176),
        ("decoder", 78_434_202),
        ("", 125_484_996),
    ],
)
def test_parts_have_the_published_number_of_parameters(
    base: DehazeXL, part: str, parameters: int
) -> None:
    assert parameter_count(base.get_submodule(part)) == parameters


def reference_parameter(name: str, shape: list[int]) -> Tensor:
    """Fill a parameter as the README beside the reference output says."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if name.endswith("logit_scale"):
        return 2.3 + 0.1 * noise
    if len(shape) == 1:
        return 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
    if name.endswith("relative_position_bias_table"):
        return 0.02 * noise
    return noise / math.sqrt(math.prod(shape[1:]))


@pytest.mark.slow
@pytest.mark.skipif(
    not SHARED.exists(), reason=f"the folder shared/specs/{SHARED.name} is not here"
)
@torch.no_grad()
def test_a_checkpoint_in_the_published_layout_gives_the_output_of_the_original(
    base: DehazeXL,
) -> None:
    entries = json.loads((SHARED / "state_dict.json").read_text(encoding="utf-8"))
    published = {
        name: reference_parameter(name, shape) if kind == "parameter" else torch.zeros(shape)
        for name, shape, _, kind in entries
    }
    base.load_state_dict(own_names(published, base), strict=True)
    expected = torch.from_numpy(np.load(SHARED / "ref_256.npy"))
    given = np.random.default_rng(11).random((1, 3, 256, 256), dtype=np.float32)
    _, valid, weight = picture(256, 256)

    found = base(torch.from_numpy(given), valid, weight).clear[0]

    assert len(published) == 363
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("size", [(256, 256), (512, 512), (512, 768)])
@torch.no_grad()
def test_output_equals_that_of_a_plain_implementation(size: tuple[int, int]) -> None:
    network = tiny()
    rgb, valid, weight = picture(*size)

    found = network(rgb, valid, weight).clear[0].numpy()
    expected = PlainDehazeXL(checkpoint(network), network.config)(rgb[0].double().numpy())

    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("overlap", [False, True])
@torch.no_grad()
def test_blocks_give_the_same_pixels_as_the_whole(overlap: bool) -> None:
    network = tiny(depths=(1, 1, 1, 1), overlap=overlap)
    rgb, valid, _ = picture(512, 768)
    valid[..., 256:512, 512:] = 0

    whole = network(rgb, valid, F.avg_pool2d(valid, 32)[:, 0]).clear
    blocks = streamed(network, rgb, valid, 256)

    # Products of matrices may be rounded otherwise where they are of another size.
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-6 * float(whole.abs().max()))


@pytest.mark.parametrize("overlap", [False, True])
@torch.no_grad()
def test_patches_without_data_are_left_alone(
    overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny(overlap=overlap)
    rgb, valid, _ = picture(512, 512)
    valid[..., 256:] = 0
    encoded = []
    encoder = network.encoder.forward
    monkeypatch.setattr(network.encoder, "forward", lambda x: encoded.append(len(x)) or encoder(x))

    tokens = network.encode(rgb, valid)
    clear = network.estimate(rgb, valid, tokens, NOTHING).clear

    assert not tokens[:, :, 8:].any()
    assert tokens[:, :, :8].any()
    assert torch.equal(clear[..., 384:], rgb[..., 384:])
    # Once for tokens; then the left half, and with overlap what reaches into it.
    assert sum(encoded) == 2 + (2 + 2 + 1 + 1 if overlap else 2)


@torch.no_grad()
def test_a_raster_without_data_stays_as_it_is() -> None:
    network = tiny()
    rgb, valid, _ = picture(256, 512)

    tokens = network.encode(rgb, 0 * valid)

    assert not tokens.any()
    assert torch.equal(network.estimate(rgb, 0 * valid, tokens, NOTHING).clear, rgb)


def step_at_borders(network: DehazeXL) -> float:
    """Return the step at a border of patches on even ground, in units of those within patches."""
    rgb, valid, weight = picture(256, 768)
    changed = network(torch.full_like(rgb, 0.4), valid, weight).clear
    steps = F.avg_pool2d(changed, 32).diff(dim=-1).abs().mean(dim=(0, 1, 2))
    borders = torch.arange(1, len(steps) + 1) % 8 == 0
    return float(steps[borders].mean() / steps[~borders].mean())


@torch.no_grad()
def test_overlap_makes_borders_of_patches_vanish() -> None:
    plain, blended = step_at_borders(tiny()), step_at_borders(tiny(overlap=True))

    assert plain > 2
    assert blended - 1 < 0.4 * (plain - 1)


@torch.no_grad()
def test_overlap_changes_nothing_where_only_one_patch_exists() -> None:
    rgb, valid, weight = picture(256, 256)

    plain = tiny()(rgb, valid, weight).clear
    blended = tiny(overlap=True)(rgb, valid, weight).clear

    torch.testing.assert_close(blended, plain, rtol=0, atol=1e-5)


def test_halo_is_whole_patches_and_only_with_overlap() -> None:
    assert tiny().halo_px == 0
    assert tiny(overlap=True).halo_px == 256 == DehazeXL.unit_px


@pytest.mark.parametrize("positions", ["absolute", "rescaled"])
@torch.no_grad()
def test_hidden_states_of_strips_equal_those_of_the_whole(positions: Any) -> None:
    torch.manual_seed(0)
    bottleneck = Bottleneck(16, layers=1, heads=2, positions=positions).eval()
    tokens = torch.randn(1, 128, 9, 16)

    strips = [bottleneck.embed(tokens[:, row : row + 32], row, 128) for row in range(0, 128, 32)]

    assert torch.equal(torch.cat(strips, dim=1), bottleneck.embed(tokens, 0, 128))


@torch.no_grad()
def test_rescaled_positions_are_the_published_ones_for_64_tokens_and_stay_among_them() -> None:
    def code(positions: Any, rows: int) -> Tensor:
        bottleneck = Bottleneck(16, layers=1, heads=2, positions=positions)
        bottleneck.input_proj.weight.zero_()
        bottleneck.input_proj.bias.zero_()
        return bottleneck.embed(torch.zeros(1, rows, 3, 16), 0, rows)[0]

    assert torch.equal(code("rescaled", 64), code("absolute", 64))
    torch.testing.assert_close(code("rescaled", 128)[::2, :1], code("absolute", 64)[:, :1])


@torch.no_grad()
def test_bounded_context_is_taken_from_the_budget() -> None:
    network = tiny()
    rgb, valid, weight = picture(256, 512)

    exact = network(rgb, valid, weight).clear

    assert torch.equal(network(rgb, valid, weight, budget=128).clear, exact)
    assert not torch.allclose(network(rgb, valid, weight, budget=32).clear, exact, atol=1e-4)


def test_every_parameter_learns() -> None:
    network = tiny().train()
    rgb, valid, weight = picture(256, 512)

    network(rgb, valid, weight).clear.square().mean().backward()

    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad.any() for p in network.parameters() if p.grad is not None)


def test_stochastic_depth_drops_residuals_in_training_only_and_keeps_their_mean() -> None:
    torch.manual_seed(0)
    depth = StochasticDepth(0.25)
    residual = torch.ones(4000, 1, 1, 1)

    assert torch.equal(depth.eval()(residual), residual)
    dropped = depth.train()(residual)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert abs(float(dropped.mean()) - 1) < 0.05


def test_stochastic_depth_is_strongest_where_the_network_is_deepest() -> None:
    network = DehazeXL(SMALL)

    encoder = [block.drop.rate for stage in network.encoder.layers for block in stage.blocks]
    decoder = [block.drop.rate for stage in network.decoder.layers_up for block in stage.blocks]

    assert encoder == pytest.approx(np.linspace(0, 0.1, 12))
    assert decoder == pytest.approx(np.linspace(0, 0.1, 8).reshape(4, 2)[::-1].ravel())


@torch.no_grad()
def test_kept_biases_follow_the_weights() -> None:
    network, other = tiny(), tiny()
    rgb, valid, weight = picture(256, 256)
    before = network(rgb, valid, weight).clear
    for parameter in other.parameters():
        parameter.mul_(1.1)

    network.load_state_dict(other.state_dict())

    assert torch.equal(network(rgb, valid, weight).clear, other(rgb, valid, weight).clear)
    assert not torch.equal(network(rgb, valid, weight).clear, before)


@torch.no_grad()
def test_half_precision_stays_near_float32() -> None:
    network = tiny()
    rgb, valid, weight = picture(256, 256)

    exact = network(rgb, valid, weight).clear
    with torch.autocast("cpu", torch.bfloat16):
        half = network(rgb, valid, weight).clear

    assert half.dtype == torch.float32
    assert (half - exact).norm() < 0.05 * (exact - rgb).norm()


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ({"width": 12}, "multiple of 8"),
        ({"heads": (3, 6, 12)}, "heads"),
        ({"heads": (5, 6, 12, 24)}, "5 heads"),
        ({"context_heads": 7}, "7 heads"),
        ({"depths": (2, 2, 0, 2)}, "depths"),
        ({"encoder_window": 12}, "windows of 12"),
        ({"positions": "relative"}, "positions"),
        ({"overlap": 1}, "overlap"),
        ({"context_budget": 0}, "context_budget"),
    ],
)
def test_shapes_that_no_network_can_have_are_refused(shape: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        DehazeXLConfig(**shape)
