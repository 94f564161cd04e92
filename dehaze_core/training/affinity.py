# SPDX-License-Identifier: GPL-3.0-or-later
"""Feature affinity: do two networks find the same places of a picture alike?

The affinity of two positions is the inner product of their features (Mitheran et al. 2022, arXiv
2207.11250, equations 7 to 10): of features F, one column a position, it is F^T F. Two networks with
any number of channels can be compared by it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

AffinityKind = Literal["l2", "l1", "kl"]

TEMPERATURE = 0.1
"""What affinities are divided by before the softmax of `kl`."""

MOST_POSITIONS = 2048
"""Positions of a picture that are compared by `l1` and `kl`."""

_LEAST_SQUARE = 1e-12  # below it the root of the mean square is flat: it has no slope at zero


def affinity_loss(
    student: Tensor, teacher: Tensor, kind: AffinityKind, valid: Tensor | None = None
) -> Tensor:
    """Return how far the affinities of two networks are apart, the mean over pictures.

    `l2` is the root of the mean squared difference over all pairs of positions, the Frobenius norm
    of the difference divided by their number P. `l1` is the mean absolute difference. `kl` is the
    Kullback-Leibler divergence of the student's affinities from the teacher's, each row made a
    distribution by a softmax, the mean over rows.

    Args:
        student: (N, C, P) features of what is to learn.
        teacher: (N, D, P) features of what it learns from; no gradient reaches them.
        kind: What is measured.
        valid: (N, P) bool, positions that count; all if None. A picture without any adds nothing.

    Returns:
        Scalar in the type of `student`.
    """
    teacher = teacher.detach()
    if valid is None:
        valid = torch.ones_like(student[:, 0], dtype=torch.bool)
    if kind == "l2":
        return _root_mean_square(student, teacher, valid[:, None]).to(student.dtype)
    losses = [
        _of_some_pairs(mine, theirs, _some(counts), kind)
        for mine, theirs, counts in zip(student, teacher, valid, strict=True)
    ]
    return torch.stack(losses).mean()


def _root_mean_square(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Compare all pairs without listing them, exactly.

    ||S^T S - T^T T||^2 = ||S S^T||^2 + ||T T^T||^2 - 2 ||S T^T||^2, of matrices as large as there
    are channels. Where both agree, nearly equal numbers are subtracted, hence double precision.
    """
    # Columns of zeros have no affinity in either network.
    s, t = (student * valid).double(), (teacher * valid).double()
    squares = _square_norm(s, s) + _square_norm(t, t) - 2 * _square_norm(s, t)
    pairs = valid.sum(dim=(1, 2)).square().clamp_min(1)
    return (squares.clamp_min(0) / pairs + _LEAST_SQUARE).sqrt().mean()


def _square_norm(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.mT).square().sum(dim=(1, 2))


def _some(counts: Tensor) -> Tensor:
    """Return the numbers of the positions (P,) that count, at most `MOST_POSITIONS` of them.

    All pairs of a picture of 512 px would be 268 million, 1 GiB a matrix, and cost more than the
    student itself; of these they are 16 MiB. Always the same positions are drawn: what lies there
    is another piece of ground in every crop.
    """
    positions = counts.nonzero()[:, 0]
    if len(positions) <= MOST_POSITIONS:
        return positions
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(0))
    return positions[order[:MOST_POSITIONS].to(positions.device)]


def _of_some_pairs(student: Tensor, teacher: Tensor, some: Tensor, kind: AffinityKind) -> Tensor:
    """Compare the pairs of some positions of one picture, (C, P) and (D, P)."""
    if not len(some):
        return student.sum() * 0.0
    mine, theirs = (features[:, some].mT @ features[:, some] for features in (student, teacher))
    if kind == "l1":
        return (mine - theirs).abs().mean()
    mine, theirs = (F.log_softmax(each / TEMPERATURE, dim=1) for each in (mine, theirs))
    return F.kl_div(mine, theirs, reduction="batchmean", log_target=True)
