# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.qgis


def source_of(uri: str, provider: str = "gdal") -> Any:
    from dehaze.processing_algorithms.raster_source import RasterSource
    from qgis.core import QgsRasterLayer

    return RasterSource.of(QgsRasterLayer(uri, "layer", provider))


def test_a_relative_path_becomes_absolute(
    package: ModuleType, make_tif: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_tif("Ünï cødé dir/hazy.tif")
    monkeypatch.chdir(path.parent)

    assert source_of("hazy.tif").path == str(path)


def test_names_that_only_gdal_knows_are_passed_on(
    package: ModuleType, make_tif: Callable[..., Path]
) -> None:
    path = make_tif()
    archive = shutil.make_archive(str(path.with_suffix("")), "zip", path.parent, path.name)

    assert source_of(f"/vsizip/{archive}/hazy.tif").path == f"/vsizip/{archive}/hazy.tif"


def test_a_raster_table_in_a_geopackage_is_named_for_gdal(
    package: ModuleType, make_tif: Callable[..., Path]
) -> None:
    from osgeo import gdal

    path = make_tif()
    target = path.with_suffix(".gpkg")
    gdal.Translate(str(target), str(path), format="GPKG", creationOptions=["RASTER_TABLE=scene"])

    assert source_of(f"GPKG:{target}:scene").path == f"GPKG:{target}:scene"


def test_a_web_layer_is_refused_with_advice(package: ModuleType) -> None:
    from qgis.core import QgsProcessingException

    with pytest.raises(QgsProcessingException, match=r"'wms'.*Save it as GeoTIFF"):
        source_of("type=xyz&url=http://localhost/{z}/{x}/{y}.png&zmax=2", "wms")


def test_a_layer_with_open_options_is_refused_with_advice(
    package: ModuleType, make_tif: Callable[..., Path]
) -> None:
    from qgis.core import QgsProcessingException

    with pytest.raises(QgsProcessingException, match=r"NUM_THREADS=1.*Save it as GeoTIFF"):
        source_of(f"{make_tif()}|option:NUM_THREADS=1")


def test_an_extent_keeps_its_numbers_in_a_georeferenced_raster(
    package: ModuleType, make_tif: Callable[..., Path]
) -> None:
    from qgis.core import QgsRectangle

    source = source_of(str(make_tif()))

    assert source.extent_values(QgsRectangle(1, 2, 3, 4)) == (1, 2, 3, 4)


def test_an_extent_is_counted_in_rows_where_there_is_no_georeference(
    package: ModuleType, make_tif: Callable[..., Path]
) -> None:
    from qgis.core import QgsRectangle

    source = source_of(str(make_tif(georeference=False)))

    # QGIS draws such a raster below the x axis.
    assert source.extent_values(QgsRectangle(10, -40, 30, -20)) == (10, 20, 30, 40)
