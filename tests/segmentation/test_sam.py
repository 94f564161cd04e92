# SPDX-License-Identifier: GPL-3.0-or-later
"""Segment Anything as a segmenter, with small real networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dehaze_core.segmentation.sam.automatic import SamSegmenter, SamSettings
from tests.segmentation.sams import SIDE, squares, tiny_mobile, tiny_sam

# Random weights are unsure of everything: nothing is left out for that.
ALL = SamSettings(points=4, batch=5, least_score=-10, least_stability=-1, most_overlap=0.9)


class Scripted(nn.Module):
    """A Sam whose decoder finds a square of 32 px around every point it is asked about.

    Attributes:
        asked: Points (x, y) in px of the picture of `SIDE` px.
    """

    def __init__(self) -> None:
        super().__init__()
        sam: Any = tiny_sam()
        self.asked: list[tuple[float, float]] = []
        self.image_encoder, self.prompt_encoder = sam.image_encoder, sam.prompt_encoder
        self.image_format, self.mask_threshold = "RGB", 0.0
        self.device = torch.device("cpu")
        self.preprocess, self.postprocess_masks = sam.preprocess, sam.postprocess_masks
        self.prompt_encoder.forward = self._points

    def _points(self, points: Any, boxes: Any, masks: Any) -> tuple[Any, Any]:
        self._now = points[0][:, 0]
        self.asked += [tuple(point) for point in self._now.tolist()]
        return points[0], points[0]

    def mask_decoder(self, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return three masks a point, of which only the first is sure."""
        count = len(self._now)
        axis = (torch.arange(SIDE // 4) + 0.5) * 4
        x, y = self._now[:, :1].float(), self._now[:, 1:].float()
        near = ((axis - y).abs() < 16)[:, :, None] & ((axis - x).abs() < 16)[:, None, :]
        masks = torch.where(near, 20.0, -20.0)[:, None].expand(-1, 3, -1, -1)
        # Points on the left are surer.
        scores = torch.stack([1.2 - x[:, 0] / 1000, torch.zeros(count), torch.zeros(count)], 1)
        return masks.contiguous(), scores


def segment(sam: nn.Module, picture: Any, settings: SamSettings = ALL) -> Any:
    return SamSegmenter(sam, "mobile", "digest", settings)(picture)


@pytest.mark.parametrize("make", [tiny_sam, tiny_mobile])
def test_a_real_network_segments_a_picture(make: Any) -> None:
    picture = squares(96, SIDE)

    regions = segment(make(), picture)

    assert regions
    for region in regions:
        assert 0.0 <= region.score <= 1.0
        assert region.box.row_stop <= 96
        assert region.box.col_stop <= SIDE
        assert region.area == region.mask.sum() > 0
    assert [region.score for region in regions] == sorted(
        (region.score for region in regions), reverse=True
    )


def test_the_batch_changes_nothing_and_neither_does_a_second_run() -> None:
    sam, picture = tiny_sam(), squares(96, SIDE)
    one_by_one = SamSettings(4, 1, -10, -1, 0.9)

    regions, again, slowly = (
        segment(sam, picture, settings) for settings in (ALL, ALL, one_by_one)
    )

    assert regions == again
    assert [region.box for region in regions] == [region.box for region in slowly]


def test_masks_are_where_they_were_found() -> None:
    sam = Scripted()

    regions = segment(sam, squares(SIDE, SIDE), SamSettings(points=4))

    # Points 16, 48, 80, 112: squares of 32 px that tile the picture, the surest on the left.
    assert len(regions) == 16
    assert [(region.row, region.col) for region in regions[:4]] == [
        (row, 0) for row in (0, 32, 64, 96)
    ]
    assert {(region.height, region.width) for region in regions} == {(32, 32)}
    assert all(region.area >= 1020 for region in regions)  # corners are rounded off
    assert regions[0].score == 1.0  # 1.184 is no probability


def test_points_are_equally_far_apart_in_a_long_picture() -> None:
    sam = Scripted()

    segment(sam, squares(SIDE // 4, SIDE), SamSettings(points=8))

    assert sorted(set(sam.asked)) == [
        (8.0 + 16 * x, 8.0 + 16 * y) for x in range(8) for y in (0, 1)
    ]


@pytest.mark.parametrize(
    ("height", "width", "columns", "rows"),
    [(128, 128, 32, 32), (64, 64, 16, 16), (16, 16, 8, 8), (5, 128, 32, 1), (1, 1, 8, 8)],
)
def test_smaller_pictures_have_fewer_points(
    height: int, width: int, columns: int, rows: int
) -> None:
    grid = SamSegmenter(tiny_sam(), "small", "digest")._grid(height, width)

    assert grid.shape == (columns * rows, 2)
    assert len(set(grid[:, 0])) == columns
    assert len(set(grid[:, 1])) == rows
    assert grid.min() > 0
    assert grid.max() < 1


def test_a_picture_without_a_sure_mask_has_no_regions() -> None:
    assert segment(tiny_sam(), squares(64, 64), SamSettings(points=4, least_score=10)) == []


def test_the_longest_side_is_that_of_the_encoder() -> None:
    assert SamSegmenter(tiny_sam(), "small", "digest").side == SIDE


def test_the_identity_holds_all_that_masks_depend_on() -> None:
    def identity(weights: str = "digest", **changes: Any) -> str:
        return SamSegmenter(tiny_sam(), "small", weights, SamSettings(**changes)).identity

    changed = [
        identity("other"),
        identity(points=16),
        identity(least_score=0.8),
        identity(least_stability=0.9),
        identity(most_overlap=0.6),
    ]

    assert len({identity(), *changed}) == 6
    assert identity(batch=1) == identity()


def test_a_view_that_may_not_be_written_is_segmented_like_its_copy() -> None:
    sam = tiny_sam()
    view = squares(96, SIDE)[::-1, ::-1]
    view.flags.writeable = False

    assert segment(sam, view) == segment(sam, view.copy())
