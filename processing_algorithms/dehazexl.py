# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job: haze removal with networks that look at the whole scene at once."""

from __future__ import annotations

from qgis.core import QgsProcessingParameterDefinition
from qgis.PyQt.QtCore import QCoreApplication

from . import parameters as p
from .dehazing_algorithm import DehazingAlgorithm
from .models import DEHAZEXL, model_names


class DehazeXLAlgorithm(DehazingAlgorithm):
    """`dehaze:dehazexl`."""

    def name(self) -> str:
        """Return the id, public for ever."""
        return "dehazexl"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return _tr("Dehaze (DehazeXL)")

    def shortDescription(self) -> str:
        """Return one sentence for the tooltip."""
        return _tr("Removes haze and thin cloud veils from satellite, aerial and drone rasters.")

    def explanation(self) -> str:
        """Return the part of the help that says how networks of this kind take haze off."""
        return _tr(
            "Removes haze, smoke and thin veils of cloud from a raster of any size.\n"
            "A neural network looks at the whole scene at once and estimates how thick the haze "
            "is at every place and what colour it has; the scattering of light is then computed "
            "back. Details come from your raster, nothing is invented: opaque cloud stays cloud, "
            "and a clear scene stays as it is."
        )

    def model(self) -> QgsProcessingParameterDefinition:
        """Return the choice of one of the models of this kind."""
        return p.model(
            model_names(DEHAZEXL),
            _tr(
                "The network. dehazexl-lite comes trained and is made for ordinary computers. "
                "dehazexl-base is the published network, dehazexl-small a narrow one like it: they "
                "paint the clear picture, and run once 'dehaze models import' has brought weights "
                "in. Models of this kind that you have imported under other names follow."
            ),
        )

    def own_parameters(self) -> tuple[QgsProcessingParameterDefinition, ...]:
        """Return the advanced parameters that only networks of this kind have."""
        return p.global_context(), p.backend()


def _tr(text: str) -> str:
    return QCoreApplication.translate("DehazeXLAlgorithm", text)
