# SPDX-License-Identifier: GPL-3.0-or-later
"""Polygons lie where the segments do, and say what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.testing import assert_allclose, assert_array_equal
from rasterio.crs import CRS
from rasterio.features import rasterize

from dehaze_core.engine.progress import Silent
from dehaze_core.engine.segments import segment as job
from dehaze_core.engine.segments.segment import SegmentSettings, segment
from tests.engine.segmenters import ByColour, field_labels, fields

pyogrio = pytest.importorskip("pyogrio", reason="pyogrio is not installed")
shapely = pytest.importorskip("shapely", reason="shapely is not installed")

MakeRaster = Callable[..., Path]
ROTATED = Affine.translation(4e5, 5e6) * Affine.rotation(31) * Affine.scale(7.5, -2.5)


@pytest.fixture(autouse=True)
def _segmenter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "find_segmenter", lambda name, device: ByColour())


def polygons_of(source: Path, **options: Any) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Segment a raster; return what is said of the layer, its outlines, and its fields."""
    path = source.with_name("segments.gpkg")
    settings = SegmentSettings(
        source=str(source),
        destination=str(source.with_name("codes.tif")),
        labels=str(source.with_name("labels.tif")),
        polygons=str(path),
        segmenter="slic",
        side=256,
        device="cpu",
        threads=1,
        **options,
    )
    segment(settings, Silent())
    info = pyogrio.read_info(path)
    _, _, outlines, values = pyogrio.raw.read(path)
    return info, shapely.from_wkb(outlines), dict(zip(info["fields"], values, strict=True))


@pytest.mark.parametrize("transform", [None, ROTATED], ids=["north up", "rotated"])
def test_polygons_are_the_labels(make_raster: MakeRaster, transform: Affine | None) -> None:
    source = make_raster(data=fields(96, 128), transform=transform)

    info, outlines, values = polygons_of(source)

    with rasterio.open(source.with_name("labels.tif")) as raster:
        labels, place, crs = raster.read(1), raster.transform, raster.crs
    pairs = list(zip(outlines, values["label"].tolist(), strict=True))
    assert_array_equal(rasterize(pairs, labels.shape, transform=place), labels)
    assert_array_equal(labels, field_labels(96, 128))
    assert shapely.is_valid(outlines).all()
    assert CRS.from_user_input(info["crs"]) == crs
    assert info["geometry_type"] == "MultiPolygon"
    pixel = abs(place.determinant)
    assert_allclose(values["area"], pixel * np.array([96 * 64, 48 * 64, 48 * 64]))
    assert values["code"].tolist() == [2, 4, 6]
    assert_allclose(values["score"], [0.75, 0.625, 0.625])


def test_pieces_and_holes_are_one_feature(make_raster: MakeRaster) -> None:
    data = fields(40, 60)
    data[:] = np.array([90, 80, 70])[:, None, None]
    data[:, 5:10, 5:10] = data[:, 10:20, 10:20] = np.array([200, 210, 220])[:, None, None]

    _, (ground, squares), values = polygons_of(make_raster(data=data))

    assert [len(part.interiors) for part in ground.geoms] == [2]
    # They touch at a corner, and stay two parts of one valid outline.
    assert len(squares.geoms) == 2
    assert shapely.is_valid(squares)
    assert_allclose(values["area"] / 100, [2400 - 125, 125])


def test_code_is_the_most_frequent_one(make_raster: MakeRaster) -> None:
    class Nested(ByColour):
        def __call__(self, picture: np.ndarray) -> Any:
            """Return two masks that overlap, so that codes add up there."""
            return ByColour.__call__(self, overlapping_a) + ByColour.__call__(self, overlapping_b)

    overlapping_a, overlapping_b = (np.zeros((30, 40, 3), np.uint8) for _ in range(2))
    overlapping_a[:, :24] = 90
    overlapping_b[:20, 20:] = 90
    patch = pytest.MonkeyPatch()
    patch.setattr(job, "find_segmenter", lambda name, device: Nested())
    try:
        _, _, values = polygons_of(make_raster(data=fields(30, 40)), coding="paper_sum_clip")
    finally:
        patch.undo()

    # The surer one is number 0 (code 2), the other 1 (code 4); where both are, 6.
    assert values["label"].tolist() == [1, 2]
    assert values["code"].tolist() == [2, 4]


def test_picture_without_georeference(make_raster: MakeRaster) -> None:
    source = make_raster("plain.tif", data=fields(300, 512), crs=None, transform=Affine.identity())

    info, outlines, _ = polygons_of(source)

    assert info["crs"] is None
    bounds = shapely.total_bounds(outlines)
    # As QGIS shows such pictures: the corner at (0, 0), rows downwards from there.
    assert_allclose(bounds, [0, -300, 512, 0])


def test_raster_without_segments_has_no_polygons(make_raster: MakeRaster) -> None:
    info, outlines, _ = polygons_of(make_raster(data=np.full((3, 20, 30), 9, np.uint8), nodata=9))

    assert info["features"] == len(outlines) == 0
    assert list(info["fields"]) == ["label", "code", "area", "score"]
