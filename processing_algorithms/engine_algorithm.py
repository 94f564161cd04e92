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
    QgsProcessingUtils,
)
from qgis.PyQt.QtCore import QCoreApplication, QUrl
from qgis.PyQt.QtGui import QIcon
from qgis.utils import iface

from . import parameters as p
from .engine_client import EngineCancelledError, EngineFailedError, run_task
from .engine_environment import EngineMissingError, find_engine_python
from .raster_source import RasterSource

HELP_PAGES = Path(__file__).with_name("help")


class EngineAlgorithm(QgsProcessingAlgorithm):
    """An algorithm of the group that hands its parameters to the engine as a task."""

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
            if not settings["destination"].startswith(QgsProcessingUtils.tempFolder()):
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
        """Return what is wrong with the files of raster outputs; empty if nothing is.

        Args:
            parameters: Values of all parameters.
            context: Of the run.
            outputs: Parameters that are raster destinations.
            inputs: Parameters that are raster layers.
        """
        # Not parameterAsOutputLayer: that would already promise the layer to the project.
        paths = [
            _real(self.parameterAsFileOutput(parameters, name, context))
            for name in outputs
            if parameters.get(name)
        ]
        for path in paths:
            if not path.lower().endswith((".tif", ".tiff")):
                return _tr("The output {path} is no GeoTIFF; let its name end with .tif.").format(
                    path=path
                )
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
        """Return the absolute path of a raster destination; None if it is not wanted."""
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


def announce(report: dict[str, Any], device: str, feedback: QgsProcessingFeedback) -> None:
    """Write the summary of a report into the log."""
    feedback.pushInfo(
        _tr("{width} x {height} pixels in {seconds:.1f} s ({speed:.2f} Mpx/s) on {device}.").format(
            width=report["width"],
            height=report["height"],
            seconds=report["seconds"],
            speed=report["mpx_per_second"],
            device=device,
        )
    )


def _for_reader(text: str) -> str:
    """Return `text` as the toolbox shows it (HTML), or as it is where there is no window."""
    return text if iface is None else html.escape(text).replace("\n", "<br>")


def _real(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def _tr(text: str) -> str:
    return QCoreApplication.translate("EngineAlgorithm", text)
