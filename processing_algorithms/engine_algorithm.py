# SPDX-License-Identifier: GPL-3.0-or-later
"""What all algorithms share that let the engine do the work."""

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
    QgsProcessingUtils,
)
from qgis.PyQt.QtCore import QCoreApplication, QUrl
from qgis.PyQt.QtGui import QIcon
from qgis.utils import iface

from . import parameters as p
from .engine_client import EngineCancelledError, EngineFailedError, run_task
from .engine_environment import EngineMissingError, find_engine_python
from .layer_style import DEFAULT_STYLE_LOADER
from .raster_source import RasterSource

HELP_PAGES = Path(__file__).with_name("help")

# Output -> (key of the engine's report, description).
NUMBERS = {
    "WIDTH": ("width", "Width of the output in pixels"),
    "HEIGHT": ("height", "Height of the output in pixels"),
    "VALID_FRACTION": ("valid_fraction", "Share of pixels with data, 0 to 1"),
    "MEDIAN_THICKNESS": ("median_thickness", "Median optical thickness before terrain"),
    "MEAN_THICKNESS": ("mean_thickness", "Mean optical thickness of the haze at 550 nm"),
    "MEAN_TRANSMISSION": ("mean_transmission", "Mean transmission of the haze, 0 to 1"),
    "SECONDS": ("seconds", "Duration in seconds"),
    "MPX_PER_SECOND": ("mpx_per_second", "Speed in megapixels per second"),
    "RESUMED_BLOCKS": ("resumed_blocks", "Blocks taken over from an interrupted run"),
    "MASK_COUNT": ("masks", "Number of segments"),
    "COVERAGE": ("coverage", "Share of pixels with data that lie in a segment, 0 to 1"),
}

# Type of a destination -> (format the engine writes, endings of its name).
FORMATS = {
    "rasterDestination": ("GeoTIFF", (".tif", ".tiff")),
    "vectorDestination": ("GeoPackage", (".gpkg",)),
}


class EngineAlgorithm(QgsProcessingAlgorithm):
    """An algorithm of the group that hands its parameters to the engine as a task.

    Attributes:
        task: The task of the protocol.
        numbers: Outputs out of `NUMBERS`, in the order of their declaration.
        is_resumable: Whether a run goes on where one with the same output file was cancelled.
    """

    task = ""
    numbers: tuple[str, ...] = ()
    is_resumable = True

    def __init__(self) -> None:
        super().__init__()
        self._source: RasterSource | None = None

    def createInstance(self) -> EngineAlgorithm:
        """Return a fresh algorithm."""
        return type(self)()

    def group(self) -> str:
        """Return the group in the toolbox."""
        return _tr("Haze removal")

    def groupId(self) -> str:
        """Return the group's id."""
        return "hazeremoval"

    def helpUrl(self) -> str:
        """Return the address of the help page that comes with the plugin."""
        return QUrl.fromLocalFile(str(HELP_PAGES / f"{self.name()}.html")).toString()

    def icon(self) -> QIcon:
        """Return the provider's icon."""
        return self.provider().icon() if self.provider() else super().icon()

    def svgIconPath(self) -> str:
        """Return the provider's icon file."""
        return self.provider().svgIconPath() if self.provider() else super().svgIconPath()

    def canExecute(self) -> tuple[bool, str]:
        """Return whether the engine is there, and if not, how to get it."""
        try:
            find_engine_python()
        except EngineMissingError as problem:
            return False, _for_reader(str(problem))
        return True, ""

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
        source = self._source
        if source is None:
            raise QgsProcessingException(self.invalidRasterError(parameters, p.INPUT))
        settings = self.settings(source, parameters, context)
        report = self.ask_engine(self.task, settings, feedback)
        if report is None:
            return {}
        self.name_layers(source.name, context, settings)
        feedback.pushInfo(self.summary(report))
        reported = ((name, report.get(NUMBERS[name][0])) for name in self.numbers)
        numbers = {name: value for name, value in reported if value is not None}
        return {**self.results(report, settings), **numbers}

    def settings(
        self, source: RasterSource, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return the engine's settings as JSON values, `destination` among them."""
        raise NotImplementedError

    def name_layers(
        self, name: str, context: QgsProcessingContext, settings: dict[str, Any]
    ) -> None:
        """Name the layers that will be loaded after the input, and style them."""
        raise NotImplementedError

    def results(self, report: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs that are not numbers."""
        raise NotImplementedError

    def summary(self, report: dict[str, Any]) -> str:
        """Return what the log says of a finished run."""
        return _tr(
            "{width} x {height} pixels in {seconds:.1f} s ({speed:.2f} Mpx/s) on {device}."
        ).format(
            width=report["width"],
            height=report["height"],
            seconds=report["seconds"],
            speed=report["mpx_per_second"],
            device=report.get("device", "CPU"),
        )

    def add_numbers(self) -> None:
        """Declare the outputs that are numbers."""
        for name in self.numbers:
            self.addOutput(QgsProcessingOutputNumber(name, _tr(NUMBERS[name][1])))

    def ask_engine(
        self, task: str, settings: dict[str, Any], feedback: QgsProcessingFeedback
    ) -> dict[str, Any] | None:
        """Let the engine do a task and return its report; None if the user cancelled.

        Args:
            task: A task of the protocol.
            settings: JSON values, `destination` among them.
            feedback: Receives progress and log.

        Raises:
            QgsProcessingException: The engine is missing or could not do it.
        """
        try:
            return run_task(find_engine_python(), task, settings, feedback)
        except EngineCancelledError:
            is_kept = not settings["destination"].startswith(QgsProcessingUtils.tempFolder())
            if self.is_resumable and is_kept:
                feedback.pushInfo(
                    _tr("Cancelled. Running again with the same output file continues from here.")
                )
            return None
        except (EngineFailedError, EngineMissingError) as problem:
            raise QgsProcessingException(str(problem)) from problem

    def checkParameterValues(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> tuple[bool, str]:
        """Return whether the values make sense together, and if not, why."""
        is_fine, message = super().checkParameterValues(parameters, context)
        if not is_fine:
            return is_fine, message
        complaint = self.complaint(parameters, context)
        return not complaint, complaint

    def complaint(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return why values that are fine one by one make no sense together; empty if they do."""
        raise NotImplementedError

    def complaint_about_bands(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> str:
        """Return what is wrong with the choice of bands; empty if nothing is."""
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
        return ""

    def complaint_about_files(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        outputs: tuple[str, ...],
        inputs: tuple[str, ...] = (p.INPUT,),
    ) -> str:
        """Return what is wrong with the files of layer outputs; empty if nothing is.

        Args:
            parameters: Values of all parameters.
            context: Of the run.
            outputs: Parameters that are destinations of rasters or vector layers.
            inputs: Parameters that are raster layers.
        """
        # Not parameterAsOutputLayer: that would already promise the layer to the project.
        paths = []
        for name in outputs:
            if not parameters.get(name):
                continue
            path = _real(self.parameterAsFileOutput(parameters, name, context))
            kind, endings = FORMATS[self.parameterDefinition(name).type()]
            if not path.lower().endswith(endings):
                return _tr(
                    "The output {path} is no {kind}; let its name end with {ending}."
                ).format(path=path, kind=kind, ending=endings[0])
            paths.append(path)
        layers = [self.parameterAsRasterLayer(parameters, name, context) for name in inputs]
        if any(layer and _real(layer.source()) in paths for layer in layers):
            return _tr("An output would overwrite an input raster; choose another file.")
        if len(set(paths)) < len(paths):
            return _tr("Two outputs have the same file; choose different ones.")
        return ""

    def source_of(
        self, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> RasterSource:
        """Copy what is needed of a layer; call it in the thread the layer lives in.

        Raises:
            QgsProcessingException: There is no layer, or none that the engine could open.
        """
        layer = self.parameterAsRasterLayer(parameters, name, context)
        if layer is None:
            raise QgsProcessingException(self.invalidRasterError(parameters, name))
        return RasterSource.of(layer)

    def output_path(
        self, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> str | None:
        """Return the absolute path of a layer's destination; None if it is not wanted."""
        path = self.parameterAsOutputLayer(parameters, name, context)
        return os.path.abspath(path) if path else None

    def optional_number(
        self, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> float | None:
        """Return a number, or None if none was given."""
        is_given = parameters.get(name) not in (None, "")
        return self.parameterAsDouble(parameters, name, context) if is_given else None

    def creation_options(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> list[str]:
        """Return the creation options one by one."""
        options = self.parameterAsString(parameters, p.CREATION_OPTIONS, context) or ""
        return [text.strip() for text in options.split("|") if text.strip()]


def name_layer(context: QgsProcessingContext, path: str | None, name: str) -> Any | None:  # noqa: ANN401
    """Name the layer of an output that will be loaded: those of a batch must be told apart.

    Returns:
        The details of the layer, or None if it will not be loaded.
    """
    if not path or not context.willLoadLayerOnCompletion(path):
        return None
    details = context.layerToLoadOnCompletionDetails(path)
    details.name = name
    return details


def dress_thickness(context: QgsProcessingContext, path: str | None, name: str) -> None:
    """Name and style the layer of the haze thickness of an input of that name."""
    haze = name_layer(context, path, _tr("{name} haze thickness").format(name=name))
    if haze is not None:
        haze.setPostProcessor(DEFAULT_STYLE_LOADER)


def _for_reader(text: str) -> str:
    """Return `text` as the toolbox shows it (HTML), or as it is where there is no window."""
    return text if iface is None else html.escape(text).replace("\n", "<br>")


def _real(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def _tr(text: str) -> str:
    return QCoreApplication.translate("EngineAlgorithm", text)
