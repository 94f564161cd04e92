# SPDX-License-Identifier: GPL-3.0-or-later
"""What the algorithms share that dehaze: a hazy raster in, a dehazed raster out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingOutputString,
    QgsProcessingParameterDefinition,
)
from qgis.PyQt.QtCore import QCoreApplication

from . import parameters as p
from .engine_algorithm import EngineAlgorithm, dress_thickness, name_layer
from .layer_style import HAZE_THICKNESS, put_style_beside
from .raster_source import RasterSource


class DehazingAlgorithm(EngineAlgorithm):
    """One that lets the engine dehaze with networks of one kind.

    Attributes:
        rasters: Parameters that are raster layers.
    """

    task = "run"
    rasters: tuple[str, ...] = (p.INPUT,)
    numbers = (
        "WIDTH",
        "HEIGHT",
        "VALID_FRACTION",
        "MEAN_THICKNESS",
        "MEAN_TRANSMISSION",
        "SECONDS",
        "MPX_PER_SECOND",
        "RESUMED_BLOCKS",
    )

    def tags(self) -> list[str]:
        """Return words that find this algorithm."""
        words = _tr(
            "haze,dehaze,smog,smoke,mist,fog,thin cloud,cirrus,aerosol,atmosphere,atmospheric "
            "correction,airlight,transmission,visibility,contrast,restoration,deep learning,"
            "satellite,aerial,drone"
        )
        return words.split(",")

    def shortHelpString(self) -> str:
        """Return the help beside the dialog."""
        shared = _tr(
            "The output has the CRS, geotransform, data type, nodata value and bands of the "
            "input; pixels without data are untouched. Lower the strength for a gentler "
            "correction; the haze thickness raster shows how much was removed where.\n"
            "The work is done block by block in a process of its own. Cancel stops it within two "
            "seconds and keeps finished blocks: running again with the same parameters and output "
            "file continues there.\n"
            "Nothing is sent anywhere."
        )
        return f"{self.explanation()}\n{shared}"

    def explanation(self) -> str:
        """Return the part of the help that says how networks of this kind take haze off."""
        raise NotImplementedError

    def model(self) -> QgsProcessingParameterDefinition:
        """Return the choice of one of the models of this kind."""
        raise NotImplementedError

    def guides(self) -> tuple[QgsProcessingParameterDefinition, ...]:
        """Return the parameters that say what guides networks of this kind."""
        return ()

    def own_parameters(self) -> tuple[QgsProcessingParameterDefinition, ...]:
        """Return the advanced parameters that only networks of this kind have."""
        return ()

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Declare parameters and outputs."""
        for parameter in (
            p.hazy_raster(),
            p.model_bands(),
            p.extent(),
            self.model(),
            *self.guides(),
            p.strength(),
            p.device(),
            *self.own_parameters(),
            p.block_size(),
            p.memory_limit(),
            p.threads(),
            p.creation_options(),
            p.dehazed_raster(),
            p.haze_thickness(),
        ):
            self.addParameter(parameter)
        self.add_numbers()
        self.addOutput(QgsProcessingOutputString("DEVICE_USED", _tr("Device that was used")))

    def complaint(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return why the values make no sense together; empty if they do."""
        return self.complaint_about_bands(parameters, context) or self.complaint_about_files(
            parameters, context, (p.OUTPUT, p.THICKNESS), self.rasters
        )

    def settings(
        self, source: RasterSource, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return the engine's settings as JSON values."""
        extent = self.parameterAsExtent(parameters, p.EXTENT, context, source.crs)
        settings: dict[str, Any] = {
            "source": source.path,
            "destination": self.output_path(parameters, p.OUTPUT, context),
            "strength": self.parameterAsDouble(parameters, p.STRENGTH, context) / 100.0,
            "bands": self.parameterAsInts(parameters, p.BANDS, context) or None,
            "extent": None if extent.isNull() else source.extent_values(extent),
            "thickness": self.output_path(parameters, p.THICKNESS, context),
            "creation_options": self.creation_options(parameters, context),
        }
        for setting, name in (
            ("model", p.MODEL),
            ("device", p.DEVICE),
            ("context", p.CONTEXT),
            ("backend", p.BACKEND),
        ):
            # Not every kind of network has every choice.
            if self.parameterDefinition(name) is not None:
                settings[setting] = self.parameterAsEnumString(parameters, name, context)
        for setting, name in (
            ("block_size", p.BLOCK_SIZE),
            ("memory_limit", p.MEMORY_LIMIT),
            ("threads", p.THREADS),
        ):
            number = self.optional_number(parameters, name, context)
            settings[setting] = None if number is None else int(number)
        return settings

    def name_layers(
        self, name: str, context: QgsProcessingContext, settings: dict[str, Any]
    ) -> None:
        """Name the layers that will be loaded after the input, and style them."""
        name_layer(context, settings["destination"], _tr("{name} dehazed").format(name=name))
        dress_thickness(context, settings["thickness"], name)

    def results(self, report: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs that are not numbers."""
        results: dict[str, Any] = {p.OUTPUT: settings["destination"]}
        if settings["thickness"]:
            results[p.THICKNESS] = settings["thickness"]
            put_style_beside(Path(settings["thickness"]), HAZE_THICKNESS)
        results["DEVICE_USED"] = report["device"]
        return results


def _tr(text: str) -> str:
    return QCoreApplication.translate("DehazingAlgorithm", text)
