# SPDX-License-Identifier: GPL-3.0-or-later
"""Segments come out of the cache as they went in, and old ones make room."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dehaze_core.engine.segments.mask_cache import MaskCache
from dehaze_core.engine.segments.picture_guide import segment_codes
from dehaze_core.engine.segments.segment import CodedScene, SegmentOptions, coded_scene
from dehaze_core.scene import Radiometry, open_scene
from dehaze_core.segmentation.coding import painted_labels, painting_order
from dehaze_core.segmentation.picture import Segments
from dehaze_core.segmentation.regions import Region
from tests.conftest import write_raster
from tests.engine.segmenters import ByColour, fields


def segments_of() -> Segments:
    """Return three segments of odd sizes, two of which overlap."""
    rng = np.random.default_rng(0)
    regions = painting_order(
        [
            Region.from_mask(np.ones((9, 13), bool), 0.9, 3, 5),
            Region.from_mask(rng.random((20, 8)) < 0.6, 1 / 3, 0, 0),
            Region.from_mask(np.ones((1, 1), bool), 0.5, 29, 39),
        ]
    )
    return Segments(painted_labels(regions, (30, 40)), regions, 2, 5, 1100, 1)


def assert_same(found: Segments | None, wanted: Segments) -> None:
    assert found is not None
    assert_array_equal(found.labels, wanted.labels)
    assert found.labels.dtype == np.int32
    assert found.regions == wanted.regions
    facts = ("levels", "tiles", "valid", "left_out", "count", "coverage")
    assert [getattr(found, name) for name in facts] == [getattr(wanted, name) for name in facts]


def test_segments_come_back(tmp_path: Path) -> None:
    cache = MaskCache(tmp_path / "masks")

    cache.store("a", segments_of())

    assert_same(cache.load("a"), segments_of())
    assert cache.load("b") is None


def test_no_segments_come_back(tmp_path: Path) -> None:
    cache = MaskCache(tmp_path)
    none = Segments(np.zeros((30, 40), np.int32), (), 1, 1, 0)

    cache.store("a", none)

    assert_same(cache.load("a"), none)


@pytest.mark.parametrize("place", [0, 31, 32, 100, -1])
def test_single_flipped_bit_is_noticed(tmp_path: Path, place: int) -> None:
    cache = MaskCache(tmp_path)
    cache.store("a", segments_of())
    (path,) = cache.files()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)

    assert cache.load("a") is None


def test_entries_used_longest_ago_make_room(tmp_path: Path) -> None:
    cache = MaskCache(tmp_path)
    for age, key in enumerate("dcba"):
        cache.store(key, segments_of())
        then = time.time() - 1000 + age
        os.utime(tmp_path / f"{key}.mask", (then, then))
    size = sum(path.stat().st_blocks * 512 for path in cache.files()) // 4
    assert cache.load("d") is not None

    MaskCache(tmp_path, most_bytes=3 * size).store("e", segments_of())

    assert sorted(path.stem for path in cache.files()) == ["a", "d", "e"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    cache = MaskCache(tmp_path)
    old, young = tmp_path / "old.partial", tmp_path / "young.partial"
    for path in (old, young):
        path.write_bytes(b"half")
    then = time.time() - 86400
    os.utime(old, (then, then))

    cache.store("a", segments_of())

    assert not old.exists()
    assert young.exists()
    assert cache.clear()
    assert not tmp_path.exists()


def test_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    cache = MaskCache(tmp_path / "file" / "masks")

    cache.store("a", segments_of())

    assert cache.load("a") is None
    assert cache.files() == []


def coded(path: Path, **options: object) -> CodedScene:
    with open_scene(str(path)) as scene:
        return coded_scene(
            scene,
            (0, 1, 2),
            Radiometry.for_scene(scene, (0, 1, 2)),
            SegmentOptions("slic", side=256),
            ByColour(),
            lambda share: None,
            **options,  # type: ignore[arg-type]
        )


def test_dehazed_picture_is_what_is_segmented(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    write_raster(path, data=fields(48, 64))

    def black_above(picture: np.ndarray, valid: np.ndarray) -> np.ndarray:
        assert valid.all()
        picture = picture.copy()
        picture[:24] = 0
        return picture

    plain = coded(path)
    dehazed = coded(path, dehazed=black_above, dehazed_by="black above")
    again = coded(path, dehazed=black_above, dehazed_by="black above")

    assert not dehazed.codes[:24].any()
    assert dehazed.codes[24:].all()
    assert plain.codes.all()
    assert (dehazed.cached, again.cached) == (False, True)
    assert_array_equal(again.codes, dehazed.codes)
    assert again.fingerprint == dehazed.fingerprint
    assert dehazed.fingerprint != plain.fingerprint


def test_what_dehazes_has_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    write_raster(path, data=fields(48, 64))

    with pytest.raises(ValueError, match="dehazed_by"):
        coded(path, dehazed=lambda picture, valid: picture)


def test_a_picture_is_segmented_once_for_all_models() -> None:
    picture, segmenter = fields(48, 64).transpose(1, 2, 0), ByColour()

    codes = segment_codes(picture, segmenter)
    again = segment_codes(picture.copy(), segmenter)
    assert len(segmenter.pictures) == 1
    assert_array_equal(codes, again)

    segment_codes(picture, segmenter, "paper_sum_wrap")
    assert len(segmenter.pictures) == 1
    segment_codes(picture[::-1].copy(), segmenter)
    assert len(segmenter.pictures) == 2
