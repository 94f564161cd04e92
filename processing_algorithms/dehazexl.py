# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job: a hazy raster in, a dehazed raster out."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingUtils,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QCoreApplication, QUrl
from qgis.PyQt.QtGui import QIcon
from qgis.utils import iface

from . import parameters as p
from .engine_client import EngineCancelledError, EngineFailedError, run_task
from .engine_environment import EngineMissingError, find_engine_python
from .layer_style import DEFAULT_STYLE_LOADER, HAZE_THICKNESS, put_style_beside
from .raster_source import RasterSource

MODELS = ("dehazexl-lite",)
HELP_PAGE = Path(__file__).with_name("help") / "dehazexl.html"

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


class DehazeXLAlgorithm(QgsProcessingAlgorithm):
    """`dehaze:dehazexl`."""

    def __init__(self) -> None:
        super().__init__()
        self._source: RasterSource | None = None

    def createInstance(self) -> DehazeXLAlgorithm:
        """Return a fresh algorithm."""
        return DehazeXLAlgorithm()

    def name(self) -> str:
        """Return the id, public for ever."""
        return "dehazexl"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return _tr("Dehaze (DehazeXL)")

    def group(self) -> str:
        """Return the group in the toolbox."""
        return _tr("Haze removal")

    def groupId(self) -> str:
        """Return the group's id."""
        return "hazeremoval"

    def tags(self) -> list[str]:
        """Return words that find this algorithm."""
        words = _tr(
            "haze,dehaze,smog,smoke,mist,fog,thin cloud,cirrus,aerosol,atmosphere,atmospheric "
            "correction,airlight,transmission,visibility,contrast,restoration,deep learning,"
            "satellite,aerial,drone"
        )
        return words.split(",")

    def shortDescription(self) -> str:
        """Return one sentence for the tooltip."""
        return _tr("Removes haze and thin cloud veils from satellite, aerial and drone rasters.")

    def shortHelpString(self) -> str:
        """Return the help beside the dialog."""
        return _tr(
            "Removes haze, smoke and thin veils of cloud from a raster of any size.\n"
            "A neural network looks at the whole scene at once and estimates how thick the haze "
            "is at every place and what colour it has; the scattering of light is then computed "
            "back. Details come from your raster, nothing is invented: opaque cloud stays cloud, "
            "and a clear scene stays as it is.\n"
            "The output has the CRS, geotransform, data type, nodata value and bands of the "
            "input; pixels without data are untouched. Lower the strength for a gentler "
            "correction; the haze thickness raster shows how much was removed where.\n"
            "The work is done block by block in a process of its own. Cancel stops it within two "
            "seconds and keeps finished blocks: running again with the same parameters and output "
            "file continues there.\n"
            "Nothing is sent anywhere."
        )

    def helpUrl(self) -> str:
        """Return the address of the help page that comes with the plugin."""
        return QUrl.fromLocalFile(str(HELP_PAGE)).toString()

    def icon(self) -> QIcon:
        """Return the provider's icon."""
        return self.provider().icon() if self.provider() else super().icon()

    def svgIconPath(self) -> str:
        """Return the provider's icon file."""
        return self.provider().svgIconPath() if self.provider() else super().svgIconPath()

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Declare parameters and outputs."""
        for parameter in (
            p.hazy_raster(),
            p.model_bands(),
            p.extent(),
            p.model(MODELS),
            p.strength(),
            p.device(),
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

    def canExecute(self) -> tuple[bool, str]:
        """Return whether the engine is there, and if not, how to get it."""
        try:
            find_engine_python()
        except EngineMissingError as problem:
            return False, _for_reader(str(problem))
        return True, ""

    def checkParameterValues(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> tuple[bool, str]:
        """Return whether the values make sense together, and if not, why."""
        is_fine, message = super().checkParameterValues(parameters, context)
        if not is_fine:
            return is_fine, message
        complaint = self._complaint(parameters, context)
        return not complaint, complaint

    def _complaint(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        layer = self.parameterAsRasterLayer(parameters, p.INPUT, context)
        bands = self.parameterAsInts(parameters, p.BANDS, context)
        if len(bands) not in (0, 1, 3):
            return _tr(
                "{count} bands are chosen, expected three (red, green, blue), one, or none."
            ).format(count=len(bands))
        if layer and any(not 1 <= band <= layer.bandCount() for band in bands):
            return _tr("The bands {bands} are chosen, but the raster has {count}.").format(
                bands=", ".join(map(str, bands)), count=layer.bandCount()
            )
        return self._complaint_about_outputs(parameters, context, layer)

    def _complaint_about_outputs(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        layer: QgsRasterLayer | None,
    ) -> str:
        # Not parameterAsOutputLayer: that would already promise the layer to the project.
        outputs = [
            _real(self.parameterAsFileOutput(parameters, name, context))
            for name in (p.OUTPUT, p.THICKNESS)
            if parameters.get(name)
        ]
        for output in outputs:
            if not output.lower().endswith((".tif", ".tiff")):
                return _tr("The output {path} is no GeoTIFF; let its name end with .tif.").format(
                    path=output
                )
        if layer and _real(layer.source()) in outputs:
            return _tr("The output would overwrite the hazy raster; choose another file.")
        if len(set(outputs)) < len(outputs):
            return _tr("Dehazed raster and haze thickness have the same file; choose two.")
        return ""

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Copy what is needed of the layer, in the thread it lives in."""
        layer = self.parameterAsRasterLayer(parameters, p.INPUT, context)
        if layer is None:
            raise QgsProcessingException(self.invalidRasterError(parameters, p.INPUT))
        self._source = RasterSource.of(layer)
        return True

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Let the engine do the work; an empty result means cancelled."""
        settings = self._settings(parameters, context)
        try:
            report = run_task(find_engine_python(), "run", settings, feedback)
        except EngineCancelledError:
            if not settings["destination"].startswith(QgsProcessingUtils.tempFolder()):
                feedback.pushInfo(
                    _tr("Cancelled. Running again with the same output file continues from here.")
                )
            return {}
        except (EngineFailedError, EngineMissingError) as problem:
            raise QgsProcessingException(str(problem)) from problem
        self._dress_layers(context, settings)
        _announce(report, feedback)
        return self._results(report, settings)

    def _settings(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return the engine's settings as JSON values."""
        source = self._source
        if source is None:
            raise QgsProcessingException(self.invalidRasterError(parameters, p.INPUT))
        extent = self.parameterAsExtent(parameters, p.EXTENT, context, source.crs)
        thickness = self.parameterAsOutputLayer(parameters, p.THICKNESS, context)
        options = self.parameterAsString(parameters, p.CREATION_OPTIONS, context) or ""
        settings: dict[str, Any] = {
            "source": source.path,
            "destination": os.path.abspath(
                self.parameterAsOutputLayer(parameters, p.OUTPUT, context)
            ),
            "model": self.parameterAsEnumString(parameters, p.MODEL, context),
            "device": self.parameterAsEnumString(parameters, p.DEVICE, context),
            "strength": self.parameterAsDouble(parameters, p.STRENGTH, context) / 100.0,
            "bands": self.parameterAsInts(parameters, p.BANDS, context) or None,
            "extent": None if extent.isNull() else source.extent_values(extent),
            "thickness": os.path.abspath(thickness) if thickness else None,
            "creation_options": [text.strip() for text in options.split("|") if text.strip()],
        }
        for setting, name in (
            ("block_size", p.BLOCK_SIZE),
            ("memory_limit", p.MEMORY_LIMIT),
            ("threads", p.THREADS),
        ):
            is_given = parameters.get(name) not in (None, "")
            settings[setting] = self.parameterAsInt(parameters, name, context) if is_given else None
        return settings

    def _dress_layers(self, context: QgsProcessingContext, settings: dict[str, Any]) -> None:
        """Style layers, and name them after the input: those of a batch must be told apart."""
        source_name = self._source.name if self._source else ""
        for setting, template in (
            ("destination", _tr("{name} dehazed")),
            ("thickness", _tr("{name} haze thickness")),
        ):
            path = settings[setting]
            if path and context.willLoadLayerOnCompletion(path):
                details = context.layerToLoadOnCompletionDetails(path)
                details.name = template.format(name=source_name)
                if setting == "thickness":
                    details.setPostProcessor(DEFAULT_STYLE_LOADER)

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


def _announce(report: dict[str, Any], feedback: QgsProcessingFeedback) -> None:
    """Write the run's summary into the log."""
    feedback.pushInfo(
        _tr("{width} x {height} pixels in {seconds:.1f} s ({speed:.2f} Mpx/s) on {device}.").format(
            width=report["width"],
            height=report["height"],
            seconds=report["seconds"],
            speed=report["mpx_per_second"],
            device=report["device"],
        )
    )


def _for_reader(text: str) -> str:
    """Return `text` as the toolbox shows it (HTML), or as it is where there is no window."""
    return text if iface is None else html.escape(text).replace("\n", "<br>")


def _real(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def _tr(text: str) -> str:
    return QCoreApplication.translate("DehazeXLAlgorithm", text)
