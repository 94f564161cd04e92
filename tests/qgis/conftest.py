# SPDX-License-Identifier: GPL-3.0-or-later
"""QGIS with the plugin loaded from an assembled folder, as QGIS itself loads it."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE_PYTHON = ROOT / ".venv" / "engine" / "bin" / "python"


@pytest.fixture(scope="session")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A QGIS configuration folder with the plugin linked into its default profile."""
    folder = tmp_path_factory.mktemp("qgis")
    plugins = folder / "profiles" / "default" / "python" / "plugins"
    subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "assemble_plugin.py"), "--link", str(plugins)],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="session")
def qgis_app(profiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A QGIS without windows."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ["QGIS_CUSTOM_CONFIG_PATH"] = str(profiles)
    from qgis.core import QgsApplication

    runtime = tmp_path_factory.mktemp("run")
    runtime.chmod(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    application = QgsApplication([], False)
    application.initQgis()
    sys.path.append(os.path.join(application.pkgDataPath(), "python", "plugins"))
    yield application
    application.exitQgis()


@pytest.fixture(scope="session")
def package(qgis_app: Any, profiles: Path) -> ModuleType:
    """The plugin's package, imported by the name QGIS gives it."""
    sys.path.insert(0, str(profiles / "profiles" / "default" / "python" / "plugins"))
    return importlib.import_module("dehaze")


@pytest.fixture(scope="session")
def processing(qgis_app: Any) -> ModuleType:
    """QGIS's `processing`, ready to run algorithms."""
    import processing
    from processing.core.Processing import Processing

    Processing.initialize()
    return processing


@pytest.fixture
def provider(package: ModuleType, processing: ModuleType) -> Iterator[Any]:
    """The registered provider."""
    from qgis.core import QgsApplication

    plugin = package.classFactory(None)
    plugin.initProcessing()
    yield QgsApplication.processingRegistry().providerById("dehaze")
    plugin.unload()


@pytest.fixture
def algorithm(provider: Any) -> Any:
    """A fresh `dehaze:dehazexl`."""
    return provider.algorithm("dehazexl").create()


@pytest.fixture
def make_tif(tmp_path: Path) -> Callable[..., Path]:
    """Write a small georeferenced raster of seeded noise; pixels with data are 1 to 255.

    `make_tif(name="hazy.tif", width=96, height=64, bands=3, nodata=None, georeference=True)`
    """
    from osgeo import gdal, osr

    gdal.UseExceptions()

    def make(
        name: str = "hazy.tif",
        width: int = 96,
        height: int = 64,
        bands: int = 3,
        nodata: int | None = None,
        georeference: bool = True,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.Random(len(name))
        raster = gdal.GetDriverByName("GTiff").Create(str(path), width, height, bands)
        if georeference:
            reference = osr.SpatialReference()
            reference.ImportFromEPSG(32633)
            raster.SetProjection(reference.ExportToWkt())
            raster.SetGeoTransform((500_000, 10, 0, 5_400_000, 0, -10))
        for number in range(1, bands + 1):
            pixels = bytearray(noise.randrange(90, 220) for _ in range(width * height))
            if nodata is not None:
                pixels[: width * 8] = bytes([nodata]) * (width * 8)
                raster.GetRasterBand(number).SetNoDataValue(nodata)
            raster.GetRasterBand(number).WriteRaster(0, 0, width, height, bytes(pixels))
        return path

    return make


@pytest.fixture
def patchwork(tmp_path: Path) -> Path:
    """Four even fields of 60 x 40 px, each of its own colour; the upper 8 rows hold no data."""
    from osgeo import gdal, osr

    gdal.UseExceptions()
    path, reference = tmp_path / "fields.tif", osr.SpatialReference()
    reference.ImportFromEPSG(32633)
    raster = gdal.GetDriverByName("GTiff").Create(str(path), 120, 80, 3)
    raster.SetProjection(reference.ExportToWkt())
    raster.SetGeoTransform((500_000, 10, 0, 5_400_000, 0, -10))
    colors = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (220, 220, 90))
    for number in range(3):
        rows = [
            bytes(
                [colors[2 * (row >= 40)][number]] * 60 + [colors[2 * (row >= 40) + 1][number]] * 60
            )
            for row in range(80)
        ]
        rows[:8] = [bytes(120)] * 8
        band = raster.GetRasterBand(number + 1)
        band.SetNoDataValue(0)
        band.WriteRaster(0, 0, 120, 80, b"".join(rows))
    return path


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[[str], Path]:
    """Make an interpreter that runs the given Python code instead of the engine.

    The code finds `say(kind, **fields)`, which writes a message, and `job`, the job file's path.
    """
    prelude = (
        "import json, os, signal, sys, time\n"
        "job = sys.argv[-1]\n"
        "def say(kind, **fields):\n"
        "    print(json.dumps({'type': kind, **fields}), flush=True)\n"
    )

    def make(code: str) -> Path:
        script = tmp_path / "engine.py"
        script.write_text(prelude + code)
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        python.chmod(0o755)
        return python

    return make


@pytest.fixture
def real_engine(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine of this source code, or the one the environment names."""
    python = Path(os.environ.get("DEHAZE_ENGINE_PYTHON", ENGINE_PYTHON))
    if not python.exists():
        pytest.skip("the engine's environment is not set up")
    monkeypatch.setenv("DEHAZE_ENGINE_PYTHON", str(python))
    return python


@pytest.fixture(scope="session")
def guided_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny`, an untrained guided-lite: enough to see that a mask gets through."""
    python = Path(os.environ.get("DEHAZE_ENGINE_PYTHON", ENGINE_PYTHON))
    if not python.exists():
        pytest.skip("the engine's environment is not set up")
    folder = tmp_path_factory.mktemp("data") / "models"
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from dehaze_core.models import save_model\n"
        "from dehaze_core.models.architectures import build_network\n"
        "torch.manual_seed(7)\n"
        "shape = {'widths': (8, 8, 16, 16), 'context_heads': 2, 'context_head_dim': 8}\n"
        "save_model(build_network('guided-lite', shape), 'tiny', Path(sys.argv[1]), {})\n"
    )
    subprocess.run([str(python), "-I", "-c", code, str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def qgis_process(profiles: Path, qgis_app: Any) -> Callable[..., dict[str, Any]]:
    """Run `qgis_process` with the plugin enabled and return its JSON answer."""
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        pytest.skip("qgis_process is not installed")
    subprocess.run([program, "plugins", "enable", "dehaze"], check=True, capture_output=True)

    def run(algorithm: str, folder: Path, **values: Any) -> dict[str, Any]:
        arguments = [f"--{name}={value}" for name, value in values.items()]
        ended = subprocess.run(
            [program, "--json", "run", algorithm, *arguments],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return dict(json.loads(ended.stdout[ended.stdout.index("{") :])["results"])

    return run
