# SPDX-License-Identifier: GPL-3.0-or-later
"""Haze removal with networks that segments of the scene guide."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
)
from qgis.PyQt.QtCore import QCoreApplication

from . import parameters as p
from . import segmentation_parameters as s
from .dehazing_algorithm import DehazingAlgorithm
from .models import GUIDED, model_names
from .raster_source import RasterSource


class SamGuidedAlgorithm(DehazingAlgorithm):
    """`dehaze:samguided`."""

    rasters = (p.INPUT, s.MASK)

    def __init__(self) -> None:
        super().__init__()
        self._mask: RasterSource | None = None

    def name(self) -> str:
        """Return the id, public for ever."""
        return "samguided"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return _tr("Dehaze (SAM-guided)")

    def tags(self) -> list[str]:
        """Return words that find this algorithm."""
        words = _tr("segment anything,SAM,MobileSAM,segmentation,segments,mask,guided")
        return [*super().tags(), *words.split(",")]

    def shortDescription(self) -> str:
        """Return one sentence for the tooltip."""
        return _tr(
            "Removes haze and thin cloud veils from satellite, aerial and drone rasters, guided by "
            "segments of the scene."
        )

    def explanation(self) -> str:
        """Return the part of the help that says how networks of this kind take haze off."""
        return _tr(
            "Removes haze, smoke and thin veils of cloud from a raster of any size with a neural "
            "network that is told which pixels belong together.\n"
            "Beside the bands the network gets a mask of segments, such as fields, roofs and "
            "water: yours, one made by Segment raster, or one that is made on the way by Segment "
            "Anything or a classical method. Where haze is thin the mask counts for little or "
            "nothing, since there it rather harms. A mask cannot bring back what haze has hidden, "
            "and segments found in thick haze can be wrong.\n"
            "guided-lite comes with its weights. Measured on pictures with known haze, it is no "
            "better than Dehaze (DehazeXL) without a mask, and a little worse where haze is thin; "
            "it is here to be tried and trained further."
        )

    def model(self) -> QgsProcessingParameterDefinition:
        """Return the choice of one of the models of this kind."""
        return p.model(
            model_names(GUIDED),
            _tr(
                "The network. guided-lite comes with its weights and estimates haze like "
                "dehazexl-lite, so that details come from your raster. The others paint the clear "
                "picture, and run once 'dehaze models import' has brought weights in. Models of "
                "this kind that you have imported under other names follow."
            ),
        )

    def guides(self) -> tuple[QgsProcessingParameterDefinition, ...]:
        """Return the parameters that say what guides networks of this kind."""
        return s.mask(), s.structure(), s.segmenter()

    def own_parameters(self) -> tuple[QgsProcessingParameterDefinition, ...]:
        """Return the advanced parameters that only networks of this kind have."""
        return s.coding(), p.global_context()

    def complaint(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return why the values make no sense together; empty if they do."""
        layer = self.parameterAsRasterLayer(parameters, s.MASK, context)
        if layer and layer.bandCount() != 1:
            return _tr("The mask '{name}' has {count} bands, expected one.").format(
                name=layer.name(), count=layer.bandCount()
            )
        structure = self.parameterAsEnumString(parameters, s.STRUCTURE, context)
        if layer and structure != s.STRUCTURES[0]:
            return _tr(
                "A mask is given together with the structure {structure}; a mask is used as it is: "
                "choose the structure {expected}, or no mask."
            ).format(structure=structure, expected=s.STRUCTURES[0])
        return super().complaint(parameters, context)

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Copy what is needed of the layers, in the thread they live in."""
        is_ready = super().prepareAlgorithm(parameters, context, feedback)
        if parameters.get(s.MASK) not in (None, ""):
            self._mask = self.source_of(parameters, s.MASK, context)
        return is_ready

    def settings(
        self, source: RasterSource, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return the engine's settings as JSON values."""
        settings = super().settings(source, parameters, context)
        settings["mask"] = None if self._mask is None else self._mask.path
        for setting, name in (
            ("structure", s.STRUCTURE),
            ("segmenter", s.SEGMENTER),
            ("coding", s.CODING),
        ):
            settings[setting] = self.parameterAsEnumString(parameters, name, context)
        return settings


def _tr(text: str) -> str:
    return QCoreApplication.translate("SamGuidedAlgorithm", text)
