# SPDX-License-Identifier: GPL-3.0-or-later
"""Attention in parts: over some keys at a time, the parts merged to what all keys give at once.

A softmax over some keys can be extended by others later, if the largest score and the sum of
exponentials are kept beside it (online softmax, Milakov and Gimelshein 2018, arXiv 1805.02867).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LOWEST = -1e30
"""Largest score where no key can be seen: unlike -inf, it may be subtracted from itself."""


@dataclass(frozen=True, slots=True)
class Attended:
    """What queries have gathered from some of the keys.

    Attributes:
        peak: (..., n, 1) largest score.
        total: (..., n, 1) sum of exp(score - peak).
        weighted: (..., n, d) sum of the values, each times exp(score - peak).
    """

    peak: Tensor
    total: Tensor
    weighted: Tensor

    @property
    def value(self) -> Tensor:
        """Return the mean of the values (..., n, d), 0 where no key could be seen."""
        return self.weighted / self.total.clamp_min(torch.finfo(self.total.dtype).tiny)

    def merged(self, other: Attended) -> Attended:
        """Return what the same queries gather from the keys of both, which have none in common."""
        peak = torch.maximum(self.peak, other.peak)
        mine, others = (self.peak - peak).exp(), (other.peak - peak).exp()
        return Attended(
            peak,
            self.total * mine + other.total * others,
            self.weighted * mine + other.weighted * others,
        )


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Attended:
    """Attend to some of the keys: the `value` of the result is softmax(q k^T / sqrt(d)) v.

    Args:
        query: (..., n, d) float32.
        key: (..., m, d).
        value: (..., m, d).
        bias: Added to the scores (..., n, m); -inf hides a key from a query.
    """
    scores = (query @ key.transpose(-1, -2)).mul_(query.shape[-1] ** -0.5)
    if bias is not None:
        scores += bias
    peak = scores.amax(dim=-1, keepdim=True).clamp_min_(_LOWEST)
    weights = scores.sub_(peak).exp_()
    return Attended(peak, weights.sum(dim=-1, keepdim=True), weights @ value)


def hiding(hidden: Tensor) -> Tensor:
    """Return the float32 bias that hides keys: -inf where `hidden`, else 0."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -math.inf)
