# SPDX-License-Identifier: GPL-3.0-or-later
"""The Processing provider `dehaze`."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from ..processing_algorithms.compat import geotiff_formats
from ..processing_algorithms.dehazexl import DehazeXLAlgorithm
from ..processing_algorithms.distilled import DistilledAlgorithm
from ..processing_algorithms.samguided import SamGuidedAlgorithm
from ..processing_algorithms.segmentmask import SegmentMaskAlgorithm
from ..processing_algorithms.synthesizehaze import SynthesizeHazeAlgorithm
from .settings import add_settings, remove_settings

ICON = Path(__file__).with_name("icons") / "dehaze.svg"
METADATA = Path(__file__).parents[1] / "metadata.txt"


class DehazeProvider(QgsProcessingProvider):
    """All algorithms of Dehaze. They are listed even where the engine is missing, and say so."""

    def id(self) -> str:
        """Return the id, public for ever."""
        return "dehaze"

    def name(self) -> str:
        """Return the name in the toolbox."""
        return "Dehaze"

    def longName(self) -> str:
        """Return the name with the version."""
        return f"Dehaze ({self.versionInfo()})"

    def versionInfo(self) -> str:
        """Return the plugin's version."""
        metadata = configparser.ConfigParser(interpolation=None)
        metadata.read(METADATA, encoding="utf-8")
        return metadata.get("general", "version")

    def icon(self) -> QIcon:
        """Return the icon."""
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        """Return the icon's file."""
        return str(ICON)

    def load(self) -> bool:
        """Add settings and algorithms."""
        add_settings(self.name(), self.icon())
        return bool(super().load())

    def unload(self) -> None:
        """Remove what `load` added."""
        remove_settings(self.name())
        super().unload()

    def loadAlgorithms(self) -> None:
        """Add the algorithms."""
        for algorithm in (
            DehazeXLAlgorithm(),
            DistilledAlgorithm(),
            SamGuidedAlgorithm(),
            SegmentMaskAlgorithm(),
            SynthesizeHazeAlgorithm(),
        ):
            self.addAlgorithm(algorithm)

    def supportsNonFileBasedOutput(self) -> bool:
        """Return False: the engine writes files."""
        return False

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        """Return the extensions of GeoTIFF, the only format the engine writes."""
        return ["tif", "tiff"]

    def supportedOutputRasterLayerFormatAndExtensions(self) -> list[Any]:
        """Return the same for QGIS 4."""
        return geotiff_formats(self)

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        """Return the extension of GeoPackage, the only vector format the engine writes."""
        return ["gpkg"]

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:
        """Return the extension of temporary outputs of vector layers."""
        return "gpkg"

    def defaultRasterFileExtension(self) -> str:
        """Return the extension of temporary outputs."""
        return "tif"

    def defaultRasterFileFormat(self) -> str:
        """Return the same for QGIS 4."""
        return "GTiff"
