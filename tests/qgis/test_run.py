# SPDX-License-Identifier: GPL-3.0-or-later
"""The real engine, driven from QGIS in every way a user can."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [
    pytest.mark.qgis,
    pytest.mark.slow,
    pytest.mark.usefixtures("real_engine"),
    pytest.mark.filterwarnings("ignore"),
]

Make = Callable[..., Path]

WEIGHTS = Path(__file__).resolve().parents[2] / "dehaze_core" / "models" / "weights"


@pytest.fixture(params=["dehazexl", "distilled"])
def dehazing(request: pytest.FixtureRequest) -> str:
    """The id of each algorithm that dehazes in turn; skipped while its model has no weights."""
    model = {"dehazexl": "dehazexl-lite", "distilled": "distilled"}[request.param]
    if not (WEIGHTS / f"{model}.safetensors").is_file():
        pytest.skip(f"no weights of the model {model} are shipped")
    return f"dehaze:{request.param}"


@pytest.fixture
def feedback(qgis_app: Any) -> Any:
    """A feedback that knows the engine's process."""
    from qgis.core import QgsProcessingFeedback

    class Listening(QgsProcessingFeedback):
        pid = 0

        def pushDebugInfo(self, text: str) -> None:
            found = re.search(r"Dehaze engine .*process (\d+)", text)
            self.pid = int(found[1]) if found else self.pid

    return Listening(False)


def pixels(path: Path | str) -> dict[str, Any]:
    """What must be equal in input and output, and the pixels themselves."""
    from osgeo import gdal

    raster = gdal.Open(str(path))
    bands = [raster.GetRasterBand(number + 1) for number in range(raster.RasterCount)]
    return {
        "frame": (
            raster.RasterXSize, raster.RasterYSize, raster.RasterCount,
            raster.GetGeoTransform(), raster.GetSpatialRef().GetAuthorityCode(None),
            [(band.DataType, band.GetNoDataValue()) for band in bands],
        ),
        "bytes": [bytes(band.ReadRaster()) for band in bands],
    }  # fmt: skip


def leftovers(folder: Path, *expected: Path) -> list[str]:
    """Files in `folder` that are not `expected`.

    Folders hold work in progress and do not count, nor do the statistics QGIS keeps of its layers.
    """
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file() and path not in expected and not path.name.endswith(".aux.xml")
    )


def test_the_output_keeps_the_frame_and_nodata_pixels(
    provider: Any, processing: ModuleType, dehazing: str, make_tif: Make, tmp_path: Path
) -> None:
    source, target = make_tif(nodata=7), tmp_path / "clear.tif"

    results = processing.run(dehazing, {"INPUT": str(source), "OUTPUT": str(target)})

    before, after = pixels(source), pixels(target)
    assert after["frame"] == before["frame"]
    assert after["bytes"] != before["bytes"]
    rows_without_data = 96 * 8
    assert [b[:rows_without_data] for b in after["bytes"]] == [
        b[:rows_without_data] for b in before["bytes"]
    ]
    assert leftovers(tmp_path, source, target) == []
    assert (results["WIDTH"], results["HEIGHT"]) == (96, 64)
    assert results["VALID_FRACTION"] == pytest.approx(56 / 64)
    assert results["DEVICE_USED"]


def test_every_declared_output_is_returned(
    provider: Any, processing: ModuleType, dehazing: str, make_tif: Make, tmp_path: Path
) -> None:
    algorithm = provider.algorithm(dehazing.partition(":")[2])
    values = {
        "INPUT": str(make_tif()),
        "OUTPUT": "TEMPORARY_OUTPUT",
        "THICKNESS": str(tmp_path / "haze.tif"),
    }

    results = processing.run(dehazing, values)

    assert set(results) == {output.name() for output in algorithm.outputDefinitions()}
    assert results["OUTPUT"].endswith(".tif")


def test_haze_thickness_opens_with_its_style(
    provider: Any, processing: ModuleType, make_tif: Make, tmp_path: Path
) -> None:
    from qgis.core import QgsRasterLayer

    haze = tmp_path / "haze.tif"
    processing.run(
        "dehaze:dehazexl",
        {"INPUT": str(make_tif()), "OUTPUT": "TEMPORARY_OUTPUT", "THICKNESS": str(haze)},
    )

    layer = QgsRasterLayer(str(haze))

    assert layer.renderer().type() == "singlebandpseudocolor"
    assert layer.dataProvider().dataType(1) == 6  # float32


def test_results_loaded_into_a_project_are_named_and_styled(
    provider: Any, processing: ModuleType, make_tif: Make, tmp_path: Path
) -> None:
    from qgis.core import QgsProcessingContext, QgsProcessingFeedback, QgsProject, QgsRasterLayer

    clear, haze = str(tmp_path / "clear.tif"), str(tmp_path / "haze.tif")
    context, feedback = QgsProcessingContext(), QgsProcessingFeedback(False)
    for path in (clear, haze):
        details = QgsProcessingContext.LayerDetails("Output", QgsProject.instance(), "OUTPUT")
        context.addLayerToLoadOnCompletion(path, details)
    values = {"INPUT": str(make_tif()), "OUTPUT": clear, "THICKNESS": haze}

    provider.algorithm("dehazexl").create().run(values, context, feedback)

    options = QgsRasterLayer.LayerOptions(loadDefaultStyle=False)
    layer = QgsRasterLayer(haze, "", "gdal", options)
    loaded = context.layerToLoadOnCompletionDetails(haze)
    loaded.postProcessor().postProcessLayer(layer, context, feedback)
    assert context.layerToLoadOnCompletionDetails(clear).name == "hazy dehazed"
    assert loaded.name == "hazy haze thickness"
    assert layer.renderer().type() == "singlebandpseudocolor"


def test_an_extent_in_another_crs_is_cut_out(
    provider: Any, processing: ModuleType, make_tif: Make
) -> None:
    from qgis.core import (
        QgsCoordinateReferenceSystem,
        QgsCoordinateTransform,
        QgsProject,
        QgsRectangle,
        QgsReferencedRectangle,
    )

    utm, degrees = (QgsCoordinateReferenceSystem(f"EPSG:{code}") for code in (32633, 4326))
    wanted = QgsRectangle(500_200, 5_399_700, 500_500, 5_399_900)
    transform = QgsCoordinateTransform(utm, degrees, QgsProject.instance())
    extent = QgsReferencedRectangle(transform.transformBoundingBox(wanted), degrees)

    results = processing.run(
        "dehaze:dehazexl",
        {"INPUT": str(make_tif()), "EXTENT": extent, "OUTPUT": "TEMPORARY_OUTPUT"},
    )

    # 30 x 20 pixels, and up to a pixel more on each side for the turned rectangle.
    assert 30 <= results["WIDTH"] <= 32
    assert 20 <= results["HEIGHT"] <= 22


def test_an_extent_of_a_raster_without_georeference_hits_the_right_rows(
    provider: Any, processing: ModuleType, make_tif: Make
) -> None:
    source = make_tif(georeference=False)

    results = processing.run(
        "dehaze:dehazexl",
        {
            "INPUT": str(source),
            "EXTENT": "10,40,-30,-10",
            "STRENGTH": 0,
            "OUTPUT": "TEMPORARY_OUTPUT",
        },
    )

    from osgeo import gdal

    part = gdal.Open(results["OUTPUT"])
    assert (part.RasterXSize, part.RasterYSize) == (30, 20)
    assert part.ReadRaster() == gdal.Open(str(source)).ReadRaster(10, 10, 30, 20)


def test_relative_paths_in_qgis_process(qgis_process: Any, make_tif: Make, tmp_path: Path) -> None:
    make_tif("Ünï cødé dir/a b.tif")

    results = qgis_process(
        "dehaze:dehazexl", tmp_path / "Ünï cødé dir", INPUT="a b.tif", OUTPUT="clear.tif",
        STRENGTH=50, DEVICE="cpu",
    )  # fmt: skip

    assert results["OUTPUT"] == str(tmp_path / "Ünï cødé dir" / "clear.tif")
    assert Path(results["OUTPUT"]).is_file()


def test_a_batch_of_three(
    provider: Any, processing: ModuleType, dehazing: str, make_tif: Make, tmp_path: Path
) -> None:
    from qgis.core import QgsProcessingContext, QgsProcessingFeedback

    rows = [
        {"INPUT": str(make_tif(f"hazy{n}.tif")), "OUTPUT": str(tmp_path / f"clear{n}.tif")}
        for n in range(3)
    ]

    for row in rows:
        algorithm = provider.algorithm(dehazing.partition(":")[2]).create()
        _, is_fine = algorithm.run(row, QgsProcessingContext(), QgsProcessingFeedback(False))
        assert is_fine

    assert all(Path(row["OUTPUT"]).is_file() for row in rows)


@pytest.fixture
def model_file(provider: Any, dehazing: str, tmp_path: Path) -> Path:
    """native:fillnodata, then haze removal, then native:rescaleraster, as .model3."""
    from qgis.core import (
        QgsProcessingModelAlgorithm,
        QgsProcessingModelChildAlgorithm,
        QgsProcessingModelChildParameterSource,
        QgsProcessingModelOutput,
        QgsProcessingModelParameter,
        QgsProcessingParameterRasterLayer,
    )

    source = QgsProcessingModelChildParameterSource
    model = QgsProcessingModelAlgorithm("haze chain", "tests")
    model.addModelParameter(
        QgsProcessingParameterRasterLayer("hazy", "Hazy"), QgsProcessingModelParameter("hazy")
    )
    hazy = source.fromModelParameter("hazy")

    def output_of(step: str) -> Any:
        return source.fromChildOutput(step, "OUTPUT")

    steps = [
        ("fill", "native:fillnodata", hazy, {"FILL_VALUE": 120}),
        ("dehaze", dehazing, output_of("fill"), {"DEVICE": "cpu"}),
        (
            "scale",
            "native:rescaleraster",
            source.fromChildOutput("dehaze", "OUTPUT"),
            {"MAXIMUM": 1},
        ),
    ]
    for identifier, algorithm, value, settings in steps:
        child = QgsProcessingModelChildAlgorithm(algorithm)
        child.setChildId(identifier)
        child.addParameterSources("INPUT", [value])
        for name, setting in settings.items():
            child.addParameterSources(name, [source.fromStaticValue(setting)])
        if identifier == "scale":
            output = QgsProcessingModelOutput("clear", "Clear")
            output.setChildId(identifier)
            output.setChildOutputName("OUTPUT")
            child.setModelOutputs({"clear": output})
        model.addChildAlgorithm(child)
    path = tmp_path / "chain.model3"
    assert model.toFile(str(path))
    return path


def test_a_saved_model_runs_between_native_algorithms(
    model_file: Path, qgis_process: Any, make_tif: Make, tmp_path: Path
) -> None:
    source = make_tif(bands=1, nodata=7)

    results = qgis_process(str(model_file), tmp_path, hazy=source, **{"scale:clear": "clear.tif"})

    assert pixels(tmp_path / results["scale:clear"])["frame"][:4] == pixels(source)["frame"][:4]


def test_cancel_keeps_the_work_but_leaves_no_output(
    provider: Any, processing: ModuleType, make_tif: Make, feedback: Any, tmp_path: Path
) -> None:
    source, target = make_tif(width=1100, height=900), tmp_path / "clear.tif"
    values = {"INPUT": str(source), "OUTPUT": str(target), "BLOCK_SIZE": 256}
    feedback.progressChanged.connect(lambda percent: percent > 65 and feedback.cancel())

    cancelled = processing.run("dehaze:dehazexl", values, feedback=feedback)
    files = leftovers(tmp_path, source)
    resumed = processing.run("dehaze:dehazexl", values)
    untouched = processing.run("dehaze:dehazexl", {**values, "OUTPUT": str(tmp_path / "b.tif")})

    assert cancelled == {}
    assert files == []
    assert not is_alive(feedback.pid)
    assert resumed["RESUMED_BLOCKS"] > 0
    assert pixels(target) == pixels(untouched["OUTPUT"])


def test_a_killed_engine_is_explained_and_the_next_run_resumes(
    provider: Any, processing: ModuleType, make_tif: Make, feedback: Any, tmp_path: Path
) -> None:
    from qgis.core import QgsProcessingException

    source, target = make_tif(width=1100, height=900), tmp_path / "clear.tif"
    values = {"INPUT": str(source), "OUTPUT": str(target), "BLOCK_SIZE": 256}

    def kill(percent: float) -> None:
        if percent > 65 and is_alive(feedback.pid):
            os.kill(feedback.pid, signal.SIGKILL)

    feedback.progressChanged.connect(kill)

    with pytest.raises(QgsProcessingException, match=r"SIGKILL.*out of memory"):
        processing.run("dehaze:dehazexl", values, feedback=feedback)
    was_there = target.exists()
    resumed = processing.run("dehaze:dehazexl", values)

    assert not was_there
    assert resumed["RESUMED_BLOCKS"] > 0


def test_a_broken_raster_is_a_clear_error(
    provider: Any, processing: ModuleType, make_tif: Make, tmp_path: Path
) -> None:
    from qgis.core import QgsProcessingException

    source = make_tif(width=300, height=300)
    source.write_bytes(source.read_bytes()[:40_000])

    with pytest.raises(QgsProcessingException) as caught:
        processing.run("dehaze:dehazexl", {"INPUT": str(source), "OUTPUT": str(tmp_path / "c.tif")})

    assert "Traceback" not in str(caught.value)
    assert leftovers(tmp_path, source) == []


def test_a_model_without_weights_says_what_to_do(
    provider: Any,
    processing: ModuleType,
    make_tif: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qgis.core import QgsProcessingException

    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))
    values = {"INPUT": str(make_tif()), "MODEL": "dehazexl-base", "OUTPUT": str(tmp_path / "c.tif")}

    with pytest.raises(QgsProcessingException, match="dehaze models import"):
        processing.run("dehaze:dehazexl", values)


def is_alive(pid: int) -> bool:
    """Zombies count as dead: not every init of a container reaps."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
