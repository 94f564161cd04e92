# SPDX-License-Identifier: GPL-3.0-or-later
"""Affinities are compared as the naive matrices of all pairs would be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from dehaze_core.training.affinity import TEMPERATURE, affinity_loss


def features(seed: int, channels: int, positions: int, pictures: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pictures, channels, positions, dtype=torch.float64, generator=generator)


def naive_l2(student: Tensor, teacher: Tensor) -> Tensor:
    difference = student.mT @ student - teacher.mT @ teacher
    return torch.linalg.matrix_norm(difference).mean() / student.shape[-1]


def naive_l1(student: Tensor, teacher: Tensor) -> Tensor:
    return (student.mT @ student - teacher.mT @ teacher).abs().mean()


def naive_kl(student: Tensor, teacher: Tensor) -> Tensor:
    mine = torch.softmax(student.mT @ student / TEMPERATURE, dim=-1)
    wanted = torch.softmax(teacher.mT @ teacher / TEMPERATURE, dim=-1)
    return (wanted * (wanted / mine).log()).sum(dim=-1).mean()


NAIVE = {"l2": naive_l2, "l1": naive_l1, "kl": naive_kl}


def with_gradient(loss: Callable[[Tensor], Tensor], student: Tensor) -> tuple[Tensor, Tensor]:
    leaf = student.clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("kind", NAIVE)
def test_it_is_what_all_pairs_give(kind: str) -> None:
    scale = 0.3 if kind == "kl" else 1.0  # or the naive softmax has zeros
    student, teacher = scale * features(1, 5, 60), scale * features(2, 11, 60)

    found, slope = with_gradient(lambda s: affinity_loss(s, teacher, kind), student)

    wanted, slope_wanted = with_gradient(lambda s: NAIVE[kind](s, teacher), student)
    assert abs(found - wanted) < 1e-9
    assert (slope - slope_wanted).abs().max() < 1e-9
    assert wanted > 0.01


@pytest.mark.parametrize("kind", NAIVE)
def test_positions_that_do_not_count_have_no_part(kind: str) -> None:
    student, teacher = 0.3 * features(1, 4, 50), 0.3 * features(2, 6, 50)
    valid = torch.ones(2, 50, dtype=torch.bool)
    valid[:, 30:] = False

    found, slope = with_gradient(lambda s: affinity_loss(s, teacher, kind, valid), student)

    assert abs(found - NAIVE[kind](student[..., :30], teacher[..., :30])) < 1e-9
    assert not slope[..., 30:].any()


@pytest.mark.parametrize("kind", NAIVE)
def test_equal_affinities_and_no_positions_have_no_loss_and_finite_slopes(kind: str) -> None:
    student = features(1, 4, 40)
    rotated = torch.linalg.qr(features(3, 4, 4, pictures=1))[0] @ student
    none = torch.zeros(2, 40, dtype=torch.bool)

    equal, slope = with_gradient(lambda s: affinity_loss(s, rotated, kind), student)
    nothing, _ = with_gradient(lambda s: affinity_loss(s, rotated, kind, none), student)

    assert abs(equal) < 1e-5
    assert slope.isfinite().all()
    assert abs(nothing) < 1e-5


@pytest.mark.parametrize("kind", NAIVE)
def test_the_teacher_gets_no_gradient(kind: str) -> None:
    student, teacher = features(1, 4, 30).requires_grad_(), features(2, 6, 30).requires_grad_()

    affinity_loss(student, teacher, kind).backward()

    assert student.grad is not None
    assert teacher.grad is None


def test_single_precision_suffices_for_nearly_equal_affinities() -> None:
    teacher = features(1, 6, 1000, pictures=1)
    student = teacher + 1e-4 * features(2, 6, 1000, pictures=1)

    found = affinity_loss(student.float(), teacher.float(), "l2")

    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(naive_l2(student, teacher)), rel=1e-3)


def test_pairs_are_never_listed_for_l2() -> None:
    student, teacher = features(1, 3, 3000).float().requires_grad_(), features(2, 3, 3000).float()
    largest = 0

    def seen(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with saved_tensors_hooks(seen, lambda tensor: tensor):
        affinity_loss(student, teacher, "l2")

    assert 0 < largest <= student.numel()


@pytest.mark.parametrize("kind", ["l1", "kl"])
def test_some_positions_stand_for_many_always_the_same(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dehaze_core.training.affinity.MOST_POSITIONS", 300)
    student, teacher = 0.2 * features(1, 3, 400, 1), 0.2 * features(2, 3, 400, 1)

    first, slope = with_gradient(lambda s: affinity_loss(s, teacher, kind), student)

    assert int((slope != 0).any(dim=1).sum()) == 300
    assert affinity_loss(student, teacher, kind) == first
    assert float(first) == pytest.approx(float(NAIVE[kind](student, teacher)), rel=0.1)
