# SPDX-License-Identifier: GPL-3.0-or-later
"""Default styles: beside the file for whoever opens it later, and at once for loaded results."""

from __future__ import annotations

import shutil
from pathlib import Path

from qgis.core import (
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
)

HAZE_THICKNESS = Path(__file__).with_name("styles") / "haze_thickness.qml"


def put_style_beside(raster: Path, style: Path) -> None:
    """Make `style` the default style of a raster file, unless it has one already."""
    sidecar = raster.with_suffix(".qml")
    if not sidecar.exists():
        shutil.copyfile(style, sidecar)


class _DefaultStyleLoader(QgsProcessingLayerPostProcessorInterface):
    """Processing loads results without their default style; this loads it."""

    def postProcessLayer(
        self,
        layer: QgsMapLayer,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> None:
        """Apply the default style of a loaded layer."""
        layer.loadDefaultStyle()
        layer.triggerRepaint()


# QGIS keeps a bare pointer: the object must outlive every run.
DEFAULT_STYLE_LOADER = _DefaultStyleLoader()
