# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze:synthesizehaze`: its face, and the real engine behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.qgis

Make = Callable[..., Path]

# Public API: scripts and models name them.
INPUTS = [
    "INPUT", "BANDS", "KIND", "LEVEL", "OPTICAL_THICKNESS", "SEED", "TEXTURE", "DEM", "FOG_BASE",
    "FOG_DEPTH", "WAVELENGTH", "WAVELENGTH_M", "ALPHA", "AIRLIGHT_COLOR", "AIRLIGHT_VARIATION",
    "ADJACENCY", "SHOT_NOISE", "READ_NOISE", "UNROUNDED", "CREATION_OPTIONS", "OUTPUT",
    "THICKNESS", "AIRLIGHT", "TRUTH",
]  # fmt: skip
OUTPUTS = [
    "OUTPUT", "THICKNESS", "AIRLIGHT", "TRUTH", "WIDTH", "HEIGHT", "VALID_FRACTION",
    "MEDIAN_THICKNESS", "MEAN_THICKNESS", "SECONDS", "MPX_PER_SECOND", "RESUMED_BLOCKS",
]  # fmt: skip


@pytest.fixture
def synthesis(provider: Any) -> Any:
    """A fresh `dehaze:synthesizehaze`."""
    return provider.algorithm("synthesizehaze").create()


def test_the_public_names_are_kept(synthesis: Any) -> None:
    assert synthesis.id() == "dehaze:synthesizehaze"
    assert [parameter.name() for parameter in synthesis.parameterDefinitions()] == INPUTS
    assert [output.name() for output in synthesis.outputDefinitions()] == OUTPUTS


def test_the_help_page_names_every_parameter_and_output(synthesis: Any) -> None:
    from qgis.PyQt.QtCore import QUrl

    page = Path(QUrl(synthesis.helpUrl()).toLocalFile()).read_text(encoding="utf-8")

    assert [name for name in INPUTS + OUTPUTS if f"<code>{name}</code>" not in page] == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"KIND": "valley"}, "Elevation model"),
        ({"KIND": "texture"}, "Haze texture"),
        ({"KIND": "drizzle"}, "KIND"),
        ({"AIRLIGHT_COLOR": "0.8,0.8"}, "airlight"),
        ({"AIRLIGHT_COLOR": "white"}, "airlight"),
        ({"WAVELENGTH": 100, "WAVELENGTH_M": 100}, "metres"),
        ({"OPTICAL_THICKNESS": 11}, "OPTICAL_THICKNESS"),
        ({"OUTPUT": "INPUT"}, "overwrite"),
        ({"AIRLIGHT": "OUTPUT"}, "same file"),
        ({"KIND": "valley", "DEM": "INPUT", "THICKNESS": "INPUT"}, "overwrite"),
        ({"BANDS": [1, 2]}, "2 bands"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    synthesis: Any, make_tif: Make, changes: dict[str, Any], complaint: str
) -> None:
    from qgis.core import QgsProcessingContext

    values = {"INPUT": str(make_tif()), "OUTPUT": str(make_tif("x.tif").with_name("result.tif"))}
    # The name of a parameter stands for its value.
    wanted = {name: values.get(str(value), value) for name, value in changes.items()}

    is_fine, message = synthesis.checkParameterValues({**values, **wanted}, QgsProcessingContext())

    assert not is_fine
    assert complaint in message


def layers(path: Path | str) -> list[bytes]:
    """The bands' bytes."""
    from osgeo import gdal

    raster = gdal.Open(str(path))
    bands = [raster.GetRasterBand(number + 1) for number in range(raster.RasterCount)]
    return [bytes(band.ReadRaster()) for band in bands]


@pytest.mark.slow
@pytest.mark.usefixtures("real_engine")
def test_every_declared_output_is_returned_and_the_frame_is_the_input_s(
    provider: Any, processing: ModuleType, make_tif: Make, tmp_path: Path
) -> None:
    from osgeo import gdal

    source = make_tif(nodata=7)
    values = {
        "INPUT": str(source),
        "KIND": "valley",
        "DEM": str(make_tif("dem.tif", bands=1)),
        "LEVEL": "L4",
        "AIRLIGHT_COLOR": "0.7,0.8,0.9",
        "AIRLIGHT_VARIATION": 0.02,
        "ADJACENCY": 1.0,
        "SHOT_NOISE": 1e-4,
        "OUTPUT": "TEMPORARY_OUTPUT",
        "THICKNESS": str(tmp_path / "tau.tif"),
        "AIRLIGHT": str(tmp_path / "air.tif"),
        "TRUTH": str(tmp_path / "truth.json"),
    }

    results = processing.run("dehaze:synthesizehaze", values)

    assert sorted(results) == sorted(OUTPUTS)
    before, after = gdal.Open(str(source)), gdal.Open(results["OUTPUT"])
    assert after.GetGeoTransform() == before.GetGeoTransform()
    assert after.GetRasterBand(1).GetNoDataValue() == 7
    assert layers(results["OUTPUT"])[0][: 96 * 8] == layers(source)[0][: 96 * 8]
    assert layers(results["OUTPUT"]) != layers(source)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["recipe"]["airlight"] == [0.7, 0.8, 0.9]
    assert (tmp_path / "tau.qml").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("real_engine")
def test_qgis_process_runs_it_from_relative_paths(
    qgis_process: Callable[..., dict[str, Any]], make_tif: Make, tmp_path: Path
) -> None:
    make_tif("clear.tif")

    results = qgis_process(
        "dehaze:synthesizehaze", tmp_path, INPUT="clear.tif", KIND="cirrus", LEVEL="L3", SEED=4,
        OUTPUT="out.tif", THICKNESS="tau.tif", TRUTH="truth.json",
    )  # fmt: skip

    assert 0.42 <= results["MEDIAN_THICKNESS"] <= 0.85
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert (truth["kind"], truth["level"], truth["seed"]) == ("cirrus", "L3", 4)
    assert (tmp_path / "out.tif").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("real_engine")
def test_an_elevation_model_of_another_place_is_a_clear_error(
    provider: Any, processing: ModuleType, make_tif: Make, tmp_path: Path
) -> None:
    from osgeo import gdal
    from qgis.core import QgsProcessingException

    far = make_tif("far.tif", bands=1)
    raster = gdal.Open(str(far), gdal.GA_Update)
    raster.SetGeoTransform((700_000, 10, 0, 5_100_000, 0, -10))
    del raster
    values = {
        "INPUT": str(make_tif()),
        "KIND": "valley",
        "DEM": str(far),
        "OUTPUT": str(tmp_path / "out.tif"),
    }

    with pytest.raises(QgsProcessingException, match=r"overlap.*DEM_OVERLAP"):
        processing.run("dehaze:synthesizehaze", values)

    assert not (tmp_path / "out.tif").exists()
