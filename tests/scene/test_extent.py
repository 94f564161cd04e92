# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of windows and extents: what a window covers comes back as that window."""

from __future__ import annotations

import pytest
from affine import Affine
from hypothesis import assume, given
from hypothesis import strategies as st

from dehaze_core.errors import InputError
from dehaze_core.grid import Window
from dehaze_core.scene.extent import bounds, window_of_extent
from dehaze_core.scene.frame import Frame

SIZES = st.integers(1, 40_000)


@st.composite
def frames(draw: st.DrawFn, rotated: bool = False) -> Frame:
    height, width = draw(SIZES), draw(SIZES)
    pixel = draw(st.sampled_from([1e-4, 0.1, 0.3, 1.0, 10.0, 30.0]))
    up = draw(st.sampled_from([-1.0, 1.0]))
    x, y = draw(st.floats(-1e6, 1e6)), draw(st.floats(-1e6, 1e6))
    turn = Affine.rotation(draw(st.floats(1, 89))) if rotated else Affine.identity()
    transform = Affine.translation(x, y) * turn * Affine.scale(pixel, up * pixel)
    assume(transform != Affine.identity())  # that means "not georeferenced"
    a, b, c, d, e, f = tuple(transform)[:6]
    return Frame(width=width, height=height, count=1, dtype="uint8", transform=(a, b, c, d, e, f))


@st.composite
def places(draw: st.DrawFn, frame: Frame) -> Window:
    row, col = draw(st.integers(0, frame.height - 1)), draw(st.integers(0, frame.width - 1))
    height = draw(st.integers(1, frame.height - row))
    return Window(row, col, height, draw(st.integers(1, frame.width - col)))


@given(data=st.data())
def test_extent_of_a_window_gives_the_window_back(data: st.DataObject) -> None:
    frame = data.draw(frames())
    window = data.draw(places(frame))

    assert window_of_extent(frame, bounds(frame.crop(window))) == window


@given(data=st.data())
def test_rotated_window_lies_inside_the_window_of_its_extent(data: st.DataObject) -> None:
    frame = data.draw(frames(rotated=True))
    window = data.draw(places(frame))

    found = window_of_extent(frame, bounds(frame.crop(window)))

    assert found.row <= window.row
    assert found.col <= window.col
    assert found.row_stop >= window.row_stop
    assert found.col_stop >= window.col_stop
    assert found.clipped(frame.height, frame.width) == found


@given(data=st.data(), share=st.floats(0.01, 0.99))
def test_extent_is_snapped_outwards_to_whole_pixels(data: st.DataObject, share: float) -> None:
    frame = Frame(width=50, height=60, count=1, dtype="uint8", transform=(2, 0, 100, 0, -2, 500))
    row, col = data.draw(st.integers(0, 58)), data.draw(st.integers(0, 48))
    (xmin, ymax), (xmax, ymin) = (frame.affine * (col + s, row + s) for s in (share, 1 + share))

    assert window_of_extent(frame, (xmin, ymin, xmax, ymax)) == Window(row, col, 2, 2)


def test_extent_larger_than_the_raster_gives_all_of_it() -> None:
    frame = Frame(width=5, height=6, count=1, dtype="uint8", transform=(2, 0, 100, 0, -2, 500))

    assert window_of_extent(frame, (-1e9, -1e9, 1e9, 1e9)) == frame.window


def test_hairline_extent_gives_the_pixel_it_lies_in() -> None:
    frame = Frame(width=5, height=6, count=1, dtype="uint8", transform=(2, 0, 100, 0, -2, 500))

    assert window_of_extent(frame, (103.0, 495.0, 103.0 + 1e-7, 495.0 + 1e-7)) == Window(2, 1, 1, 1)


@pytest.mark.parametrize(
    "extent",
    [
        (200, 0, 300, 10),
        (0, 0, 100, 500),
        (110, 488, 120, 500),
        (5, 5, 5, 9),
        (0, 0, float("nan"), 1),
    ],
)
def test_extent_beside_the_raster_is_refused(extent: tuple[float, float, float, float]) -> None:
    frame = Frame(width=5, height=6, count=1, dtype="uint8", transform=(2, 0, 100, 0, -2, 500))

    with pytest.raises(InputError) as error:
        window_of_extent(frame, extent)

    assert error.value.code == "INPUT_EXTENT"


@pytest.mark.parametrize("extent", [(10, 20, 30, 50), (10, -50, 30, -20)])
def test_picture_without_georeference_takes_pixels_as_extent(
    extent: tuple[float, float, float, float],
) -> None:
    frame = Frame(width=100, height=80, count=1, dtype="uint8")

    assert window_of_extent(frame, extent) == Window(20, 10, 30, 20)


@given(
    window=st.builds(
        Window, st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 60), st.integers(0, 60)
    ),
    halo=st.integers(0, 20),
)
def test_windows_keep_their_arithmetic(window: Window, halo: int) -> None:
    padded = window.padded(halo)
    clipped = window.clipped(40, 30)

    assert padded.shifted(halo, halo).row == window.row
    assert padded.height == window.height + 2 * halo
    assert clipped.clipped(40, 30) == clipped
    assert 0 <= clipped.height <= window.height
    assert window.slices == (
        slice(window.row, window.row + window.height),
        slice(window.col, window.col + window.width),
    )
