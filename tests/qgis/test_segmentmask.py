# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze:segmentmask`: its face, and the real engine behind it."""

from __future__ import annotations

import json
import subprocess
from array import array
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.qgis

Make = Callable[..., Path]

# Public API: scripts and models name them.
INPUTS = [
    "INPUT", "BANDS", "EXTENT", "SEGMENTER", "CODING", "SIDE", "TILES", "DEVICE", "THREADS",
    "OUTPUT", "LABELS", "POLYGONS",
]  # fmt: skip
OUTPUTS = ["OUTPUT", "LABELS", "POLYGONS", "MASK_COUNT", "COVERAGE", "SECONDS"]

REPORT = {
    "masks": 12, "coverage": 0.5, "seconds": 1.5, "width": 96, "height": 64, "segmenter": "slic",
    "device": "cpu",
}  # fmt: skip


@pytest.fixture
def segmentation(provider: Any) -> Any:
    """A fresh `dehaze:segmentmask`."""
    return provider.algorithm("segmentmask").create()


@pytest.fixture
def engine_that_tells(
    make_engine: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An engine that only answers with `REPORT`; returns where its job will lie."""
    asked = tmp_path / "asked.json"
    python = make_engine(
        f"import shutil\nshutil.copy(job, {str(asked)!r})\n"
        "say('hello', protocol=1, version='0.1.0', pid=os.getpid())\n"
        f"say('result', values={REPORT!r})"
    )
    monkeypatch.setenv("DEHAZE_ENGINE_PYTHON", str(python))
    return asked


def test_the_public_names_are_kept(segmentation: Any) -> None:
    assert segmentation.id() == "dehaze:segmentmask"
    assert [parameter.name() for parameter in segmentation.parameterDefinitions()] == INPUTS
    assert [output.name() for output in segmentation.outputDefinitions()] == OUTPUTS


def test_the_help_page_names_every_parameter_and_output(segmentation: Any) -> None:
    from qgis.PyQt.QtCore import QUrl

    page = Path(QUrl(segmentation.helpUrl()).toLocalFile()).read_text(encoding="utf-8")

    assert [name for name in INPUTS + OUTPUTS if f"<code>{name}</code>" not in page] == []


def test_only_fine_tuning_is_advanced(segmentation: Any) -> None:
    from dehaze.processing_algorithms.compat import FLAG_ADVANCED

    advanced = {
        parameter.name()
        for parameter in segmentation.parameterDefinitions()
        if parameter.flags() & FLAG_ADVANCED
    }

    assert advanced == {"CODING", "TILES", "THREADS"}


def test_labels_and_polygons_are_made_only_on_demand(segmentation: Any) -> None:
    from qgis.core import QgsProcessingParameterDefinition

    for name in ("LABELS", "POLYGONS"):
        parameter = segmentation.parameterDefinition(name)
        assert parameter.flags() & QgsProcessingParameterDefinition.FlagOptional
        assert not parameter.createByDefault()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"SEGMENTER": "abacus"}, "SEGMENTER"),
        ({"CODING": "abacus"}, "CODING"),
        ({"SIDE": 255}, "SIDE"),
        ({"SIDE": 4097}, "SIDE"),
        ({"TILES": 0}, "TILES"),
        ({"BANDS": [1, 2]}, "2 bands"),
        ({"OUTPUT": "INPUT"}, "overwrite"),
        ({"LABELS": "OUTPUT"}, "same file"),
        ({"LABELS": "labels.gpkg"}, "GeoTIFF"),
        ({"POLYGONS": "segments.shp"}, "GeoPackage"),
        ({"INPUT": "gone.tif"}, "INPUT"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    segmentation: Any, make_tif: Make, changes: dict[str, Any], complaint: str
) -> None:
    from qgis.core import QgsProcessingContext

    values = {"INPUT": str(make_tif()), "OUTPUT": str(make_tif("x.tif").with_name("mask.tif"))}
    # The name of a parameter stands for its value.
    wanted = {name: values.get(str(value), value) for name, value in changes.items()}

    is_fine, message = segmentation.checkParameterValues(
        {**values, **wanted}, QgsProcessingContext()
    )

    assert not is_fine
    assert complaint in message


def test_values_that_make_sense_are_taken(segmentation: Any, make_tif: Make) -> None:
    from qgis.core import QgsProcessingContext

    values = {
        "INPUT": str(make_tif()),
        "OUTPUT": "TEMPORARY_OUTPUT",
        "LABELS": "TEMPORARY_OUTPUT",
        "POLYGONS": "TEMPORARY_OUTPUT",
    }

    assert segmentation.checkParameterValues(values, QgsProcessingContext()) == (True, "")


@pytest.mark.parametrize(
    ("chosen", "asked"),
    [
        ({}, {}),
        (
            {"SEGMENTER": "felzenszwalb", "CODING": "paper_sum_clip", "SIDE": 300, "TILES": 5,
             "DEVICE": "cpu", "THREADS": 2, "BANDS": [3, 2, 1],
             "EXTENT": "500100,500400,5399600,5399900 [EPSG:32633]"},
            {"segmenter": "felzenszwalb", "coding": "paper_sum_clip", "side": 300, "tiles": 5,
             "device": "cpu", "threads": 2, "bands": [3, 2, 1],
             "extent": [500_100, 5_399_600, 500_400, 5_399_900]},
        ),
    ],
)  # fmt: skip
def test_the_engine_is_asked_for_what_was_chosen(
    segmentation: Any,
    make_tif: Make,
    engine_that_tells: Path,
    tmp_path: Path,
    chosen: dict[str, Any],
    asked: dict[str, Any],
) -> None:
    from qgis.core import QgsProcessingContext, QgsProcessingFeedback

    source = make_tif()
    paths = {
        name: str(tmp_path / file)
        for name, file in (("OUTPUT", "m.tif"), ("LABELS", "l.tif"), ("POLYGONS", "p.gpkg"))
    }

    results, is_fine = segmentation.run(
        {"INPUT": str(source), **paths, **chosen},
        QgsProcessingContext(),
        QgsProcessingFeedback(False),
    )

    assert is_fine
    assert results == {**paths, "MASK_COUNT": 12, "COVERAGE": 0.5, "SECONDS": 1.5}
    job = json.loads(engine_that_tells.read_text())
    assert job["task"] == "segment"
    assert job["parameters"] == {
        "source": str(source),
        "destination": paths["OUTPUT"],
        "labels": paths["LABELS"],
        "polygons": paths["POLYGONS"],
        "segmenter": "mobile",
        "coding": "paint",
        "side": 1024,
        "tiles": 64,
        "bands": None,
        "extent": None,
        "device": "auto",
        "threads": None,
        **asked,
    }


def test_results_loaded_into_a_project_are_named_after_the_input(
    segmentation: Any, make_tif: Make, engine_that_tells: Path, tmp_path: Path
) -> None:
    from qgis.core import QgsProcessingContext, QgsProcessingFeedback, QgsProject

    mask, polygons = str(tmp_path / "m.tif"), str(tmp_path / "p.gpkg")
    context = QgsProcessingContext()
    for path in (mask, polygons):
        details = QgsProcessingContext.LayerDetails("Layer", QgsProject.instance(), "")
        context.addLayerToLoadOnCompletion(path, details)

    segmentation.run(
        {"INPUT": str(make_tif()), "OUTPUT": mask, "POLYGONS": polygons},
        context,
        QgsProcessingFeedback(False),
    )

    assert context.layerToLoadOnCompletionDetails(mask).name == "hazy mask"
    assert context.layerToLoadOnCompletionDetails(polygons).name == "hazy segments"


def test_the_log_sums_up(segmentation: Any, make_tif: Make, engine_that_tells: Path) -> None:
    from qgis.core import QgsProcessingContext, QgsProcessingFeedback

    feedback = QgsProcessingFeedback(False)

    segmentation.run(
        {"INPUT": str(make_tif()), "OUTPUT": "TEMPORARY_OUTPUT"}, QgsProcessingContext(), feedback
    )

    assert (
        "found by slic: 12, on 50% of the pixels with data (96 x 64 pixels in" in feedback.textLog()
    )


def test_a_cancelled_run_promises_nothing(
    segmentation: Any,
    make_tif: Make,
    make_engine: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qgis.core import QgsProcessingContext, QgsProcessingFeedback

    python = make_engine("say('progress', value=10, text='')\ntime.sleep(60)")
    monkeypatch.setenv("DEHAZE_ENGINE_PYTHON", str(python))
    feedback = QgsProcessingFeedback(False)
    feedback.progressChanged.connect(lambda percent: feedback.cancel())

    results, _ = segmentation.run(
        {"INPUT": str(make_tif()), "OUTPUT": str(tmp_path / "mask.tif")},
        QgsProcessingContext(),
        feedback,
    )

    assert results == {}
    assert "continues" not in feedback.textLog()


@pytest.fixture
def own_places(real_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real engine without anything that a user has in cache and models."""
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path / "data" / "models"))
    monkeypatch.setenv("DEHAZE_CACHE", str(tmp_path / "cache"))
    return real_engine


def has_package(python: Path, name: str) -> bool:
    """Tell whether a package is installed for the engine."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([str(python), "-I", "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_every_field_lies_in_a_segment_of_its_own_in_all_outputs(
    provider: Any, processing: ModuleType, own_places: Path, patchwork: Path, tmp_path: Path
) -> None:
    from osgeo import gdal
    from qgis.core import QgsVectorLayer

    if not has_package(own_places, "pyogrio"):
        pytest.skip("the engine has no pyogrio, which writes polygons")
    values = {
        "INPUT": str(patchwork),
        "SEGMENTER": "felzenszwalb",
        "OUTPUT": "TEMPORARY_OUTPUT",
        "LABELS": str(tmp_path / "labels.tif"),
        "POLYGONS": str(tmp_path / "segments.gpkg"),
    }

    results = processing.run("dehaze:segmentmask", values)

    assert sorted(results) == sorted(OUTPUTS)
    assert results["COVERAGE"] == pytest.approx(1.0)
    codes, labels = gdal.Open(results["OUTPUT"]), gdal.Open(results["LABELS"])
    for raster in (codes, labels):
        assert raster.GetGeoTransform() == (500_000, 10, 0, 5_400_000, 0, -10)
        assert raster.GetSpatialRef().GetAuthorityCode(None) == "32633"
        assert raster.GetRasterBand(1).GetNoDataValue() == 0
    assert codes.GetRasterBand(1).DataType == gdal.GDT_Byte
    assert set(codes.ReadRaster()[: 120 * 8]) == {0}
    numbers = array("i", labels.ReadRaster(buf_type=gdal.GDT_Int32))
    fields = [{numbers[120 * row + col] for row, col in places} for places in field_pixels()]
    assert sorted(map(len, fields)) == [1, 1, 1, 1]
    assert len(set().union(*fields)) == 4
    # Soft edges between the fields may be segments, too.
    count = results["MASK_COUNT"]
    assert set(numbers) == set(range(count + 1))
    layer = QgsVectorLayer(results["POLYGONS"], "segments", "ogr")
    assert layer.featureCount() == count
    assert layer.crs().authid() == "EPSG:32633"
    assert {"label", "code", "area", "score"} <= {field.name() for field in layer.fields()}


def field_pixels() -> list[list[tuple[int, int]]]:
    """Places well within each of the four fields of `patchwork`."""
    return [
        [(row + top, col + left) for row in (16, 25, 32) for col in (8, 30, 52)]
        for top in (0, 40)
        for left in (0, 60)
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("own_places")
def test_qgis_process_segments_a_part_from_relative_paths(
    qgis_process: Callable[..., dict[str, Any]], make_tif: Make, tmp_path: Path
) -> None:
    from osgeo import gdal

    make_tif("Ünï cødé dir/a b.tif")

    results = qgis_process(
        "dehaze:segmentmask", tmp_path / "Ünï cødé dir", INPUT="a b.tif", SEGMENTER="slic",
        EXTENT="500100,500400,5399600,5399900", OUTPUT="mask.tif",
    )  # fmt: skip

    assert results["OUTPUT"] == str(tmp_path / "Ünï cødé dir" / "mask.tif")
    mask = gdal.Open(results["OUTPUT"])
    assert (mask.RasterXSize, mask.RasterYSize) == (30, 30)
    assert mask.GetGeoTransform() == (500_100, 10, 0, 5_399_900, 0, -10)
    assert results["MASK_COUNT"] >= 1


@pytest.mark.slow
@pytest.mark.usefixtures("own_places")
def test_a_segmenter_without_weights_says_how_to_get_them(
    provider: Any, processing: ModuleType, make_tif: Make, tmp_path: Path
) -> None:
    from qgis.core import QgsProcessingException

    values = {"INPUT": str(make_tif()), "SEGMENTER": "mobile", "OUTPUT": str(tmp_path / "m.tif")}

    with pytest.raises(QgsProcessingException, match=r"dehaze models fetch-sam|extra 'sam'"):
        processing.run("dehaze:segmentmask", values)

    assert not (tmp_path / "m.tif").exists()
