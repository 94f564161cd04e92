# SPDX-License-Identifier: GPL-3.0-or-later
"""The student of RFD: its size, its anatomy, its means over the raster, blocks and the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.errors import ModelError
from dehaze_core.grid import BlockGrid
from dehaze_core.models import load_model, save_model
from dehaze_core.models.architectures import build_network
from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.streaming import FILL, SceneStatistics
from dehaze_core.models.student.attention import LiveAttention
from dehaze_core.models.student.student import Student, StudentConfig

Array = NDArray[np.float64]

SMALL = StudentConfig(width=8, outer=3, inner=2)
AS_DEEP_AS_PUBLISHED = StudentConfig(width=4)


def student(config: StudentConfig) -> Student:
    """Return a student whose weights are large enough for influence from afar to show."""
    torch.manual_seed(4)
    network = Student(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("weight"):
                parameter.mul_(1.5)
            if ".channels." in name or name.startswith("merge"):
                parameter.mul_(3.0)
    return network


def picture(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random pixels, a mask without gaps, and the weights of its tokens."""
    rgb = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(1, 1, height, width)
    return rgb, valid, F.avg_pool2d(valid, 32)[:, 0]


def with_gaps(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a picture without its upper left corner and some pixels elsewhere."""
    valid = (torch.rand(rgb[:, :1].shape, generator=torch.Generator().manual_seed(2)) > 0.2).float()
    valid[..., :40, :50] = 0
    return torch.where(valid > 0, rgb, FILL), valid, F.avg_pool2d(valid, 32)[:, 0]


def continued(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a picture of which the last rows and columns are no part of the raster."""
    real = torch.zeros_like(rgb[:, :1])
    real[..., :-20, :-44] = 1
    return rgb, torch.ones_like(real), F.avg_pool2d(real, 32)[:, 0]


def whole(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a picture without gaps."""
    valid = torch.ones_like(rgb[:, :1])
    return rgb, valid, F.avg_pool2d(valid, 32)[:, 0]


class PlainStudent:
    """The network in numpy, image by image, in float64.

    Args:
        network: Its weights and its shape are used.
    """

    def __init__(self, network: Student) -> None:
        self.weights = {k: v.numpy().astype(np.float64) for k, v in network.state_dict().items()}
        self.config = network.config

    def __call__(self, rgb: Array, shares: Array) -> tuple[Array, Array]:
        """Map an image (B, H, W) and what its pixels count to an image and the scales."""
        self.shares, found = shares, []
        x = self.conv("pre", rgb - 0.5)
        groups = []
        for outer in range(self.config.outer):
            y = x
            for inner in range(self.config.inner):
                name = f"groups.{outer}.blocks.{inner}"
                z = np.maximum(self.conv(f"{name}.first", y), 0) + y
                z = self.conv(f"{name}.second", z)
                found.append(self.gate(f"{name}.channels", self.means(z)))
                z = z * found[-1][:, None, None]
                y = z * self.gate(f"{name}.pixels", z) + y
            x = self.conv(f"groups.{outer}.last", y) + x
            groups.append(x)
        found.append(self.gate("merge", np.concatenate([self.means(each) for each in groups])))
        scales = found[-1].reshape(self.config.outer, self.config.width, 1, 1)
        y = (scales * np.stack(groups)).sum(axis=0)
        y = y * self.gate("pixels", y)
        return rgb + self.conv("post.1", self.conv("post.0", y)), np.concatenate(found)

    def means(self, x: Array) -> Array:
        return (x * self.shares).sum(axis=(1, 2)) / self.shares.sum()

    def conv(self, name: str, x: Array) -> Array:
        kernel, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        _, height, width = x.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        out = np.zeros((len(bias), height, width)) + bias[:, None, None]
        for row in range(3):
            for col in range(3):
                seen = padded[:, row : row + height, col : col + width]
                out += np.tensordot(kernel[:, :, row, col], seen, axes=1)
        return out

    def gate(self, name: str, x: Array) -> Array:
        squeezed = np.maximum(self.pointwise(f"{name}.squeeze", x), 0)
        return 1 / (1 + np.exp(-self.pointwise(f"{name}.excite", squeezed)))

    def pointwise(self, name: str, x: Array) -> Array:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return np.tensordot(weight.reshape(weight.shape[:2]), x, axes=1) + bias.reshape(
            -1, *[1] * (x.ndim - 1)
        )


def shares_of(valid: Tensor, weight: Tensor) -> Array:
    """Return what each pixel counts: the valid ones of a token have its weight together."""
    shares = np.zeros(valid.shape[-2:])
    for row in range(weight.shape[1]):
        for col in range(weight.shape[2]):
            cell = slice(32 * row, 32 * row + 32), slice(32 * col, 32 * col + 32)
            mask = valid[0, 0].numpy()[cell]
            if mask.any():
                shares[cell] = mask / mask.sum() * float(weight[0, row, col])
    return shares


def statistics(network: Student, seen: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return network.look(*seen).values


def no_conditions(rgb: Tensor) -> Tensor:
    return rgb.new_zeros(len(rgb), rgb.shape[2] // 32, rgb.shape[3] // 32, 0)


@pytest.mark.parametrize(
    ("part", "parameters"),
    [
        ("pre", 448),
        ("groups.0.blocks.0", 4_759),
        ("groups.0", 30_874),
        ("groups.2", 30_874),
        ("merge", 145),
        ("pixels", 37),
        ("post", 2_755),
        ("", 96_007),
    ],
)
def test_parts_have_the_published_number_of_parameters(part: str, parameters: int) -> None:
    assert parameter_count(Student().get_submodule(part)) == parameters


@pytest.mark.parametrize("seen", [whole, with_gaps, continued])
@torch.no_grad()
def test_output_equals_that_of_a_plain_implementation(seen: Any) -> None:
    network = student(SMALL)
    rgb, valid, weight = seen(picture(64, 96)[0])
    expected, scales = PlainStudent(network)(
        rgb[0].numpy().astype(np.float64), shares_of(valid, weight)
    )

    clear = network(rgb, valid, weight).clear
    found = network.look(rgb, valid, weight).values

    assert np.abs(expected - rgb[0].numpy()).max() > 0.1
    assert np.abs(clear[0].numpy() - expected).max() <= 1e-5
    assert found.shape == (1, 3 * 2 * 8 + 3 * 8)
    assert np.abs(found[0].numpy() - scales).max() <= 1e-5
    assert np.ptp(scales) > 0.2


@torch.no_grad()
def test_the_published_shape_has_336_scales_and_reaches_42_px() -> None:
    network = Student()

    found = network.look(*picture(32, 32))

    assert found.values.shape == (1, 18 * 16 + 48)
    assert network.config.reach == 42
    assert network.halo_px == 64


def test_nothing_farther_than_the_reach_has_influence() -> None:
    config = StudentConfig(width=2, outer=3, inner=6)
    network = Student(config).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.abs())  # so that no influence is lost in a rectifier
    rgb = torch.full((1, 3, 96, 128), 0.9, dtype=torch.float64, requires_grad=True)
    frozen = SceneStatistics(torch.full((1, 42), 0.5, dtype=torch.float64))

    clear = network.estimate(rgb, rgb[:, :1], no_conditions(rgb), frozen).clear
    clear[0, :, 48, 64].sum().backward()

    assert rgb.grad is not None
    rows, cols = np.nonzero(rgb.grad[0].abs().sum(dim=0).numpy())
    assert (rows.min(), rows.max()) == (48 - config.reach, 48 + config.reach)
    assert (cols.min(), cols.max()) == (64 - config.reach, 64 + config.reach)


def in_blocks(network: Student, rgb: Tensor, side: int, halo: int, frozen: Any) -> Tensor:
    """Paint a raster as the engine does: in blocks of `side` px with halo."""
    height, width = rgb.shape[-2:]
    clear = torch.zeros_like(rgb)
    for block in BlockGrid(height, width, side, halo, 32, network.unit_px):
        part = rgb[(..., *block.outer.slices)]
        painted = network.estimate(part, part[:, :1], no_conditions(part), frozen).clear
        clear[(..., *block.core.slices)] = painted[(..., *block.inset.slices)]
    return clear


@pytest.mark.parametrize("side", [32, 96, 160, 192])
@torch.no_grad()
def test_blocks_equal_the_whole(side: int) -> None:
    network = student(AS_DEEP_AS_PUBLISHED)
    rgb, valid, _ = picture(128, 192)
    frozen = network.look(*picture(64, 96))

    expected = network.estimate(rgb, valid, no_conditions(rgb), frozen).clear
    found = in_blocks(network, rgb, side, network.halo_px, frozen)

    assert (found - expected).abs().max() <= 1e-6


@torch.no_grad()
def test_blocks_with_too_little_halo_show() -> None:
    network = student(AS_DEEP_AS_PUBLISHED)
    rgb, valid, _ = picture(96, 160)
    frozen = network.look(*picture(64, 96))

    expected = network.estimate(rgb, valid, no_conditions(rgb), frozen).clear

    assert (in_blocks(network, rgb, 32, 0, frozen) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("seen", [whole, with_gaps, continued])
@torch.no_grad()
def test_one_pass_equals_a_look_and_an_estimate(seen: Any) -> None:
    network = student(SMALL)
    rgb, valid, weight = seen(picture(96, 64)[0])

    once = network(rgb, valid, weight).clear
    frozen = network.look(rgb, valid, weight)
    twice = network.estimate(rgb, valid, no_conditions(rgb), frozen).clear

    assert torch.equal(once, twice)


@torch.no_grad()
def test_how_much_emptiness_surrounds_a_scene_does_not_matter() -> None:
    network = student(SMALL)
    scene = picture(32, 64)[0]

    def surrounded(height: int, width: int, row: int, col: int) -> Tensor:
        rgb, valid = torch.full((1, 3, height, width), FILL), torch.zeros(1, 1, height, width)
        rgb[..., row : row + 32, col : col + 64] = scene
        valid[..., row : row + 32, col : col + 64] = 1
        return statistics(network, (rgb, valid, F.avg_pool2d(valid, 32)[:, 0]))

    assert network.config.reach < 32
    near = surrounded(96, 128, 32, 32)
    assert (surrounded(192, 256, 96, 160) - near).abs().max() <= 1e-6
    assert (statistics(network, whole(scene)) - near).abs().max() > 1e-3


@torch.no_grad()
def test_a_token_counts_by_its_weight() -> None:
    network = student(SMALL)
    rgb, valid, weight = picture(64, 64)
    light = weight.clone()
    light[:, 1, 1] = 1e-6

    statistic = statistics(network, (rgb, valid, light))
    without = valid.clone()
    without[..., 32:, 32:] = 0

    assert (statistic - statistics(network, (rgb, valid, weight))).abs().max() > 1e-4
    assert (statistic - statistics(network, (rgb, without, weight))).abs().max() <= 1e-6


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other() -> None:
    network = student(SMALL)
    rgb, valid, weight = with_gaps(picture(64, 64)[0])
    empty = torch.full_like(rgb, FILL), torch.zeros_like(valid), torch.zeros_like(weight)
    batch = [torch.cat(pair) for pair in zip((rgb, valid, weight), empty, strict=True)]

    together = network(*batch).clear

    assert (together[:1] - network(rgb, valid, weight).clear).abs().max() <= 1e-6
    assert together.isfinite().all()


def test_features_are_kept_in_training_only() -> None:
    network = student(SMALL)
    seen = picture(32, 64)

    assert network(*seen).features == ()
    answer = network.train()(*seen)
    answer.clear.square().mean().backward()

    assert [tuple(each.shape) for each in answer.features] == [(1, 8, 32, 64)] * 3
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@torch.no_grad()
def test_a_group_computed_again_gives_the_same_and_leaves_no_further_scales() -> None:
    network = student(SMALL)
    _, valid, weight = picture(32, 64)
    attention = LiveAttention(valid, weight)
    features = torch.rand(1, 8, 32, 64)

    once = network.stages()[1](features, attention)
    scales = attention.statistics().values
    again = network.stages()[1](features, attention)

    assert len(network.stages()) == 3
    assert torch.equal(once, again)
    assert torch.equal(attention.statistics().values, scales)


@torch.no_grad()
def test_an_image_may_have_other_bands_than_three() -> None:
    network = Student(StudentConfig(bands=5, width=4, outer=1, inner=1))
    rgb, valid, weight = torch.rand(1, 5, 32, 64), torch.ones(1, 1, 32, 64), torch.ones(1, 1, 2)

    assert network(rgb, valid, weight).clear.shape == rgb.shape
    assert network.bands == 5


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ({"width": 0}, "'width' is 0"),
        ({"inner": 2.5}, "'inner' is 2.5"),
        ({"outer": (3,)}, "outer"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shape: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        StudentConfig(**shape)


def test_the_architecture_is_known_and_bounded() -> None:
    network = build_network("distilled", {"width": 64})

    assert isinstance(network, Student)
    assert network.paints
    with pytest.raises(ModelError, match="at most 4 times as large") as caught:
        build_network("distilled", {"width": 65})
    assert caught.value.code == "MODEL_CARD"


@torch.no_grad()
def test_a_saved_student_loads(tmp_path: Path) -> None:
    network = student(SMALL)
    save_model(network, "small-student", tmp_path, {"note": "untrained"})

    loaded = load_model("small-student", tmp_path)

    assert loaded.card.architecture == "distilled"
    assert loaded.card.parameters == parameter_count(network)
    seen = picture(32, 32)
    rounded = network.half().float()
    assert torch.equal(loaded.network(*seen).clear, rounded(*seen).clear)
