# SPDX-License-Identifier: GPL-3.0-or-later
"""The teacher of RFD: its size, its branches, its anatomy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.student.student import Student
from dehaze_core.models.student.teacher import Teacher, TeacherConfig

SMALL = {"features": 8, "shrunk": 3, "mappings": 2}


def teacher(**shape: Any) -> Teacher:
    """Return a teacher all of whose weights, slopes included, differ from each other."""
    torch.manual_seed(5)
    network = Teacher(TeacherConfig(**{**SMALL, **shape})).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ({}, 26_451),
        ({"separable": False}, 38_427),
        ({"bands": 1}, 8_817),
        ({"bands": 1, "separable": False}, 12_809),
    ],
)
def test_teachers_have_the_published_number_of_parameters(
    shape: dict[str, Any], parameters: int
) -> None:
    assert parameter_count(Teacher(TeacherConfig(**shape))) == parameters


def test_student_and_teacher_together_have_the_published_number_of_parameters() -> None:
    assert parameter_count(Student()) + parameter_count(Teacher()) == 122_458


@torch.no_grad()
def test_the_image_is_twice_as_fine_and_features_are_not() -> None:
    answer = Teacher()(torch.rand(2, 3, 10, 14))

    assert answer.first.shape == (2, 168, 10, 14)
    assert answer.mid.shape == (2, 168, 10, 14)
    assert answer.image.shape == (2, 3, 20, 28)


@pytest.mark.parametrize("separable", [False, True])
@torch.no_grad()
def test_bands_know_nothing_of_each_other(separable: bool) -> None:
    network = teacher(separable=separable)
    image = torch.rand(1, 3, 12, 16)
    changed = image.clone()
    changed[:, 1] = torch.rand(12, 16)

    before, after = network(image), network(changed)

    for name, channels in (("first", 8), ("mid", 8), ("image", 1)):
        was, now = (getattr(each, name).split(channels, dim=1) for each in (before, after))
        assert torch.equal(was[0], now[0])
        assert not torch.allclose(was[1], now[1], atol=1e-4)
        assert torch.equal(was[2], now[2])


def plain_branch(weights: dict[str, Tensor], band: int, image: Tensor) -> tuple[Tensor, ...]:
    """Return the answer of one branch of a teacher with three, layer by layer."""

    def own(name: str) -> Tensor:
        return weights[name].double().chunk(3)[band]

    def conv(name: str, x: Tensor, groups: int = 1) -> Tensor:
        kernel, bias = own(f"{name}.weight"), own(f"{name}.bias")
        return F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2, groups=groups)

    def prelu(name: str, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, own(f"{name}.weight")[:, None, None] * x)

    first = prelu("extract.1", conv("extract.0", image))
    x = first
    for layer in range(2 + SMALL["mappings"]):
        name = f"map.{layer}"
        if f"{name}.2.weight" in weights:
            x = conv(f"{name}.1", conv(f"{name}.0", x, groups=x.shape[1]))
            x = prelu(f"{name}.2", x)
        else:
            x = prelu(f"{name}.1", conv(f"{name}.0", x))
    # A transposed convolution written out: each feature paints 9 x 9 px around 2 x its place.
    kernel, bias = own("spread.weight")[:, 0], own("spread.bias")
    height, width = image.shape[-2:]
    canvas = torch.zeros(2 * height + 8, 2 * width + 8, dtype=torch.float64)
    for row in range(height):
        for col in range(width):
            painted = torch.einsum("c,cij->ij", x[0, :, row, col], kernel)
            canvas[2 * row : 2 * row + 9, 2 * col : 2 * col + 9] += painted
    return first, x, canvas[4 : 4 + 2 * height, 4 : 4 + 2 * width][None, None] + bias


@pytest.mark.parametrize("separable", [False, True])
@torch.no_grad()
def test_output_equals_that_of_plain_branches(separable: bool) -> None:
    network = teacher(separable=separable)
    image = torch.rand(1, 3, 9, 12)
    branches = [
        plain_branch(network.state_dict(), band, image[:, band, None].double()) for band in range(3)
    ]

    found = network(image)

    answers = (found.first, found.mid, found.image)
    for answer, parts in zip(answers, zip(*branches, strict=True), strict=True):
        expected = torch.cat(parts, dim=1)
        assert expected.std() > 0.05
        assert (answer - expected).abs().max() <= 1e-5


def test_the_last_layer_begins_small_and_the_others_keep_the_variance() -> None:
    torch.manual_seed(6)
    network = Teacher(TeacherConfig(separable=False))

    mid = network(torch.randn(1, 3, 32, 32)).mid

    assert network.spread.weight.std().item() == pytest.approx(1e-3, rel=0.05)
    assert not network.spread.get_parameter("bias").any()
    assert 0.2 < mid.std() < 5.0


@pytest.mark.parametrize(
    ("shape", "found"),
    [({"separable": 1}, "separable"), ({"bands": 0}, "'bands' is 0"), ({"mappings": -1}, "mapp")],
)
def test_shapes_that_cannot_be_are_refused(shape: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        TeacherConfig(**shape)
