# SPDX-License-Identifier: GPL-3.0-or-later
"""Slices know nothing of each other: exact where context does not matter, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from dehaze_core.baselines.slices import in_slices
from dehaze_core.errors import ModelError, SettingsError


def picture(rows: int = 100, columns: int = 150) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (rows, columns, 3)).astype(np.uint8)


def stretched(image: np.ndarray) -> np.ndarray:
    """A method that needs to see everything: brightest value becomes white."""
    return np.rint(image.astype(float) * 255 / image.max()).astype(np.uint8)


@pytest.mark.parametrize("shape", [(100, 150), (64, 64), (20, 200), (65, 127)])
def test_a_method_without_context_is_not_changed(shape: tuple[int, int]) -> None:
    image = picture(*shape)

    restored = in_slices(lambda part: part + np.uint8(7), 64)(image)

    assert np.array_equal(restored, image + 7)


def test_a_method_with_context_gives_another_result() -> None:
    image = picture()
    image[:, 64:] //= 2

    sliced = in_slices(stretched, 64)(image)

    assert not np.array_equal(sliced, stretched(image))
    assert np.array_equal(sliced[:64, :64], stretched(image[:64, :64]))


def test_every_slice_of_a_large_picture_has_the_full_size() -> None:
    seen = []

    def restore(part: np.ndarray) -> np.ndarray:
        seen.append(part.shape[:2])
        return part

    in_slices(restore, 64)(picture(100, 150))

    assert seen == [(64, 64)] * 6


def test_shared_pixels_belong_to_the_earlier_slice_so_that_lines_stay_on_the_grid() -> None:
    count = iter(range(99))

    restored = in_slices(lambda part: np.full_like(part, next(count)), 64)(picture(64, 100))

    assert (restored[:, :64] == 1).all()
    assert (restored[:, 64:] == 0).all()


def test_a_picture_smaller_than_a_slice_is_one() -> None:
    image = picture(40, 50)

    assert np.array_equal(in_slices(stretched, 64)(image), stretched(image))


def test_the_picture_itself_is_not_written_to() -> None:
    image = picture()
    before = image.copy()

    def restore(part: np.ndarray) -> np.ndarray:
        part[:] = 0
        return part

    in_slices(restore, 64)(image)

    assert np.array_equal(image, before)


def test_a_slice_of_another_shape_is_refused_rather_than_broadcast() -> None:
    with pytest.raises(ModelError, match="slice"):
        in_slices(lambda part: part[:1], 64)(picture())


def test_tiny_slices_are_refused() -> None:
    with pytest.raises(SettingsError, match="32 px"):
        in_slices(stretched, 16)
