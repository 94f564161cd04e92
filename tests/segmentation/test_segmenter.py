# SPDX-License-Identifier: GPL-3.0-or-later
"""Segmenters by name, and the classical ones at work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dehaze_core.errors import ModelError, SettingsError
from dehaze_core.segmentation.coding import painted_labels
from dehaze_core.segmentation.segmenter import (
    CLASSICAL_SEGMENTERS,
    SAM_SEGMENTERS,
    SEGMENTERS,
    SegmenterName,
    find_segmenter,
)
from tests.segmentation.sams import needs_sam, squares

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path / "models"))


def halves(height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """Return a picture that is dark on the left, bright on the right."""
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[:, width // 2 :] = 200
    return picture


def test_every_name_is_of_one_kind() -> None:
    assert get_args(SegmenterName) == SEGMENTERS
    assert (*SAM_SEGMENTERS, *CLASSICAL_SEGMENTERS) == SEGMENTERS


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'sam2'.*mobile.*felzenszwalb"):
        find_segmenter("sam2", CPU)


@pytest.mark.parametrize("name", SAM_SEGMENTERS)
def test_without_weights_it_is_said_how_they_come(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_segmenter(name, CPU)

    assert caught.value.code == "MODEL_WEIGHTS_MISSING"
    assert f"dehaze models fetch-sam {name}" in caught.value.hint
    assert "dehaze models import-sam" in caught.value.hint


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from dehaze_core.segmentation.sam.networks import sam_package

    monkeypatch.setitem(sys.modules, "segment_anything", None)

    with pytest.raises(ModelError) as caught:
        sam_package()

    assert caught.value.code == "MODEL_PACKAGE"
    assert "dehaze[sam]" in caught.value.hint


def test_a_torchvision_that_fails_in_another_way_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_sam()
    from dehaze_core.segmentation.sam import networks

    def fails() -> None:
        raise RuntimeError("a library of the wrong build")

    monkeypatch.setattr(networks, "import_torchvision", fails)

    with pytest.raises(ModelError, match="a library of the wrong build") as caught:
        networks.sam_package()
    assert caught.value.code == "MODEL_PACKAGE"


@pytest.mark.parametrize("name", CLASSICAL_SEGMENTERS)
def test_classical_segments_are_a_partition(name: str) -> None:
    picture = squares(96, 128)

    regions = find_segmenter(name, CPU)(picture)

    count = np.zeros(picture.shape[:2], int)
    for region in regions:
        count[region.box.slices] += region.mask
        assert region.score == 1.0
    assert (count == 1).all()
    assert [region.area for region in regions] == sorted(
        (region.area for region in regions), reverse=True
    )


@pytest.mark.parametrize("name", CLASSICAL_SEGMENTERS)
def test_classical_segments_end_where_the_picture_changes(name: str) -> None:
    picture = halves()

    labels = painted_labels(find_segmenter(name, CPU)(picture), picture.shape[:2])

    # Both look at a slightly blurred picture.
    left, right = set(labels[:, :62].flat), set(labels[:, 66:].flat)
    assert not left & right


def test_felzenszwalb_leaves_even_ground_whole() -> None:
    regions = find_segmenter("felzenszwalb", CPU)(halves())

    # It looks at a slightly blurred picture: the border is 4 columns wide.
    assert len(regions) == 2
    assert all(abs(region.area - 96 * 64) <= 4 * 96 for region in regions)


def test_slic_divides_even_ground_into_segments_of_similar_size() -> None:
    regions = find_segmenter("slic", CPU)(np.full((240, 288, 3), 90, np.uint8))

    # 5 x 6 squares of 48 px.
    assert 20 <= len(regions) <= 40
    assert all(24 <= side <= 96 for region in regions for side in (region.height, region.width))


@pytest.mark.parametrize("name", CLASSICAL_SEGMENTERS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (30, 30)])
def test_small_pictures_have_segments_too(name: str, shape: tuple[int, int]) -> None:
    picture = squares(100, 200)[: shape[0], : shape[1]]

    regions = find_segmenter(name, CPU)(picture)

    assert sum(region.area for region in regions) == shape[0] * shape[1]


@pytest.mark.parametrize("name", CLASSICAL_SEGMENTERS)
def test_classical_segmenters_answer_the_same_again(name: str) -> None:
    picture = squares(96, 128)

    assert find_segmenter(name, CPU)(picture) == find_segmenter(name, CPU)(picture)


def test_identities_tell_segmenters_apart() -> None:
    one, other = (find_segmenter(name, CPU) for name in CLASSICAL_SEGMENTERS)

    assert one.identity != other.identity
    assert one.identity.startswith("slic ")
    assert "scikit-image=" in one.identity
    assert one.identity == find_segmenter("slic", CPU).identity
