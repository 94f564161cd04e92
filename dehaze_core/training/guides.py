# SPDX-License-Identifier: GPL-3.0-or-later
"""Guides of training pictures: what a network with guides is shown beside the bands.

They have a random stream of their own, so that trainings with and without guides, or with other
ones, see the same pictures under the same haze.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dehaze_core.baselines import dark_channel
from dehaze_core.segmentation.coding import Coding, code_of, codes_of_labels, painted_labels
from dehaze_core.segmentation.segmenter import find_segmenter
from dehaze_core.training.guide_recipe import SOURCES, GuideRecipe, GuideSource
from dehaze_core.training.shares import allotted, drawn

SEGMENTED_PX = 256
"""Longest side of a crop that is segmented. Segments of larger ones would take seconds."""

MOST_SEGMENTS = 512
"""Segments that a whole scene has at most, of which a crop shows some."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class GuideDraw:
    """What the guide of one picture is made of.

    Attributes:
        source: Which picture or none.
        rng: Source of randomness of this guide alone.
    """

    source: GuideSource
    rng: np.random.Generator


class Guides:
    """Makes the guides of crops.

    Crops are segmented scaled down to `SEGMENTED_PX`, every second one to half of it, and the codes
    enlarged by the nearest neighbour: in use as well, rasters are segmented scaled down by more or
    less.

    The segments of a crop are numbered as if they were some of a larger scene's (`as_in_a_scene`).

    Args:
        recipe: Where guides come from.
        seed: Seed of the training.
    """

    def __init__(self, recipe: GuideRecipe, seed: int) -> None:
        self.recipe = recipe
        self.seed = seed
        name = "felzenszwalb" if recipe.segmenter == "files" else recipe.segmenter
        self._segmenter = find_segmenter(name, torch.device("cpu"))

    def drawn(self, step: int, count: int) -> list[GuideDraw]:
        """Return what the guides of a step's pictures are made of."""
        # Numbers begin with 1: for numpy (seed, step, 0) is (seed, step), the stream of the haze.
        rngs = [np.random.default_rng((self.seed, step, i)) for i in range(1, count + 1)]
        return [GuideDraw(SOURCES[drawn(rng, self.recipe.shares)], rng) for rng in rngs]

    def allotted(self, count: int) -> list[GuideDraw]:
        """Return the same for pictures to validate on: as many of each as its share comes to."""
        return [
            GuideDraw(SOURCES[position], np.random.default_rng((self.seed, number)))
            for number, position in enumerate(allotted(self.recipe.shares, count))
        ]

    def codes(
        self, draw: GuideDraw, hazy: Picture, clear: Picture, labels: NDArray[np.int32] | None
    ) -> NDArray[np.uint8]:
        """Return the guide of a crop, (H, W).

        Args:
            draw: What it is made of.
            hazy: (3, H, W), display-encoded; sides are multiples of 32 px.
            clear: The same without haze.
            labels: (H, W) segments of the clear crop from a file; None if there is none.
        """
        source = draw.source
        if source == "empty":
            return np.zeros(hazy.shape[1:], np.uint8)
        if source == "gray":
            return np.asarray(np.rint(hazy.mean(axis=0, dtype=np.float32)), np.uint8)
        if source == "clear" and labels is not None:
            return codes_of_labels(labels)
        factor = least_factor(max(hazy.shape[1:])) << int(draw.rng.integers(2))
        picture = _shrunk(clear if source == "clear" else hazy, factor)
        if source == "dehazed":
            picture = dark_channel.restore(picture)
        found = painted_labels(self._segmenter(picture), picture.shape[:2])
        codes = coded(as_in_a_scene(draw.rng, found), self.recipe.coding)
        return codes.repeat(factor, axis=0).repeat(factor, axis=1)


def as_in_a_scene(rng: np.random.Generator, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the labels of a crop as they might be if it were a part of a larger scene.

    Segments are numbered by their size. A crop alone has few and only low numbers, and so low
    codes; in use it lies in a scene with hundreds, and its segments have numbers from all of them.

    Args:
        rng: Source of randomness.
        labels: 1 to n, 0 for no segment, (h, w).
    """
    count = int(labels.max())
    if not count:
        return labels
    most = np.exp(rng.uniform(np.log(count), np.log(max(count, MOST_SEGMENTS))))
    ranks = 1 + np.sort(rng.choice(max(round(most), count), count, replace=False))
    return np.concatenate(([0], ranks)).astype(np.int32)[labels]


def coded(labels: NDArray[np.int32], coding: Coding) -> NDArray[np.uint8]:
    """Return the codes of segments that do not overlap, (h, w): sums have one term."""
    if coding == "paint":
        return codes_of_labels(labels)
    codes = np.array([0, *(code_of(number) for number in range(labels.max()))])
    codes = codes & 255 if coding == "paper_sum_wrap" else codes.clip(0, 255)
    return codes.astype(np.uint8)[labels]


def least_factor(side: int) -> int:
    """Return by which power of two a crop of this side is scaled down at least."""
    factor = 1
    while side > SEGMENTED_PX * factor:
        factor *= 2
    return factor


def _shrunk(picture: Picture, factor: int) -> Picture:
    """Return a crop (3, H, W) scaled down by averaging, (H / factor, W / factor, 3)."""
    bands, height, width = picture.shape
    cells = picture.reshape(bands, height // factor, factor, width // factor, factor)
    means = cells.mean(axis=(2, 4), dtype=np.float32)
    return np.ascontiguousarray(np.rint(means).astype(np.uint8).transpose(1, 2, 0))
