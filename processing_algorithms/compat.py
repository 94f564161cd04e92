# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that knows how QGIS 3.22 and later versions up to 4 differ.

QGIS moved the enumerations of Processing into `Qgis` (3.36) and scoped them; both spellings are
looked up here, so that the rest of the plugin uses plain names.
"""

from __future__ import annotations

from typing import Any

from qgis.core import (
    Qgis,
    QgsProcessing,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterNumber,
    QgsProcessingProvider,
)


def _member(scope: str, name: str, owner: Any, old_name: str) -> Any:  # noqa: ANN401 - Qt enums
    """Return `Qgis.<scope>.<name>` where this QGIS has it, else `owner.<old_name>`."""
    scoped = getattr(Qgis, scope, None)
    return getattr(owner, old_name) if scoped is None else getattr(scoped, name)


FLAG_ADVANCED = _member(
    "ProcessingParameterFlag", "Advanced", QgsProcessingParameterDefinition, "FlagAdvanced"
)
NUMBER_DOUBLE = _member(
    "ProcessingNumberParameterType", "Double", QgsProcessingParameterNumber, "Double"
)
NUMBER_INTEGER = _member(
    "ProcessingNumberParameterType", "Integer", QgsProcessingParameterNumber, "Integer"
)
VECTOR_POLYGON = _member(
    "ProcessingSourceType", "VectorPolygon", QgsProcessing, "TypeVectorPolygon"
)


def geotiff_formats(provider: QgsProcessingProvider) -> list[Any]:
    """Return those of QGIS 4's (format, extension) pairs that are GeoTIFF.

    Its first versions know plain pairs, later ones objects with names.
    """
    pairs = QgsProcessingProvider.supportedOutputRasterLayerFormatAndExtensions(provider)
    return [pair for pair in pairs if (getattr(pair, "format", None) or pair[0]) == "GTiff"]
