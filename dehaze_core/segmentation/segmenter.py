# SPDX-License-Identifier: GPL-3.0-or-later
"""What finds the segments of one picture, by name: Segment Anything, or classical segmentation."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from dehaze_core.errors import SettingsError
from dehaze_core.segmentation.regions import Region

SamName = Literal["mobile", "small", "middle", "large"]
ClassicalName = Literal["slic", "felzenszwalb"]
SegmenterName = Literal["mobile", "small", "middle", "large", "slic", "felzenszwalb"]

SAM_SEGMENTERS: tuple[SamName, ...] = get_args(SamName)
"""Segment Anything by the size of its encoder; their weights are fetched or imported once."""

CLASSICAL_SEGMENTERS: tuple[ClassicalName, ...] = get_args(ClassicalName)
"""They know nothing of objects, need no weights, and are there in every installation."""

SEGMENTERS: tuple[SegmenterName, ...] = get_args(SegmenterName)


class Segmenter(Protocol):
    """Finds the segments of one picture.

    Attributes:
        name: One of `SEGMENTERS`.
        identity: All that its answers depend on: name, parameters, digest of the weights.
        side: Longest side of a picture it takes, px.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class

    @property
    def identity(self) -> str: ...  # noqa: D102

    @property
    def side(self) -> int: ...  # noqa: D102

    def __call__(self, picture: NDArray[np.uint8]) -> list[Region]:
        """Return the segments of a picture, best first.

        Args:
            picture: Red, green and blue, display-encoded, (H, W, 3); no side is longer than `side`.
        """
        ...


def find_segmenter(name: str, device: torch.device) -> Segmenter:
    """Return a segmenter by name, ready to work.

    Args:
        name: One of `SEGMENTERS`.
        device: Where Segment Anything computes; the classical ones use the CPU.

    Raises:
        SettingsError: There is no such segmenter.
        ModelError: The weights of Segment Anything are not there (MODEL_WEIGHTS_MISSING), not those
            of their card (MODEL_DIGEST) or damaged, or its packages are not installed
            (MODEL_PACKAGE).
    """
    if name in CLASSICAL_SEGMENTERS:
        from dehaze_core.segmentation.classical import ClassicalSegmenter

        return ClassicalSegmenter(name)
    if name in SAM_SEGMENTERS:
        from dehaze_core.segmentation.sam.automatic import load_sam_segmenter

        return load_sam_segmenter(name, device)
    raise SettingsError(f"There is no segmenter '{name}'; known are {', '.join(SEGMENTERS)}.")
