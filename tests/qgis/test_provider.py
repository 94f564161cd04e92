# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.qgis

ROOT = Path(__file__).resolve().parents[2]


def test_the_plugin_loads_without_a_window_and_unloads(
    package: ModuleType, processing: ModuleType
) -> None:
    from qgis.core import QgsApplication

    registry = QgsApplication.processingRegistry()
    plugin = package.classFactory(None)

    plugin.initProcessing()
    plugin.initGui()
    is_loaded = registry.providerById("dehaze") is not None
    plugin.unload()
    plugin.unload()

    assert is_loaded
    assert registry.providerById("dehaze") is None


def test_nothing_lands_in_the_global_module_namespace(provider: Any) -> None:
    ours = {"qgis_plugin", "processing_algorithms", "dehaze_core"}
    engine_only = {"torch", "rasterio", "xarray", "zarr", "dask"}

    assert not (ours | engine_only) & set(sys.modules)


def test_the_options_page_comes_and_goes_with_the_provider(
    package: ModuleType, processing: ModuleType
) -> None:
    from processing.core.ProcessingConfig import ProcessingConfig

    plugin = package.classFactory(None)
    plugin.initProcessing()
    while_loaded = ProcessingConfig.getSettings().get("Dehaze", [])
    plugin.unload()

    assert [setting.name for setting in while_loaded] == ["DEHAZE_ENGINE_PYTHON"]
    assert "Dehaze" not in ProcessingConfig.getSettings()


def test_the_provider_names_itself(provider: Any) -> None:
    assert provider.id() == "dehaze"
    assert provider.name() == "Dehaze"
    assert provider.versionInfo() in provider.longName()
    assert not provider.icon().isNull()
    assert provider.icon().pixmap(16, 16).toImage().pixelColor(8, 8).alpha() == 255


def test_the_algorithms_are_those_that_scripts_name(provider: Any) -> None:
    ids = {algorithm.id() for algorithm in provider.algorithms()}

    assert ids == {
        "dehaze:dehazexl",
        "dehaze:distilled",
        "dehaze:samguided",
        "dehaze:segmentmask",
        "dehaze:synthesizehaze",
    }


def test_temporary_outputs_are_geotiffs(provider: Any) -> None:
    assert provider.supportedOutputRasterLayerExtensions()[0] == "tif"
    assert provider.defaultRasterFileExtension() == "tif"
    output = provider.algorithm("dehazexl").parameterDefinition("OUTPUT")
    assert output.generateTemporaryDestination().endswith(".tif")


def test_temporary_vector_layers_are_geopackages(provider: Any) -> None:
    assert provider.supportedOutputVectorLayerExtensions() == ["gpkg"]
    polygons = provider.algorithm("segmentmask").parameterDefinition("POLYGONS")
    assert polygons.generateTemporaryDestination().endswith(".gpkg")


def test_the_version_is_the_engine_s() -> None:
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(ROOT / "metadata.txt", encoding="utf-8")
    engine = (ROOT / "dehaze_core" / "__init__.py").read_text(encoding="utf-8")

    assert f'__version__ = "{metadata["general"]["version"]}"' in engine


def test_the_metadata_say_what_qgis_asks_for() -> None:
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(ROOT / "metadata.txt", encoding="utf-8")
    asked = [
        "name",
        "description",
        "about",
        "version",
        "qgisMinimumVersion",
        "author",
        "license",
        "icon",
        "tags",
    ]

    assert [key for key in asked if not metadata["general"].get(key, "").strip()] == []
    assert metadata["general"]["hasProcessingProvider"] == "yes"
    assert (ROOT / metadata["general"]["icon"]).is_file()


def test_the_release_zip_holds_one_folder_that_loads(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "assemble_plugin.py"
    subprocess.run(
        [sys.executable, str(script), "--output", str(tmp_path / "a"), "--zip"],
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(tmp_path / "a" / "dehaze.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "b")

    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'b')!r});"
        "import dehaze; plugin = dehaze.classFactory(None);"
        "from dehaze.dehaze_core.worker import protocol; print(protocol.__file__)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )

    assert {name.split("/")[0] for name in names} == {"dehaze"}
    assert {"dehaze/metadata.txt", "dehaze/LICENSE", "dehaze/__init__.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or "test" in name]
    assert str(tmp_path / "b") in loaded.stdout
