# SPDX-License-Identifier: GPL-3.0-or-later
"""Suppression of overlapping boxes in the place of torchvision's, against brute force."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dehaze_core.segmentation.sam.torchvision_stand_in import import_torchvision, suppressed
from tests.segmentation.sams import needs_sam

Box = tuple[int, int, int, int]
boxes_strategy = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 8), st.integers(0, 8)).map(
        lambda place: (place[0], place[1], place[0] + place[2], place[1] + place[3])
    ),
    max_size=12,
)


def overlap(one: Box, other: Box) -> float:
    """Count the unit squares of two boxes."""

    def squares(box: Box) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    first, second = squares(one), squares(other)
    return len(first & second) / len(first | second) if first | second else 0.0


def by_brute_force(boxes: list[Box], scores: list[float], most: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        if all(overlap(boxes[index], boxes[other]) <= most for other in kept):
            kept.append(index)
    return kept


@settings(deadline=None, max_examples=60)
@given(boxes=boxes_strategy, data=st.data(), most=st.sampled_from([0.1, 0.3, 0.7, 0.97]))
def test_it_equals_brute_force(boxes: list[Box], data: st.DataObject, most: float) -> None:
    count = len(boxes)
    scores = data.draw(
        st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=count, max_size=count), "scores"
    )

    kept = suppressed(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4), torch.tensor(scores), most
    )

    assert kept.dtype == torch.int64
    assert kept.tolist() == by_brute_force(boxes, scores, most)


def test_a_box_goes_only_beyond_the_limit() -> None:
    # 10 x 10 and 10 x 5 within it: IoU 0.5 exactly.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    scores = torch.tensor([0.8, 0.9])

    assert suppressed(boxes, scores, 0.5).tolist() == [1, 0]
    assert suppressed(boxes, scores, 0.49).tolist() == [1]


def test_torchvision_suppresses_whether_its_own_operators_load_or_not() -> None:
    needs_sam()
    from torchvision.ops.boxes import batched_nms

    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    scores = torch.tensor([0.5, 0.9, 0.7])

    kept = batched_nms(boxes, scores, torch.zeros(3), 0.7)

    assert kept.tolist() == [1, 2]


def test_importing_again_changes_nothing() -> None:
    needs_sam()
    from torchvision.ops.boxes import nms

    import_torchvision()
    from torchvision.ops.boxes import nms as again

    assert again is nms
