# SPDX-License-Identifier: GPL-3.0-or-later
"""A segmenter whose answers are known, and patterns for it to find."""

from __future__ import annotations

from typing import Any

import numpy as np

from dehaze_core.segmentation.regions import Region


class ByColour:
    """Every colour of a picture is a segment; whatever is nearly black is none."""

    name = "slic"
    side = 4096

    def __init__(self, identity: str = "by colour") -> None:
        self.identity = identity
        self.pictures: list[np.ndarray] = []

    def __call__(self, picture: np.ndarray) -> list[Region]:
        self.pictures.append(picture)
        colours = np.unique(picture.reshape(-1, 3), axis=0)
        masks = [(picture == colour).all(axis=2) for colour in colours if colour.max() > 10]
        return [Region.from_mask(mask, score=0.5 + mask.mean() / 2) for mask in masks]


def fields(height: int, width: int, dtype: str = "uint8") -> Any:
    """Return three fields of different size side by side, (3, height, width).

    The left half, a quarter above and a quarter below it on the right.
    """
    pattern = np.empty((3, height, width), dtype)
    dark, middle, bright = np.array([(40, 60, 80), (120, 100, 90), (200, 220, 240)])[:, :, None]
    step = 1 if dtype == "uint8" else 100
    half = width // 2
    pattern[:, :, :half] = step * dark[:, :, None]
    pattern[:, : height // 2, half:] = step * middle[:, :, None]
    pattern[:, height // 2 :, half:] = step * bright[:, :, None]
    return pattern


def field_labels(height: int, width: int) -> np.ndarray:
    """Return the labels of `fields`: larger ones first, then from the top."""
    labels = np.empty((height, width), np.int32)
    labels[:, : width // 2] = 1
    labels[: height // 2, width // 2 :] = 2
    labels[height // 2 :, width // 2 :] = 3
    return labels
