# SPDX-License-Identifier: GPL-3.0-or-later
"""Segment Anything as a segmenter: masks from a grid of points over the whole picture.

Kirillov et al., *Segment Anything*, ICCV 2023, section 5 and appendix B, with the values of its
automatic mask generator. Its own crops are off: pictures come as tiles already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dehaze_core.segmentation.regions import Region
from dehaze_core.segmentation.sam.checkpoints import load_weights
from dehaze_core.segmentation.sam.networks import sam_package, trained_sam
from dehaze_core.segmentation.segmenter import SamName

_FEWEST_POINTS = 8
_CPU_BATCH = 2
"""Points in the decoder at once where there is no GPU: more leave the processor's cache, and take
half as long again."""


@dataclass(frozen=True, slots=True)
class SamSettings:
    """What the automatic mask generator is asked for; the defaults are its own.

    Attributes:
        points: Points along the longer side of a picture of the largest size the network takes; a
            smaller picture gets fewer, at the same distance.
        batch: Points in the decoder at once: each takes 24 MiB, and the masks are the same.
        least_score: Masks that the network itself thinks worse of (predicted IoU) are left out.
        least_stability: The same for masks that change with the threshold of their logits.
        most_overlap: IoU of bounding boxes from which on the worse of two masks is left out.
    """

    points: int = 32
    batch: int = 16
    least_score: float = 0.88
    least_stability: float = 0.95
    most_overlap: float = 0.7

    def __str__(self) -> str:
        """Return all that the masks depend on, for identities."""
        return (
            f"points={self.points} score={self.least_score:g} stability={self.least_stability:g} "
            f"overlap={self.most_overlap:g}"
        )


class SamSegmenter:
    """Segment Anything of one size.

    Args:
        sam: The network, a `segment_anything.modeling.Sam`, ready for inference.
        name: Size, for people.
        weights: What tells its weights from others: their digest.
        settings: What the mask generator is asked for.
    """

    def __init__(
        self, sam: nn.Module, name: str, weights: str, settings: SamSettings | None = None
    ) -> None:
        encoder: Any = sam.image_encoder
        self._sam = sam
        self._settings = settings or SamSettings()
        self.name = name
        self.identity = f"sam-{name} weights={weights} {self._settings}"
        self.side = int(encoder.img_size)

    def __call__(self, picture: NDArray[np.uint8]) -> list[Region]:
        """Return the masks of a picture (H, W, 3), best first by the score the network gives."""
        height, width = picture.shape[:2]
        settings = self._settings
        generator = sam_package().SamAutomaticMaskGenerator(
            self._sam,
            points_per_side=None,
            point_grids=[self._grid(height, width)],
            points_per_batch=settings.batch,
            pred_iou_thresh=settings.least_score,
            stability_score_thresh=settings.least_stability,
            box_nms_thresh=settings.most_overlap,
            output_mode="uncompressed_rle",
        )
        with torch.inference_mode():
            found = generator.generate(np.ascontiguousarray(picture))
        unpacked = sam_package(".utils.amg").rle_to_mask
        regions = [
            Region.from_mask(unpacked(mask["segmentation"]), _score(mask["predicted_iou"]))
            for mask in found
            if mask["area"]
        ]
        return sorted(regions, key=lambda region: -region.score)

    def _grid(self, height: int, width: int) -> NDArray[np.float64]:
        """Return points as shares of width and height, (N, 2), equally far apart both ways."""
        most, longest = self._settings.points, max(height, width)
        along = min(max(round(most * longest / self.side), min(_FEWEST_POINTS, most)), most)
        counts = [max(round(along * side / longest), 1) for side in (width, height)]
        x, y = ((np.arange(count) + 0.5) / count for count in counts)
        return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def load_sam_segmenter(name: SamName, device: torch.device) -> SamSegmenter:
    """Return Segment Anything of a size with the weights that were brought in.

    Raises:
        ModelError: See `checkpoints.load_weights`.
    """
    card, tensors = load_weights(name)
    settings = SamSettings(batch=_CPU_BATCH) if device.type == "cpu" else SamSettings()
    return SamSegmenter(trained_sam(name, tensors).to(device), name, card.sha256, settings)


def _score(predicted: float) -> float:
    return min(max(predicted, 0.0), 1.0)
