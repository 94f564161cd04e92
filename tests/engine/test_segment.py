# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasters of segments: where they lie, what they hold, and when they appear."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from dehaze_core.engine.progress import Silent
from dehaze_core.engine.segments import polygons
from dehaze_core.engine.segments import segment as job
from dehaze_core.engine.segments.outputs import mask_frame
from dehaze_core.engine.segments.segment import SegmentSettings, segment
from dehaze_core.errors import DehazeError, InputError, OutputError, SettingsError
from dehaze_core.places import masks_folder
from dehaze_core.scene import Frame, open_scene
from dehaze_core.worker.tasks import TASKS
from tests.conftest import write_raster
from tests.engine.segmenters import ByColour, field_labels, fields

MakeRaster = Callable[..., Path]
ROTATED = Affine.translation(4e5, 5e6) * Affine.rotation(31) * Affine.scale(7.5, -2.5)


@pytest.fixture(autouse=True)
def segmenter(monkeypatch: pytest.MonkeyPatch) -> ByColour:
    """Let segmentations find every colour, whichever segmenter they name."""
    found = ByColour()
    monkeypatch.setattr(job, "find_segmenter", lambda name, device: found)
    return found


class Listener(Silent):
    """Remembers warnings and, at a share of the work, ends it."""

    def __init__(self, stop_at: float = 2.0) -> None:
        self.warnings: list[str] = []
        self.stop_at = stop_at

    def update(self, fraction: float, text: str) -> None:
        if fraction >= self.stop_at:
            raise KeyboardInterrupt

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def settings_for(source: Path, **options: Any) -> SegmentSettings:
    options = {"segmenter": "slic", "side": 256, "device": "cpu", "threads": 1, **options}
    return SegmentSettings(
        source=str(source), destination=str(source.with_name("codes.tif")), **options
    )


def corners(raster: Any) -> np.ndarray:
    """Return the four corners of a raster, or of its frame, on the map."""
    transform = raster.transform if hasattr(raster, "read") else raster.affine
    return np.array(
        [transform * (col, row) for col in (0, raster.width) for row in (0, raster.height)]
    )


@pytest.mark.parametrize("transform", [None, ROTATED], ids=["north up", "rotated"])
def test_codes_cover_exactly_the_raster(make_raster: MakeRaster, transform: Affine | None) -> None:
    source = make_raster(data=fields(333, 701), transform=transform)
    labels = source.with_name("labels.tif")

    report = segment(settings_for(source, labels=str(labels)), Silent())

    assert (report.height, report.width) == (122, 256)
    with rasterio.open(source) as wanted, rasterio.open(report.output) as found:
        assert_allclose(corners(found), corners(wanted), rtol=0, atol=1e-6)
        assert found.crs == wanted.crs
        assert found.nodata == 0
        assert found.dtypes == ("uint8",)
        assert found.profile["tiled"]
        codes = found.read(1)
    with rasterio.open(labels) as found:
        assert_allclose(corners(found), corners(open_scene(str(source)).frame), rtol=0, atol=1e-6)
        assert found.dtypes == ("int32",)
        assert found.nodata == 0
        # Pixels of mixed colours along the borders are segments of their own.
        assert_array_equal(found.read(1)[::121, ::255], field_labels(2, 2))
    # Algorithm 1 of the paper: 2, 4, 6 for the first three.
    assert_array_equal(codes[::121, ::255], 2 * field_labels(2, 2))


@given(
    size=st.tuples(*[st.integers(1, 40_000)] * 2),
    side=st.integers(256, 4096),
    numbers=st.tuples(*[st.floats(-1e3, 1e3).filter(lambda v: abs(v) > 1e-3)] * 4),
)
def test_mask_frame_keeps_every_corner(
    size: tuple[int, int], side: int, numbers: tuple[float, float, float, float]
) -> None:
    a, b, d, e = numbers
    frame = Frame(
        width=size[0], height=size[1], count=3, dtype="uint8", transform=(a, b, 5e5, d, e, 5e6)
    )
    shape = job.shrunk_shape(frame.height, frame.width, side)

    mask = mask_frame(frame, shape, "uint8", "segment code")

    assert max(shape) == min(max(size), side)
    assert_allclose(corners(mask), corners(frame), rtol=1e-12, atol=1e-6)


def test_control_points_and_coefficients_come_along() -> None:
    coefficients = {"LINE_OFF": "99.5", "LINE_SCALE": "100", "SAMP_OFF": "0", "SAMP_SCALE": "7 px"}
    frame = Frame(width=400, height=200, count=1, dtype="uint8", rpcs=coefficients)

    mask = mask_frame(frame, (50, 200), "uint8", "segment code")

    assert mask.rpcs is not None
    found = {name: float(value) for name, value in mask.rpcs.items()}
    # Line 99.5 is the border of the rows 99 and 100, which is row 25 of the mask.
    expected = {"LINE_OFF": 24.5, "LINE_SCALE": 25.0, "SAMP_OFF": -0.25, "SAMP_SCALE": 3.5}
    assert found == pytest.approx(expected)


def test_raster_with_control_points_only(tmp_path: Path) -> None:
    source = tmp_path / "scene.tif"
    points = [
        GroundControlPoint(row=row, col=col, x=10 + col / 1e3, y=50 - row / 1e3, id=f"{row}{col}")
        for row in (0, 400)
        for col in (0, 512)
    ]
    profile = {"driver": "GTiff", "width": 512, "height": 400, "count": 3, "dtype": "uint8"}
    with rasterio.open(source, "w", **profile) as raster:
        raster.write(fields(400, 512))
        raster.gcps = points, CRS.from_epsg(4326)

    report = segment(settings_for(source), Silent())

    with rasterio.open(report.output) as raster:
        found, crs = raster.gcps
    assert crs == CRS.from_epsg(4326)
    assert [(p.row, p.col) for p in found] == [(0, 0), (0, 256), (200, 0), (200, 256)]
    assert [(p.x, p.y) for p in found] == [(p.x, p.y) for p in points]


def test_small_raster_is_segmented_at_full_size(make_raster: MakeRaster) -> None:
    source = make_raster(data=fields(48, 64))
    labels = source.with_name("labels.tif")

    report = segment(settings_for(source, labels=str(labels)), Silent())

    with rasterio.open(labels) as raster:
        assert_array_equal(raster.read(1), field_labels(48, 64))
    assert (report.masks, report.coverage, report.levels, report.tiles) == (3, 1.0, 1, 1)
    json.dumps(report.as_dict())


def test_holes_have_no_code(make_raster: MakeRaster) -> None:
    data = fields(48, 64)
    data[:, 10:22, 30:40] = 7
    source = make_raster(data=data, nodata=7)
    labels = source.with_name("labels.tif")

    report = segment(settings_for(source, labels=str(labels)), Silent())

    expected = field_labels(48, 64)
    expected[10:22, 30:40] = 0
    with rasterio.open(report.output) as raster:
        assert_array_equal(raster.read(1) == 0, expected == 0)
    with rasterio.open(labels) as raster:
        assert_array_equal(raster.read(1) == 0, expected == 0)
    assert report.coverage == 1.0


def test_raster_without_data_is_told(make_raster: MakeRaster) -> None:
    source = make_raster(data=np.full((3, 30, 40), 9, np.uint8), nodata=9)
    listener = Listener()

    report = segment(settings_for(source), listener)

    assert (report.masks, report.coverage) == (0, 0.0)
    assert any("No pixel holds data" in text for text in listener.warnings)
    with rasterio.open(report.output) as raster:
        assert not raster.read(1).any()


def test_sixteen_bit_raster_is_stretched(make_raster: MakeRaster, segmenter: ByColour) -> None:
    source = make_raster(data=fields(80, 120, "uint16"))
    labels = source.with_name("labels.tif")

    segment(settings_for(source, labels=str(labels)), Silent())

    (picture,) = segmenter.pictures
    assert picture.max() == 255
    assert picture.min() == 0
    with rasterio.open(labels) as raster:
        found = raster.read(1)
    # The darkest field is black now, and by this segmenter's rule none.
    assert_array_equal(found > 0, field_labels(80, 120) > 1)


def test_one_band_is_a_gray_picture(make_raster: MakeRaster, segmenter: ByColour) -> None:
    source = make_raster(data=fields(40, 60))

    segment(settings_for(source, bands=(2,)), Silent())

    (picture,) = segmenter.pictures
    assert_array_equal(picture, np.repeat(fields(40, 60)[1][..., None], 3, axis=2))


def test_extent_is_covered_exactly(make_raster: MakeRaster) -> None:
    source = make_raster(data=fields(300, 400))
    # Columns 100 to 399 and rows 50 to 249 of 10 m pixels.
    extent = (501_000.0, 5_397_500.0, 504_000.0, 5_399_500.0)

    report = segment(settings_for(source, extent=extent), Silent())

    with rasterio.open(report.output) as raster:
        assert tuple(raster.bounds) == pytest.approx(extent)
        assert (raster.height, raster.width) == (171, 256)


@pytest.mark.parametrize("stop_at", [0.0, 0.1, 0.5, 0.9, 0.94, 1.0])
def test_cancelled_segmentation_leaves_nothing(make_raster: MakeRaster, stop_at: float) -> None:
    source = make_raster(data=fields(600, 300))
    options = {"labels": str(source.with_name("labels.tif"))}

    with pytest.raises(KeyboardInterrupt):
        segment(settings_for(source, **options), Listener(stop_at))

    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_existing_output_is_kept(make_raster: MakeRaster) -> None:
    source = make_raster(data=fields(48, 64))
    labels = source.with_name("labels.tif")
    labels.write_bytes(b"dear")
    settings = settings_for(source, labels=str(labels))

    with pytest.raises(OutputError) as caught:
        segment(replace(settings, overwrite=False), Silent())

    assert caught.value.code == "OUTPUT_EXISTS"
    assert labels.read_bytes() == b"dear"
    assert not Path(settings.destination).exists()
    segment(settings, Silent())
    with rasterio.open(labels) as raster:
        assert raster.read(1).max() == 3


def test_outputs_tell_how_they_were_made(make_raster: MakeRaster) -> None:
    source = make_raster(data=fields(48, 64))

    report = segment(settings_for(source, coding="paper_sum_wrap"), Silent())

    with rasterio.open(report.output) as raster:
        tags = raster.tags()
    assert tags["DEHAZE_SEGMENTER"] == "by colour"
    assert tags["DEHAZE_CODING"] == "paper_sum_wrap"
    assert json.loads(tags["DEHAZE_PARAMETERS"])["side"] == 256


def test_source_that_changes_meanwhile_is_refused(
    make_raster: MakeRaster, segmenter: ByColour, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_raster(data=fields(48, 64))

    class Slow(ByColour):
        def __call__(self, picture: np.ndarray) -> Any:
            write_raster(source, data=fields(48, 64)[:, ::-1].copy())
            return super().__call__(picture)

    monkeypatch.setattr(job, "find_segmenter", lambda name, device: Slow())

    with pytest.raises(InputError) as caught:
        segment(settings_for(source), Silent())

    assert caught.value.code == "INPUT_CHANGED"
    assert [path.name for path in source.parent.iterdir()] == [source.name]
    assert not masks_folder().exists()


def test_budget_of_tiles_is_told(make_raster: MakeRaster, segmenter: ByColour) -> None:
    segmenter.side = 64
    listener = Listener()

    report = segment(settings_for(make_raster(data=fields(200, 256)), tiles=1), listener)

    assert (report.levels, report.tiles) == (1, 1)
    assert any("levels of detail are left out" in text for text in listener.warnings)


def test_worker_segments(make_raster: MakeRaster) -> None:
    settings = settings_for(make_raster(data=fields(48, 64)))
    parameters = json.loads(json.dumps(settings.as_dict()))

    report = TASKS["segment"](parameters, Silent())

    assert json.loads(json.dumps(report))["masks"] == 3
    assert Path(settings.destination).exists()


@pytest.mark.parametrize(
    "options",
    [
        {"segmenter": "watershed"},
        {"coding": "rainbow"},
        {"side": 255},
        {"side": 4097},
        {"tiles": 0},
        {"bands": (1, 2)},
        {"bands": (0,)},
        {"bands": (4,)},
        {"extent": (1.0, 0.0, 0.0, 1.0)},
        {"device": "tpu"},
        {"threads": 0},
        {"labels": "labels.zarr"},
        {"polygons": "polygons.shp"},
        {"labels": "codes.tif"},
        {"labels": "scene.tif"},
    ],
)
def test_settings_out_of_range_are_refused(
    make_raster: MakeRaster, options: dict[str, Any]
) -> None:
    source = make_raster(data=fields(48, 64))
    for name in ("labels", "polygons"):
        if name in options:
            options = {name: str(source.with_name(options[name]))}

    with pytest.raises(SettingsError):
        segment(settings_for(source, **options), Silent())

    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_missing_source_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DehazeError) as caught:
        segment(settings_for(tmp_path / "none.tif"), Silent())

    assert caught.value.code == "INPUT_MISSING"
    assert not list(tmp_path.iterdir())


def test_polygons_need_their_packages(
    make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_raster(data=fields(48, 64))
    monkeypatch.setattr(polygons.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(OutputError) as caught:
        segment(settings_for(source, polygons=str(source.with_name("p.gpkg"))), Silent())

    assert caught.value.code == "OUTPUT_PACKAGE"
    assert "dehaze[vectors]" in caught.value.hint
    assert [path.name for path in source.parent.iterdir()] == [source.name]
