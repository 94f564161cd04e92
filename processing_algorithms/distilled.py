# SPDX-License-Identifier: GPL-3.0-or-later
"""Haze removal with a very small network that was taught by others."""

from __future__ import annotations

from qgis.core import QgsProcessingParameterDefinition
from qgis.PyQt.QtCore import QCoreApplication

from . import parameters as p
from .dehazing_algorithm import DehazingAlgorithm
from .models import DISTILLED, model_names


class DistilledAlgorithm(DehazingAlgorithm):
    """`dehaze:distilled`."""

    def name(self) -> str:
        """Return the id, public for ever."""
        return "distilled"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return _tr("Dehaze (distilled, small)")

    def tags(self) -> list[str]:
        """Return words that find this algorithm."""
        words = _tr("knowledge distillation,student,light,lightweight,small,onnx")
        return [*super().tags(), *words.split(",")]

    def shortDescription(self) -> str:
        """Return one sentence for the tooltip."""
        return _tr(
            "Removes haze and thin cloud veils from satellite, aerial and drone rasters with a "
            "very small network."
        )

    def explanation(self) -> str:
        """Return the part of the help that says how networks of this kind take haze off."""
        return _tr(
            "Removes haze, smoke and thin veils of cloud from a raster of any size with a very "
            "small neural network.\n"
            "The network learns from pictures and from other networks. It looks at the "
            "scene scaled down for what all places have in common, and then paints a correction "
            "of every pixel from what is around it. Haze is fitted to the pixels before and "
            "after: it gives the haze thickness, and corrects bands that the network does not "
            "see. What is painted is an estimate: colours come out paler, dense haze blurred, and "
            "clear places are changed too. Dehaze (DehazeXL) with its model dehazexl-lite is "
            "better in all of this, and faster; take this one for what a network of 96,007 "
            "parameters can do, and to train your own."
        )

    def model(self) -> QgsProcessingParameterDefinition:
        """Return the choice of one of the models of this kind."""
        return p.model(
            model_names(DISTILLED),
            _tr(
                "The network: distilled, with 96,007 parameters, comes with its weights. Models of "
                "this kind that you have imported follow, for example your own from 'dehaze train "
                "distilled'."
            ),
        )

    def own_parameters(self) -> tuple[QgsProcessingParameterDefinition, ...]:
        """Return the advanced parameters that only networks of this kind have."""
        return (p.backend(),)


def _tr(text: str) -> str:
    return QCoreApplication.translate("DistilledAlgorithm", text)
