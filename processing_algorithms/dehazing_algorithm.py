# SPDX-License-Identifier: GPL-3.0-or-later
"""What the algorithms share that dehaze: a hazy raster in, a dehazed raster out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterDefinition,
)
from qgis.PyQt.QtCore import QCoreApplication

from . import parameters as p
from .engine_algorithm import EngineAlgorithm, announce, name_layer
from .layer_style import DEFAULT_STYLE_LOADER, HAZE_THICKNESS, put_style_beside
from .raster_source import RasterSource

# Declared output -> (key of the engine's report, description).
NUMBERS = {
    "WIDTH": ("width", "Width of the output in pixels"),
    "HEIGHT": ("height", "Height of the output in pixels"),
    "VALID_FRACTION": ("valid_fraction", "Share of pixels with data, 0 to 1"),
    "MEAN_THICKNESS": ("mean_thickness", "Mean optical thickness of the haze at 550 nm"),
    "MEAN_TRANSMISSION": ("mean_transmission", "Mean transmission of the haze, 0 to 1"),
    "SECONDS": ("seconds", "Duration in seconds"),
    "MPX_PER_SECOND": ("mpx_per_second", "Speed in megapixels per second"),
    "RESUMED_BLOCKS": ("resumed_blocks", "Blocks taken over from an interrupted run"),
}


class DehazingAlgorithm(EngineAlgorithm):
    """One that lets the engine dehaze with networks of one kind."""

    def __init__(self) -> None:
        super().__init__()
        self._source: RasterSource | None = None

    def createInstance(self) -> DehazingAlgorithm:
        """Return a fresh algorithm."""
        return type(self)()

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
            p.strength(),
            p.device(),
            *self.own_parameters(),
            p.backend(),
            p.block_size(),
            p.memory_limit(),
            p.threads(),
            p.creation_options(),
            p.dehazed_raster(),
            p.haze_thickness(),
        ):
            self.addParameter(parameter)
        for name, (_, description) in NUMBERS.items():
            self.addOutput(QgsProcessingOutputNumber(name, _tr(description)))
        self.addOutput(QgsProcessingOutputString("DEVICE_USED", _tr("Device that was used")))

    def complaint(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return why the values make no sense together; empty if they do."""
        return self.complaint_about_bands(parameters, context) or self.complaint_about_files(
            parameters, context, (p.OUTPUT, p.THICKNESS)
        )

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Copy what is needed of the layer, in the thread it lives in."""
        self._source = self.source_of(parameters, p.INPUT, context)
        return True

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Let the engine do the work; an empty result means cancelled."""
        settings = self._settings(parameters, context)
        report = self.ask_engine("run", settings, feedback)
        if report is None:
            return {}
        self._dress_layers(context, settings)
        announce(report, report["device"], feedback)
        return self._results(report, settings)

    def _settings(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return the engine's settings as JSON values."""
        source = self._source
        if source is None:
            raise QgsProcessingException(self.invalidRasterError(parameters, p.INPUT))
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
            # Not every kind of network has a choice of context.
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

    def _dress_layers(self, context: QgsProcessingContext, settings: dict[str, Any]) -> None:
        """Style layers, and name them after the input."""
        name = self._source.name if self._source else ""
        name_layer(context, settings["destination"], _tr("{name} dehazed").format(name=name))
        haze = name_layer(
            context, settings["thickness"], _tr("{name} haze thickness").format(name=name)
        )
        if haze is not None:
            haze.setPostProcessor(DEFAULT_STYLE_LOADER)

    def _results(self, report: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        results: dict[str, Any] = {p.OUTPUT: settings["destination"]}
        if settings["thickness"]:
            results[p.THICKNESS] = settings["thickness"]
            put_style_beside(Path(settings["thickness"]), HAZE_THICKNESS)
        for name, (key, _) in NUMBERS.items():
            if report.get(key) is not None:
                results[name] = report[key]
        results["DEVICE_USED"] = report["device"]
        return results


def _tr(text: str) -> str:
    return QCoreApplication.translate("DehazingAlgorithm", text)
