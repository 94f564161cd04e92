# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a mask lies on a raster, which code a pixel gets, and which masks are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from dehaze_core.engine import Silent
from dehaze_core.engine.segments import given_mask, guide, segment
from dehaze_core.engine.segments.given_mask import open_mask
from dehaze_core.engine.segments.guide import GrayGuide, HeldCodes, MaskGuide
from dehaze_core.errors import InputError
from dehaze_core.grid import Window
from dehaze_core.scene import Frame, open_scene
from dehaze_core.segmentation.coding import code_of
from tests.engine.segmenters import ByColour, fields

MakeRaster = Callable[..., Path]

LEFT, TOP = 500_000, 5_400_000
NINE = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)


def frame_of(path: Path) -> Frame:
    with open_scene(str(path)) as scene:
        return scene.frame


def codes(
    mask: Path, raster: Path, window: Window | None = None, place: Window | None = None
) -> NDArray[np.int64]:
    """Return the codes that a mask has on the pixels of a raster, or of a part of it."""
    whole = frame_of(raster)
    place = place or whole.window
    warnings: list[str] = []
    opened = open_mask(str(mask), whole, place)
    guided = opened.guide(place.height, place.width, warnings.append)
    window = window or Window(0, 0, place.height, place.width)
    shown = guided.at(window, torch.zeros(3, window.height, window.width))
    opened.scene.close()
    assert not warnings
    return as_codes(shown)


def as_codes(shown: torch.Tensor) -> NDArray[np.int64]:
    found = shown[0].numpy() * 255
    assert np.abs(found - found.round()).max() < 1e-4
    return found.round().astype(np.int64)


@pytest.fixture
def raster(make_raster: MakeRaster) -> Path:
    """4 rows and 6 columns of 10 m."""
    return make_raster(height=4, width=6)


def test_a_coarser_mask_that_lies_partly_outside(make_raster: MakeRaster, raster: Path) -> None:
    # Pixels of 20 m that begin two pixels further right and one higher than the raster's.
    place = from_origin(LEFT + 20, TOP + 10, 20, 20)
    mask = make_raster("mask.tif", data=NINE, transform=place)

    assert codes(mask, raster).tolist() == [
        [0, 0, 10, 10, 20, 20],
        [0, 0, 40, 40, 50, 50],
        [0, 0, 40, 40, 50, 50],
        [0, 0, 70, 70, 80, 80],
    ]


def test_a_finer_mask_is_seen_at_the_centres(make_raster: MakeRaster, raster: Path) -> None:
    fine = np.arange(8 * 12, dtype=np.uint8).reshape(1, 8, 12) + np.uint8(1)
    mask = make_raster("mask.tif", data=fine, transform=from_origin(LEFT, TOP, 5, 5))

    # The centre of a pixel is the corner of four finer ones; the lower right one counts.
    assert np.array_equal(codes(mask, raster), fine[0, 1::2, 1::2])


def test_the_part_that_an_extent_cuts_out_has_its_own_codes(
    make_raster: MakeRaster, raster: Path
) -> None:
    mask = make_raster("mask.tif", data=NINE, transform=from_origin(LEFT, TOP, 20, 20))
    whole = codes(mask, raster)

    part = codes(mask, raster, place=Window(1, 2, 3, 3))

    assert np.array_equal(part, whole[1:, 2:5])


def test_a_picture_without_georeference_is_covered_by_its_mask(make_raster: MakeRaster) -> None:
    plain = {"crs": None, "transform": Affine.identity()}
    raster = make_raster(height=6, width=9, **plain)
    mask = make_raster("mask.tif", data=NINE[:, :2], **plain)
    expected = NINE[0, :2].repeat(3, axis=0).repeat(3, axis=1)

    assert np.array_equal(codes(mask, raster), expected)
    assert np.array_equal(codes(mask, raster, place=Window(2, 4, 3, 5)), expected[2:5, 4:])


def test_beyond_the_edge_codes_are_mirrored_like_pixels(
    make_raster: MakeRaster, raster: Path
) -> None:
    mask = make_raster("mask.tif", data=np.arange(1, 25, dtype=np.uint8).reshape(1, 4, 6))

    found = codes(mask, raster, Window(2, 4, 4, 4))

    # Rows 2, 3, then 2 and 1 again; columns 4, 5, then 4 and 3.
    assert found.tolist() == [
        [17, 18, 17, 16],
        [23, 24, 23, 22],
        [17, 18, 17, 16],
        [11, 12, 11, 10],
    ]


def test_nodata_is_no_segment(make_raster: MakeRaster, raster: Path) -> None:
    data = np.full((1, 4, 6), 200, np.uint8)
    data[0, :, :2] = 255
    mask = make_raster("mask.tif", data=data, nodata=255)

    assert codes(mask, raster).tolist() == [[0, 0, 200, 200, 200, 200]] * 4


def test_labels_become_codes(make_raster: MakeRaster, raster: Path) -> None:
    labels = np.array([[0, 1, 2, 128, -7, 255]], np.int32).repeat(4, axis=0)[None]
    mask = make_raster("mask.tif", data=labels)

    expected = [0, code_of(0), code_of(1), code_of(127), 0, code_of(254)]
    assert codes(mask, raster).tolist() == [expected] * 4


def test_segments_that_touch_have_different_codes_however_many(make_raster: MakeRaster) -> None:
    labels = np.arange(1, 601, dtype=np.uint32).reshape(1, 20, 30)
    raster, mask = make_raster(height=20, width=30), make_raster("mask.tif", data=labels)

    found = codes(mask, raster)

    assert found.min() > 0
    assert (found[:, 1:] != found[:, :-1]).all()
    assert (found[1:] != found[:-1]).all()


def test_labels_too_many_to_look_at_share_codes_and_this_is_said(
    make_raster: MakeRaster, raster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given_mask, "MOST_LABELS_PX", 20)
    labels = np.array([[0, 1, 255, 256, -3, 511]], np.int16).repeat(4, axis=0)[None]
    mask = open_mask(
        str(make_raster("mask.tif", data=labels)), frame_of(raster), Window(0, 0, 4, 6)
    )
    warnings: list[str] = []

    found = as_codes(mask.guide(4, 6, warnings.append).at(Window(0, 0, 4, 6), torch.zeros(3, 4, 6)))

    assert found.tolist() == [[0, code_of(0), code_of(254), code_of(0), 0, code_of(0)]] * 4
    assert "same code" in warnings[0]


transforms = st.builds(
    lambda angle, scale, col, row: (
        Affine.translation(col, row) * Affine.rotation(angle) * Affine.scale(scale)
    ),
    st.sampled_from([0.0, 0.0, 17.3, 90.0, 211.9]),
    st.floats(0.05, 4.0),
    st.floats(-12, 12),
    st.floats(-12, 12),
)
windows = st.builds(Window, *[st.integers(0, 30)] * 2, *[st.integers(1, 30)] * 2)


@given(to_codes=transforms, window=windows, most=st.sampled_from([1, 7, 40, 10_000]))
def test_any_window_at_any_angle_read_in_any_pieces(
    to_codes: Affine, window: Window, most: int
) -> None:
    values = np.random.default_rng(1).integers(1, 256, (11, 9)).astype(np.uint8)
    guided = MaskGuide(HeldCodes(values), 60, 60, to_codes)
    expected = np.zeros((window.height, window.width), np.int64)
    for row in range(window.height):
        for col in range(window.width):
            x, y = to_codes * (window.col + col + 0.5, window.row + row + 0.5)
            col_there, row_there = int(np.floor(x + 1e-6)), int(np.floor(y + 1e-6))
            if 0 <= row_there < 11 and 0 <= col_there < 9:
                expected[row, col] = values[row_there, col_there]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guide, "MOST_READ_PX", most)
        found = as_codes(guided.at(window, torch.zeros(3, window.height, window.width)))

    assert np.array_equal(found, expected)


def test_an_overview_has_the_codes_at_the_centres_of_its_pixels() -> None:
    guided = MaskGuide.covering(HeldCodes(NINE[0]), 90, 60)

    found = as_codes(guided.overview(torch.zeros(3, 2, 3)))

    # Centres at a quarter and three quarters of the rows, and in the middle of every column.
    assert found.tolist() == [[10, 20, 30], [70, 80, 90]]


def test_gray_is_the_mean_of_the_bands() -> None:
    display = torch.tensor([0.1, 0.2, 0.9])[:, None, None].expand(3, 2, 2)

    for shown in (GrayGuide().at(Window(0, 0, 2, 2), display), GrayGuide().overview(display)):
        assert shown.shape == (1, 2, 2)
        assert torch.allclose(shown, torch.tensor(0.4))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"count": 2}, "MASK_BANDS"),
        ({"dtype": "float32"}, "MASK_DTYPE"),
        ({"crs": "EPSG:32634"}, "MASK_CRS"),
        ({"crs": None}, "MASK_CRS"),
        ({"transform": from_origin(LEFT + 60, TOP, 10, 10)}, "MASK_PLACE"),
        ({"transform": from_origin(LEFT, TOP + 40, 10, 10)}, "MASK_PLACE"),
        ({"transform": Affine.identity()}, "MASK_PLACE"),
    ],
)
def test_masks_of_something_else_are_refused(
    make_raster: MakeRaster, raster: Path, options: dict[str, object], code: str
) -> None:
    mask = make_raster("mask.tif", **{"height": 4, "width": 6, "count": 1, **options})

    with pytest.raises(InputError) as refused:
        open_mask(str(mask), frame_of(raster), Window(0, 0, 4, 6))

    assert refused.value.code == code
    assert refused.value.hint


def test_a_mask_of_other_proportions_without_georeference_is_refused(
    make_raster: MakeRaster,
) -> None:
    plain = {"crs": None, "transform": Affine.identity(), "count": 1}
    raster = make_raster(height=40, width=80, **plain)
    mask = make_raster("mask.tif", height=20, width=20, **plain)

    with pytest.raises(InputError, match="proportion") as refused:
        open_mask(str(mask), frame_of(raster), Window(0, 0, 40, 80))

    assert refused.value.code == "MASK_PLACE"


def test_a_colour_table_is_refused_with_what_to_do(make_raster: MakeRaster, raster: Path) -> None:
    mask = make_raster("mask.tif", data=NINE, photometric="palette")

    with pytest.raises(InputError, match="colour table") as refused:
        open_mask(str(mask), frame_of(raster), Window(0, 0, 4, 6))

    assert "colorinterp" in refused.value.hint


def test_an_alpha_band_of_a_mask_tells_where_it_is(make_raster: MakeRaster, raster: Path) -> None:
    data = np.stack([np.full((4, 6), 9, np.uint8), np.full((4, 6), 255, np.uint8)])
    data[1, 0] = 0
    path = make_raster("mask.tif", data=data)
    with rasterio.open(path, "r+") as mask:
        mask.colorinterp = [ColorInterp.gray, ColorInterp.alpha]

    assert codes(path, raster).tolist() == [[0] * 6, *[[9] * 6] * 3]


@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_a_mask_that_was_written_lies_where_its_segments_were_found(
    make_raster: MakeRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crs: str | None
) -> None:
    place = {} if crs else {"transform": Affine.identity()}
    source = make_raster(data=np.maximum(fields(310, 417), 90), crs=crs, **place)
    monkeypatch.setattr(segment, "find_segmenter", lambda name, device: ByColour())
    settings = segment.SegmentSettings(
        source=str(source), destination=str(tmp_path / "mask.tif"), segmenter="slic", side=256
    )

    segment.segment(settings, Silent())

    with rasterio.open(tmp_path / "mask.tif") as raster:
        written = raster.read(1)
    assert written.shape == (190, 256)
    window = Window(0, 0, 310, 417)
    found = MaskGuide.covering(HeldCodes(written), 310, 417).at(window, torch.zeros(3, 310, 417))
    assert np.array_equal(codes(tmp_path / "mask.tif", source), as_codes(found))
