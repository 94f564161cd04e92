# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks from files lie over the pictures they belong to, however those are cut and turned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dehaze_core.errors import InputError
from dehaze_core.training.augment import Turn, varied
from dehaze_core.training.batches import HazyBatches
from dehaze_core.training.guide_recipe import GuideRecipe
from dehaze_core.training.imagery import ImagePool, load_images
from dehaze_core.training.labels import cut_labels, read_labels
from dehaze_core.training.recipe import BatchRecipe

FIELD_PX = 50


def fields(height: int, width: int, first: int = 1) -> np.ndarray:
    """Return labels of square fields, (height, width)."""
    rows, cols = np.arange(height) // FIELD_PX, np.arange(width) // FIELD_PX
    return (first + rows[:, None] * (cols[-1] + 1) + cols).astype(np.uint16)


def painted(labels: np.ndarray, step: int = 2) -> np.ndarray:
    """Return a picture that shows the labels, (H, W, 3)."""
    return np.repeat((labels * step).astype(np.uint8)[..., None], 3, axis=2)


def agreement(picture: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of pixels that look like most of their segment, where segments differ."""
    values, alike = picture[..., 0].astype(int), 0
    for label in np.unique(labels):
        own = values[labels == label]
        alike += int((abs(own - np.median(own)) <= 1).sum())
    return alike / labels.size


@pytest.mark.parametrize("scale", [1, 2, 5])
@pytest.mark.parametrize("size", [128, 256, 512])
def test_crops_and_their_labels_show_the_same_ground(size: int, scale: int) -> None:
    labels = fields(600, 500)
    pool = ImagePool({"a": [painted(labels)]}, {"a": [labels[::scale, ::scale]]})

    for seed in range(6):
        crop = pool.cut(np.random.default_rng(seed), size)

        assert crop.labels is not None
        assert crop.labels.shape == (size, size)
        assert len(np.unique(crop.labels)) > 3
        assert agreement(crop.picture, crop.labels) > 0.8
        assert np.array_equal(crop.picture, pool.crop(np.random.default_rng(seed), size))


def test_pieces_of_a_collage_have_segments_of_their_own() -> None:
    labels = np.ones((256, 256), np.uint16)
    labels[:20] = 0
    pool = ImagePool({"a": [painted(labels)]}, {"a": [labels]})

    found = pool.cut(np.random.default_rng(0), 512).labels

    assert found is not None
    corners = [np.unique(found[r : r + 256, c : c + 256]) for r in (0, 256) for c in (0, 256)]
    assert sorted(int(corner.max()) for corner in corners) == [1, 2, 3, 4]
    assert all(len(corner) <= 2 for corner in corners)


def test_unscaled_crops_have_exactly_their_labels() -> None:
    labels = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)

    assert np.array_equal(cut_labels(labels, (30, 40), (7, 3, 23, 19), 16), labels[3:19, 7:23])
    # Twice as large: every label covers 2 x 2 px.
    twice = cut_labels(labels, (30, 40), (7, 3, 23, 19), 32)
    assert np.array_equal(twice, labels[3:19, 7:23].repeat(2, 0).repeat(2, 1))
    # Labels of half the picture's resolution.
    half = cut_labels(labels, (60, 80), (14, 6, 46, 38), 32)
    assert np.array_equal(half, twice)


@given(
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    shrunk=st.integers(1, 4),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 1)),
    size=st.integers(4, 96),
)
@settings(max_examples=60, deadline=None)
def test_a_cut_lies_within_the_labels(
    height: int, width: int, shrunk: int, share: tuple[float, float, float], size: int
) -> None:
    rows, cols = -(-height // shrunk), -(-width // shrunk)
    labels = np.arange(rows * cols, dtype=np.uint16).reshape(rows, cols)
    side = share[2] * min(height, width)
    top, left = share[0] * (height - side), share[1] * (width - side)

    found = cut_labels(labels, (height, width), (left, top, left + side, top + side), size)

    row, col = np.divmod(found, cols)
    assert found.shape == (size, size)
    assert row.min() >= int(top * rows / height)
    assert row.max() <= (top + side) * rows / height
    assert col.min() >= int(left * cols / width)
    assert col.max() <= (left + side) * cols / width


@given(quarters=st.integers(0, 3), mirrored=st.booleans())
def test_pictures_and_labels_are_turned_alike(quarters: int, mirrored: bool) -> None:
    labels = np.arange(25).reshape(5, 5)
    turn = Turn(quarters, mirrored)

    assert np.array_equal(turn(np.stack([labels] * 3)), np.stack([turn(labels)] * 3))
    assert sorted(turn(labels).ravel()) == sorted(labels.ravel())


def test_a_quarter_turn_is_counter_clockwise_and_mirrored_last() -> None:
    labels = np.array([[1, 2], [3, 4]])

    assert Turn(1, False)(labels).tolist() == [[2, 4], [1, 3]]
    assert Turn(1, True)(labels).tolist() == [[4, 2], [3, 1]]


def test_a_varied_picture_tells_how_it_was_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dehaze_core.training.augment.with_flat_ground", lambda _, clear: clear)
    gradient = np.linspace(0.05, 0.4, 64 * 64, dtype=np.float32).reshape(64, 64)
    rank = np.arange(64 * 64).reshape(64, 64)
    turns = set()

    for seed in range(40):
        clear, turn = varied(np.random.default_rng(seed), np.stack([gradient] * 3), False)
        turns.add(turn)
        # Whatever was done to their colours: what was darker is not brighter now.
        in_order = clear[1].ravel()[np.argsort(turn(rank).ravel())]
        assert (np.diff(in_order) >= -0.02).all()

    assert turns == {Turn(quarters, mirrored) for quarters in range(4) for mirrored in (0, 1)}


def test_guides_of_files_lie_over_the_clear_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dehaze_core.training.augment.with_flat_ground", lambda _, clear: clear)
    labels = np.ones((256, 256), np.uint16)
    labels[:, 90:] = 2
    labels[200:] = 2
    pool = ImagePool({"a": [painted(labels, 70)]}, {"a": [labels]})
    guide = GuideRecipe({"clear": 1.0}, segmenter="files")
    batches = HazyBatches(pool, [], 3, BatchRecipe(shapes=((128, 4, 1.0),)), guide)

    for step in range(4):
        batch = batches[step]
        assert batch.guide is not None
        for clear, codes in zip(batch.clear[:, 1].numpy(), batch.guide[:, 0].numpy(), strict=True):
            assert set(np.unique(codes)) <= {2, 4}
            if len(np.unique(codes)) == 2:
                middle = (float(clear[codes == 2].mean()) + float(clear[codes == 4].mean())) / 2
                assert ((clear > middle) == (codes == 4)).mean() > 0.95


def folder_of_pictures(folder: Path) -> Path:
    for site in ("a", "b"):
        (folder / site).mkdir(parents=True)
        Image.fromarray(painted(fields(200, 250))).save(folder / site / "0.jpg")
    return folder


def test_masks_are_found_beside_their_pictures(tmp_path: Path) -> None:
    data = folder_of_pictures(tmp_path / "data")
    for number, site in enumerate(("a", "b")):
        (tmp_path / "masks" / site).mkdir(parents=True)
        labels = np.full((100, 125), 1000 + number, np.uint16)
        Image.fromarray(labels).save(tmp_path / "masks" / site / "0.png")

    pools = load_images(data, masks=tmp_path / "masks")

    found = {site: int(images[0].max()) for pool in pools for site, images in pool.labels.items()}
    assert found == {"a": 1000, "b": 1001}


def test_labels_of_rasters_follow_their_windows(
    tmp_path: Path, make_raster: Callable[..., Path]
) -> None:
    labels = fields(600, 500)
    data = np.stack([labels * 2] * 4).astype(np.uint8)
    for site in ("a", "b"):
        (tmp_path / "data" / site).mkdir(parents=True)
        (tmp_path / "masks" / site).mkdir(parents=True)
        Image.fromarray(labels[::2, ::2]).save(tmp_path / "masks" / site / "0.png")
    make_raster("data/a/0.tif", data=data)
    Image.fromarray(painted(labels)).save(tmp_path / "data" / "b" / "0.png")

    pools = load_images(tmp_path / "data", masks=tmp_path / "masks")

    (pool,) = (pool for pool in pools if "a" in pool.sites)
    for seed in range(4):
        crop = pool.cut(np.random.default_rng(seed), 256)
        assert agreement(crop.picture, crop.labels) > 0.8


@pytest.mark.parametrize(
    ("labels", "code", "message"),
    [
        (None, "MASK_MISSING", "expected one for every picture"),
        (np.zeros((100, 100), np.uint16), "MASK_SHAPE", "100 x 100 px, its picture 250 x 200"),
        (np.zeros((200, 250, 3), np.uint8), "MASK_UNREADABLE", "expected one channel"),
        (b"\x89PNG\r\n\x1a\n", "MASK_UNREADABLE", "cannot be read"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(
    labels: np.ndarray | bytes | None, code: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "0.png"
    if isinstance(labels, bytes):
        path.write_bytes(labels)
    elif labels is not None:
        Image.fromarray(labels).save(path)

    with pytest.raises(InputError, match=message) as caught:
        read_labels(path, (200, 250, 3))
    assert caught.value.code == code
    assert "0.png" in str(caught.value)


@pytest.mark.parametrize(("height", "width"), [(200, 250), (100, 125), (67, 83), (67, 84)])
def test_masks_may_be_smaller_in_proportion(height: int, width: int, tmp_path: Path) -> None:
    Image.fromarray(fields(height, width)).save(tmp_path / "0.png")

    found = read_labels(tmp_path / "0.png", (200, 250, 3))

    assert np.array_equal(found, fields(height, width))
