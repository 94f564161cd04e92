# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine needs to know of a raster layer, read while the layer may be touched."""

from __future__ import annotations

import os
from dataclasses import dataclass

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingException,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QCoreApplication


@dataclass(frozen=True)
class RasterSource:
    """A raster file behind a layer.

    Args:
        path: Absolute path, or a name that GDAL understands.
        name: The layer's name.
        crs: The layer's CRS; may be invalid.
        band_count: Number of bands.
        height: Rows.
        is_upside_down: Whether QGIS shows rows of this raster as negative y, while the file itself
            has no georeference and rows count downwards.
    """

    path: str
    name: str
    crs: QgsCoordinateReferenceSystem
    band_count: int
    height: int
    is_upside_down: bool

    @classmethod
    def of(cls, layer: QgsRasterLayer) -> RasterSource:
        """Copy the facts of a layer; call it in the layer's thread.

        Raises:
            QgsProcessingException: The layer is no file that the engine could open.
        """
        extent = layer.extent()
        pixels = QgsRectangle(0, -layer.height(), layer.width(), 0)
        return cls(
            path=_file_of(layer),
            name=layer.name(),
            crs=layer.crs(),
            band_count=layer.bandCount(),
            height=layer.height(),
            is_upside_down=extent == pixels,
        )

    def extent_values(self, extent: QgsRectangle) -> tuple[float, float, float, float]:
        """Return `extent` (in the layer's CRS) as the file counts: xmin, ymin, xmax, ymax."""
        low, high = extent.yMinimum(), extent.yMaximum()
        if self.is_upside_down:
            low, high = -high, -low
        return extent.xMinimum(), low, extent.xMaximum(), high


def _file_of(layer: QgsRasterLayer) -> str:
    """Return the path or GDAL name behind `layer`."""
    if layer.providerType() != "gdal":
        raise QgsProcessingException(
            _tr(
                "The layer '{name}' comes from the data provider '{provider}', not from a raster "
                "file. Save it as GeoTIFF first (Export > Save As...)."
            ).format(name=layer.name(), provider=layer.providerType())
        )
    source = layer.source()
    if os.path.exists(source):
        return os.path.abspath(source)
    name, *options = source.split("|")
    layer_names = [option[10:] for option in options if option.startswith("layername=")]
    if len(layer_names) < len(options):
        raise QgsProcessingException(
            _tr(
                "The layer '{name}' is opened with options that the engine cannot repeat "
                "({options}). Save it as GeoTIFF first (Export > Save As...)."
            ).format(name=layer.name(), options=", ".join(options))
        )
    if os.path.exists(name):
        name = os.path.abspath(name)
    if layer_names and name.lower().endswith(".gpkg"):
        return f"GPKG:{name}:{layer_names[0]}"
    return name


def _tr(text: str) -> str:
    return QCoreApplication.translate("DehazeRasterSource", text)
