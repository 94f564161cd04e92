# SPDX-License-Identifier: GPL-3.0-or-later
"""`guided-restormer`: the published anatomy, sums over the raster, blocks and the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.errors import ModelError
from dehaze_core.models.architectures import build_network
from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.sam_guided import transposed
from dehaze_core.models.sam_guided.gate import gate
from dehaze_core.models.sam_guided.restormer import PUBLISHED, Restormer, RestormerConfig
from dehaze_core.models.streaming import FILL, SceneStatistics
from tests.models.painted_blocks import (
    continued,
    in_blocks,
    in_one,
    picture,
    whole,
    with_gaps,
)

SMALL = RestormerConfig(width=8, blocks=(1, 1, 1, 1))
UNEVEN = RestormerConfig(width=4, blocks=(2, 1, 2, 1), heads=(2, 1, 4, 2), refinement=2)


def restormer(config: RestormerConfig = SMALL) -> Restormer:
    """Return a network whose weights are large enough for influence from afar to show."""
    torch.manual_seed(4)
    network = Restormer(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("temperature"):
                parameter.uniform_(1.0, 4.0)
            elif parameter.ndim > 1:
                parameter.mul_(1.5)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network


class PlainRestormer:
    """The network as the paper has it, channels first and in float64, one step after the other.

    Args:
        network: Its weights and its shape are used.
        counts: (H, W) what each pixel counts in the attention.
    """

    def __init__(self, network: Restormer, counts: Tensor) -> None:
        self.weights = {name: value.double() for name, value in network.state_dict().items()}
        self.config = network.config
        self.counts = counts.double()

    def __call__(self, seen: Tensor, valid: Tensor) -> Tensor:
        """Map an image with its guide (1, 4, H, W) to a clear one."""
        rgb, guide = seen[:, :3].double(), seen[:, 3:].double()
        weight = gate(seen[:, :3], valid).double().repeat_interleave(32, 2).repeat_interleave(32, 3)
        x = self.conv("first", torch.cat((rgb - FILL, guide * weight * valid), dim=1))
        skips = []
        for level in range(4):
            if level:
                skips.append(x)
                x = F.pixel_unshuffle(self.conv(f"down.{level - 1}.conv", x), 2)
            x = self.level(f"encoder.{level}", x, level, self.config.blocks[level])
        for level in (2, 1, 0):
            x = F.pixel_shuffle(self.conv(f"up.{level}.conv", x), 2)
            x = torch.cat((x, skips[level]), dim=1)
            if level:
                x = self.point(f"reduce.{level - 1}", x)
            x = self.level(f"decoder.{level}", x, level, self.config.blocks[level])
        x = self.level("refinement", x, 0, self.config.refinement)
        return rgb + self.conv("last", x)

    def level(self, name: str, x: Tensor, level: int, blocks: int) -> Tensor:
        for i in range(blocks):
            x = x + self.attend(f"{name}.blocks.{i}.attention", x, self.config.heads[level])
            x = x + self.feed(f"{name}.blocks.{i}.feed", x)
        return x

    def attend(self, name: str, x: Tensor, heads: int) -> Tensor:
        y = self.norm(f"{name}.norm", x)
        query, key = self.mapped(f"{name}.queries_keys", y).chunk(2, dim=1)
        value = self.mapped(f"{name}.values", y)
        cell = self.counts.shape[0] // x.shape[2]
        count = F.avg_pool2d(self.counts[None, None], cell).flatten()
        out = []
        for head in range(heads):
            q, k, v = (each.chunk(heads, dim=1)[head] for each in (query, key, value))
            alike = [F.normalize(each.flatten(2) * count.sqrt(), dim=-1) for each in (q, k)]
            logits = alike[0] @ alike[1].mT * self.weights[f"{name}.temperature"][head]
            out.append((logits.softmax(dim=-1) @ v.flatten(2)).view_as(v))
        return self.point(f"{name}.project", torch.cat(out, dim=1))

    def feed(self, name: str, x: Tensor) -> Tensor:
        gating, value = self.mapped(f"{name}.expand", self.norm(f"{name}.norm", x)).chunk(2, dim=1)
        return self.point(f"{name}.project", F.gelu(gating) * value)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, deviation = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        scale, shift = (
            self.weights[f"{name}.{what}"][:, None, None] for what in ("weight", "bias")
        )
        return (x - mean) / (deviation + 1e-5).sqrt() * scale + shift

    def mapped(self, name: str, x: Tensor) -> Tensor:
        y = self.point(f"{name}.point", x)
        return F.conv2d(y, self.weights[f"{name}.depth.weight"], padding=1, groups=y.shape[1])

    def conv(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weights[f"{name}.weight"], padding=1)

    def point(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weights[f"{name}.weight"][:, :, None, None])


def counts_of(valid: Tensor, weight: Tensor) -> Tensor:
    """Return what each pixel counts: the valid ones of a token have its weight together."""
    counts = torch.zeros(valid.shape[-2:])
    for row in range(weight.shape[1]):
        for col in range(weight.shape[2]):
            cell = slice(32 * row, 32 * row + 32), slice(32 * col, 32 * col + 32)
            mask = valid[0, 0][cell]
            if mask.any():
                counts[cell] = mask / mask.sum() * weight[0, row, col]
    return counts


@pytest.mark.parametrize("config", [SMALL, UNEVEN], ids=["small", "uneven"])
@pytest.mark.parametrize("seen", [whole, with_gaps, continued])
@torch.no_grad()
def test_output_equals_that_of_a_plain_implementation(config: RestormerConfig, seen: Any) -> None:
    network = restormer(config)
    shown, valid, weight = seen(picture(64, 96)[0])
    expected = PlainRestormer(network, counts_of(valid, weight))(shown, valid)

    clear = network(shown, valid, weight).clear

    assert (expected - shown[:, :3]).abs().max() > 0.1
    assert (clear - expected).abs().max() <= 1e-4


def test_the_published_shape_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = Restormer(PUBLISHED)

    # A channel more in the first convolution, which has no bias.
    assert parameter_count(network) == 26_126_644 + 9 * 48


def test_the_default_is_small() -> None:
    assert parameter_count(Restormer()) == 1_144_587
    assert Restormer().halo_px == 128


@torch.no_grad()
def test_statistics_are_matrices_whose_rows_add_up_to_one() -> None:
    network = restormer()

    found = network.look(*picture(64, 64)).values[0]

    # Channels of a head and heads: levels down, levels up (the finest twice as wide), refinement.
    shapes = [(8, 1), (8, 2), (8, 4), (8, 8), (16, 1), (8, 2), (8, 4), (16, 1)]
    sizes = [width * width * heads for width, heads in shapes]
    assert len(found) == sum(sizes)
    for part, (width, _) in zip(found.split(sizes), shapes, strict=True):
        assert (part.view(-1, width).sum(dim=1) - 1).abs().max() <= 1e-5
        assert part.std() > 0.001


def test_nothing_farther_than_the_reach_has_influence() -> None:
    config = RestormerConfig(width=2, blocks=(1, 1, 1, 1), heads=(1, 1, 1, 1))
    network = restormer(config)
    with torch.no_grad():
        frozen = network.look(*picture(64, 64))
    network = network.double()
    core = slice(88, 96)
    # So bright that the gate is open, whatever the pixel.
    seen = (0.5 * picture(192, 192)[0] + 0.5).double().requires_grad_()

    painted = in_one(network, seen, torch.ones_like(seen[:, :1]), frozen)
    painted[..., core, core].square().sum().backward()

    assert seen.grad is not None
    rows, cols = seen.grad[0, :3].abs().sum(dim=0).nonzero().unbind(dim=1)
    reach = config.reach
    for found in (rows, cols):
        assert int(found.min()) == core.start - reach
        assert int(found.max()) == core.stop - 1 + reach


@pytest.mark.parametrize("side", [64, 96])
@torch.no_grad()
def test_blocks_equal_the_whole(side: int) -> None:
    network = restormer()
    seen, valid, _ = with_gaps(picture(64, 224)[0])
    frozen = network.look(*picture(64, 96))

    expected = in_one(network, seen, valid, frozen)

    found = in_blocks(network, (seen, valid), frozen, side, network.halo_px)
    assert (found - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_blocks_with_too_little_halo_show() -> None:
    network = restormer()
    seen, valid, _ = picture(64, 96)
    frozen = network.look(*picture(64, 96))

    expected = in_one(network, seen, valid, frozen)

    assert (in_blocks(network, (seen, valid), frozen, 32, 0) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("seen", [whole, with_gaps, continued])
@torch.no_grad()
def test_one_pass_equals_a_look_and_an_estimate(seen: Any) -> None:
    network = restormer()
    shown, valid, weight = seen(picture(96, 64)[0])

    once = network(shown, valid, weight).clear
    twice = in_one(network, shown, valid, network.look(shown, valid, weight))

    assert torch.equal(once, twice)


@torch.no_grad()
def test_how_much_emptiness_surrounds_a_scene_does_not_matter() -> None:
    network = restormer(RestormerConfig(width=4, blocks=(1, 1, 1, 1), heads=(1, 1, 1, 1)))
    scene = picture(64, 64)[0]

    def surrounded(height: int, width: int, row: int, col: int) -> Tensor:
        seen = torch.full((1, 4, height, width), FILL)
        seen[:, 3], valid = 0.0, torch.zeros(1, 1, height, width)
        seen[..., row : row + 64, col : col + 64] = scene
        valid[..., row : row + 64, col : col + 64] = 1
        return network.look(seen, valid, F.avg_pool2d(valid, 32)[:, 0]).values

    near = surrounded(256, 256, 96, 96)
    assert (surrounded(320, 384, 128, 192) - near).abs().max() <= 1e-5
    assert (network.look(*whole(scene)).values - near).abs().max() > 1e-3


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other() -> None:
    network = restormer()
    shown = with_gaps(picture(64, 64)[0])
    empty = torch.full_like(shown[0], FILL), torch.zeros_like(shown[1]), torch.zeros_like(shown[2])
    batch = [torch.cat(pair) for pair in zip(shown, empty, strict=True)]

    together = network(*batch).clear

    assert (together[:1] - network(*shown).clear).abs().max() <= 1e-5
    assert together.isfinite().all()


@torch.no_grad()
def test_strips_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = restormer()
    seen = picture(96, 64)
    expected = network.train()(*seen).clear  # in one piece, as in training
    network.eval()

    for rows in (1, 7, 32):
        monkeypatch.setattr(transposed, "STRIP_ROWS", rows)
        assert (network(*seen).clear - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(("height", "rows"), [(1, 64), (64, 64), (65, 64), (10, 3), (10, 1)])
def test_strips_cover_every_row_once_with_a_row_around(
    height: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transposed, "STRIP_ROWS", rows)
    all_rows, covered = list(range(height)), []

    for outer, inset, core in transposed.strips(height, whole=False):
        assert all_rows[outer][inset] == all_rows[core]
        assert outer == slice(max(core.start - 1, 0), min(core.stop + 1, height))
        covered += all_rows[core]

    assert covered == all_rows


@torch.no_grad()
def test_a_level_computed_again_gives_the_same_and_leaves_no_further_matrices() -> None:
    network = restormer()
    _, valid, weight = picture(32, 64)
    attention = transposed.LiveMatrices(valid, weight)
    features = torch.rand(1, 16, 32, 16, generator=torch.Generator().manual_seed(3))

    once = network.stages()[1](features, attention)
    matrices = attention.statistics().values
    again = network.stages()[1](features, attention)

    assert len(network.stages()) == 8
    assert torch.equal(once, again)
    assert torch.equal(attention.statistics().values, matrices)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ({"width": 7}, "'width' is 7, expected an even number"),
        ({"heads": (1, 2, 3, 8)}, "3 heads cannot share 64 channels"),
        ({"blocks": (1, 2, 2)}, "blocks"),
        ({"refinement": 0}, "refinement"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shape: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        RestormerConfig(**shape)


def test_the_architecture_is_known_and_bounded() -> None:
    network = build_network("guided-restormer", SMALL.as_dict())

    assert isinstance(network, Restormer)
    assert network.paints
    with torch.device("meta"):
        assert build_network("guided-restormer", PUBLISHED.as_dict()).config == PUBLISHED
    with pytest.raises(ModelError, match="at most 4 times as large") as caught:
        build_network("guided-restormer", {"width": 66})
    assert caught.value.code == "MODEL_CARD"


def test_frozen_matrices_are_those_that_were_found() -> None:
    network = restormer()
    values = torch.arange(network.look(*picture(32, 32)).values.shape[1]).float()[None]
    layer = network.refinement.blocks[0].attention

    found = transposed.FrozenMatrices(SceneStatistics(values)).of(layer, torch.empty(0))

    assert torch.equal(found.flatten(), values[0, -256:])
