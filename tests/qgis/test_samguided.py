# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze:samguided`: what guides it. What all that dehaze have in common: test_algorithm.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [pytest.mark.qgis, pytest.mark.filterwarnings("ignore")]

Make = Callable[..., Path]


@pytest.fixture
def guided(provider: Any) -> Any:
    """A fresh `dehaze:samguided`."""
    return provider.algorithm("samguided").create()


@pytest.fixture
def guided_engine(
    real_engine: Path, guided_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The real engine with the model `tiny` and an empty cache."""
    monkeypatch.setenv("DEHAZE_MODELS", str(guided_models))
    monkeypatch.setenv("DEHAZE_CACHE", str(tmp_path / "cache"))
    return real_engine


def pixels(path: Path | str) -> bytes:
    """All values of a raster."""
    from osgeo import gdal

    return bytes(gdal.Open(str(path)).ReadRaster())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"MASK": "INPUT"}, "3 bands"),
        ({"MASK": "gone.tif"}, "MASK"),
        ({"OUTPUT": "MASK"}, "overwrite"),
        ({"THICKNESS": "MASK"}, "overwrite"),
        ({"STRUCTURE": "abacus"}, "STRUCTURE"),
        ({"STRUCTURE": "dehaze_mask"}, "no mask"),
        ({"STRUCTURE": "haze_gray"}, "no mask"),
        ({"SEGMENTER": "abacus"}, "SEGMENTER"),
        ({"CODING": "abacus"}, "CODING"),
    ],
)
def test_guides_that_make_no_sense_are_refused(
    guided: Any, make_tif: Make, changes: dict[str, Any], complaint: str
) -> None:
    from qgis.core import QgsProcessingContext

    mask = make_tif("mask.tif", bands=1)
    values = {
        "INPUT": str(make_tif()),
        "MASK": str(mask),
        "OUTPUT": str(mask.with_name("result.tif")),
    }
    # The name of a parameter stands for its value.
    wanted = {name: values.get(str(value), value) for name, value in changes.items()}

    is_fine, message = guided.checkParameterValues({**values, **wanted}, QgsProcessingContext())

    assert not is_fine
    assert complaint in message


@pytest.mark.parametrize("is_layer", [False, True])
def test_the_engine_is_told_which_mask_to_take(
    guided: Any,
    make_tif: Make,
    make_engine: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_layer: bool,
) -> None:
    from qgis.core import QgsProcessingContext, QgsProcessingFeedback, QgsRasterLayer

    python = make_engine(
        f"import shutil\nshutil.copy(job, {str(tmp_path / 'asked.json')!r})\n"
        "say('hello', protocol=1, version='0.1.0', pid=os.getpid())\n"
        "say('result', values={'width': 96, 'height': 64, 'seconds': 1.0, 'mpx_per_second': 0.01,"
        " 'device': 'cpu'})"
    )
    monkeypatch.setenv("DEHAZE_ENGINE_PYTHON", str(python))
    path = make_tif("mask.tif", bands=1)
    mask = QgsRasterLayer(str(path), "segments") if is_layer else str(path)
    values = {"INPUT": str(make_tif()), "MASK": mask, "OUTPUT": str(tmp_path / "clear.tif")}

    _, is_fine = guided.run(values, QgsProcessingContext(), QgsProcessingFeedback(False))

    assert is_fine
    asked = json.loads((tmp_path / "asked.json").read_text())["parameters"]
    guides = {name: asked[name] for name in ("mask", "structure", "segmenter", "coding")}
    assert guides == {
        "mask": str(path),
        "structure": "haze_mask",
        "segmenter": "mobile",
        "coding": "paint",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("guided_engine")
def test_a_mask_guides_the_result_and_the_frame_is_the_input_s(
    provider: Any, processing: ModuleType, make_tif: Make, tmp_path: Path
) -> None:
    from osgeo import gdal

    source, mask = make_tif(nodata=7), make_tif("mask.tif", bands=1)
    values = {"INPUT": str(source), "MASK": str(mask)}

    guided = processing.run(
        "dehaze:samguided",
        {**values, "OUTPUT": "TEMPORARY_OUTPUT", "THICKNESS": str(tmp_path / "haze.tif")},
    )
    gray = processing.run(
        "dehaze:samguided",
        {"INPUT": str(source), "STRUCTURE": "haze_gray", "OUTPUT": str(tmp_path / "gray.tif")},
    )

    algorithm = provider.algorithm("samguided")
    assert set(guided) == {output.name() for output in algorithm.outputDefinitions()}
    assert pixels(guided["OUTPUT"]) != pixels(gray["OUTPUT"])
    before, after = gdal.Open(str(source)), gdal.Open(guided["OUTPUT"])
    assert after.GetGeoTransform() == before.GetGeoTransform()
    assert after.GetRasterBand(1).GetNoDataValue() == 7
    assert after.ReadRaster(0, 0, 96, 8) == before.ReadRaster(0, 0, 96, 8)


@pytest.mark.slow
@pytest.mark.usefixtures("guided_engine")
def test_a_mask_of_another_crs_is_a_clear_error(
    provider: Any, processing: ModuleType, make_tif: Make, tmp_path: Path
) -> None:
    from osgeo import gdal, osr
    from qgis.core import QgsProcessingException

    mask, reference = make_tif("mask.tif", bands=1), osr.SpatialReference()
    reference.ImportFromEPSG(32634)
    raster = gdal.Open(str(mask), gdal.GA_Update)
    raster.SetProjection(reference.ExportToWkt())
    del raster
    values = {"INPUT": str(make_tif()), "MASK": str(mask), "OUTPUT": str(tmp_path / "out.tif")}

    with pytest.raises(QgsProcessingException, match="MASK_CRS"):
        processing.run("dehaze:samguided", values)

    assert not (tmp_path / "out.tif").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("real_engine")
def test_a_model_without_weights_says_what_to_do(
    provider: Any,
    processing: ModuleType,
    make_tif: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qgis.core import QgsProcessingException

    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))
    values = {"INPUT": str(make_tif()), "MODEL": "guided-unet", "OUTPUT": str(tmp_path / "c.tif")}

    with pytest.raises(QgsProcessingException, match="dehaze models import"):
        processing.run("dehaze:samguided", values)


@pytest.fixture
def model_file(provider: Any, tmp_path: Path) -> Path:
    """A raster is segmented and then dehazed with these segments, as .model3."""
    from qgis.core import (
        QgsProcessingModelAlgorithm,
        QgsProcessingModelChildAlgorithm,
        QgsProcessingModelChildParameterSource,
        QgsProcessingModelOutput,
        QgsProcessingModelParameter,
        QgsProcessingParameterRasterLayer,
    )

    source = QgsProcessingModelChildParameterSource
    model = QgsProcessingModelAlgorithm("guided chain", "tests")
    model.addModelParameter(
        QgsProcessingParameterRasterLayer("hazy", "Hazy"), QgsProcessingModelParameter("hazy")
    )
    mask, tiny = source.fromChildOutput("segment", "OUTPUT"), source.fromStaticValue("tiny")
    steps: list[tuple[str, str, dict[str, Any], str]] = [
        ("segment", "dehaze:segmentmask", {"SEGMENTER": source.fromStaticValue("slic")}, "mask"),
        ("dehaze", "dehaze:samguided", {"MASK": mask, "MODEL": tiny}, "clear"),
    ]
    for identifier, algorithm, values, name in steps:
        child = QgsProcessingModelChildAlgorithm(algorithm)
        child.setChildId(identifier)
        child.addParameterSources("INPUT", [source.fromModelParameter("hazy")])
        for parameter, value in values.items():
            child.addParameterSources(parameter, [value])
        output = QgsProcessingModelOutput(name, name)
        output.setChildId(identifier)
        output.setChildOutputName("OUTPUT")
        child.setModelOutputs({name: output})
        model.addChildAlgorithm(child)
    path = tmp_path / "chain.model3"
    assert model.toFile(str(path))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("guided_engine")
def test_a_saved_model_segments_and_dehazes_with_the_segments(
    model_file: Path,
    qgis_process: Callable[..., dict[str, Any]],
    patchwork: Path,
    tmp_path: Path,
) -> None:
    chained = qgis_process(
        str(model_file), tmp_path, hazy=patchwork,
        **{"segment:mask": "mask.tif", "dehaze:clear": "clear.tif"},
    )  # fmt: skip
    by_hand = qgis_process(
        "dehaze:samguided", tmp_path,
        INPUT=patchwork, MASK="mask.tif", MODEL="tiny", OUTPUT="again.tif",
    )  # fmt: skip

    mask = pixels(tmp_path / "mask.tif")
    assert set(mask[: 120 * 8]) == {0}
    assert len(set(mask[120 * 8 :])) >= 4
    assert pixels(tmp_path / chained["dehaze:clear"]) == pixels(by_hand["OUTPUT"])
    assert pixels(by_hand["OUTPUT"]) != pixels(patchwork)


@pytest.mark.slow
@pytest.mark.usefixtures("guided_engine")
def test_the_mask_is_made_on_the_way_as_segment_raster_makes_it(
    provider: Any, processing: ModuleType, patchwork: Path, tmp_path: Path
) -> None:
    source, mask = str(patchwork), str(tmp_path / "mask.tif")
    processing.run("dehaze:segmentmask", {"INPUT": source, "SEGMENTER": "slic", "OUTPUT": mask})
    shared = {"INPUT": source, "MODEL": "tiny"}

    made = processing.run(
        "dehaze:samguided",
        {**shared, "SEGMENTER": "slic", "OUTPUT": str(tmp_path / "a.tif")},
    )
    given = processing.run(
        "dehaze:samguided", {**shared, "MASK": mask, "OUTPUT": str(tmp_path / "b.tif")}
    )

    assert pixels(made["OUTPUT"]) == pixels(given["OUTPUT"])
