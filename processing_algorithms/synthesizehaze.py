# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthesis: a clear raster in, the same raster with haze and the truth about it out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingFeedback
from qgis.PyQt.QtCore import QCoreApplication

from . import parameters as p
from . import synthesis_parameters as s
from .engine_algorithm import EngineAlgorithm, dress_thickness, name_layer
from .layer_style import HAZE_THICKNESS, put_style_beside
from .raster_source import RasterSource

RASTERS = (p.OUTPUT, p.THICKNESS, s.AIRLIGHT)
# Kind of haze -> the raster it needs.
NEEDED = {"texture": s.TEXTURE, "valley": s.DEM}


class SynthesizeHazeAlgorithm(EngineAlgorithm):
    """`dehaze:synthesizehaze`."""

    task = "synthesize"
    numbers = (
        "WIDTH",
        "HEIGHT",
        "VALID_FRACTION",
        "MEDIAN_THICKNESS",
        "MEAN_THICKNESS",
        "SECONDS",
        "MPX_PER_SECOND",
        "RESUMED_BLOCKS",
    )

    def __init__(self) -> None:
        super().__init__()
        self._companions: dict[str, str] = {}

    def name(self) -> str:
        """Return the id, public for ever."""
        return "synthesizehaze"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return _tr("Synthesize haze")

    def tags(self) -> list[str]:
        """Return words that find this algorithm."""
        words = _tr(
            "haze,synthesis,simulate,fog,valley fog,smoke,plume,cirrus,cloud,thin cloud,training "
            "data,test data,ground truth,airlight,transmission,atmosphere"
        )
        return words.split(",")

    def shortDescription(self) -> str:
        """Return one sentence for the tooltip."""
        return _tr("Puts haze of a known thickness and colour on a clear raster.")

    def shortHelpString(self) -> str:
        """Return the help beside the dialog."""
        return _tr(
            "Puts haze on a clear raster of any size, to train and to test haze removal where the "
            "truth is known.\n"
            "Light is scattered by the same model that haze removal computes backwards, in linear "
            "light: haze weakens the light of the ground and adds its own. Thickness and airlight "
            "can be written beside the hazy raster, and a JSON file with everything that was "
            "drawn.\n"
            "Haze is anchored in the world, not in the file: tiles of one pixel grid with the same "
            "seed, optical thickness and size of patches fit together.\n"
            "The output has the CRS, geotransform, data type, nodata value and bands of the "
            "input; pixels without data are untouched. The work is done block by block in a "
            "process of its own; Cancel stops it and keeps finished blocks for the next run."
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Declare parameters and outputs."""
        for parameter in (
            s.clear_raster(),
            s.hazed_bands(),
            s.kind(),
            s.level(),
            s.optical_thickness(),
            s.seed(),
            s.texture(),
            s.dem(),
            s.fog_base(),
            s.fog_depth(),
            s.wavelength(),
            s.wavelength_m(),
            s.alpha(),
            s.airlight_color(),
            s.airlight_variation(),
            s.adjacency(),
            s.shot_noise(),
            s.read_noise(),
            s.unrounded(),
            p.creation_options(),
            s.hazy_raster(),
            s.haze_thickness(),
            s.airlight(),
            s.truth(),
        ):
            self.addParameter(parameter)
        self.add_numbers()

    def complaint(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return why the values make no sense together; empty if they do."""
        kind = self.parameterAsEnumString(parameters, s.KIND, context)
        needed = NEEDED.get(kind)
        if needed is not None and not parameters.get(needed):
            return _tr("Haze of kind {kind} needs the parameter {name}.").format(
                kind=kind, name=self.parameterDefinition(needed).description()
            )
        if self._color(parameters, context) == []:
            return _tr("The airlight is not three numbers from 0 to 2, separated by commas.")
        if all(parameters.get(name) not in (None, "") for name in (s.WAVELENGTH, s.WAVELENGTH_M)):
            return _tr("The size of patches is given in pixels and in metres; give one of them.")
        return self.complaint_about_bands(parameters, context) or self.complaint_about_files(
            parameters, context, RASTERS, (p.INPUT, s.TEXTURE, s.DEM)
        )

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Copy what is needed of the layers, in the thread they live in."""
        is_ready = super().prepareAlgorithm(parameters, context, feedback)
        needed = NEEDED.get(self.parameterAsEnumString(parameters, s.KIND, context))
        if needed is not None:
            self._companions[needed] = self.source_of(parameters, needed, context).path
        return is_ready

    def settings(
        self, source: RasterSource, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return the engine's settings as JSON values."""
        truth = self.parameterAsFileOutput(parameters, s.TRUTH, context)
        settings: dict[str, Any] = {
            "source": source.path,
            "destination": self.output_path(parameters, p.OUTPUT, context),
            "thickness_output": self.output_path(parameters, p.THICKNESS, context),
            "airlight_output": self.output_path(parameters, s.AIRLIGHT, context),
            "truth_output": os.path.abspath(truth) if truth else None,
            "kind": self.parameterAsEnumString(parameters, s.KIND, context),
            "seed": self.parameterAsInt(parameters, s.SEED, context),
            "texture": self._companions.get(s.TEXTURE),
            "dem": self._companions.get(s.DEM),
            "airlight": self._color(parameters, context),
            "noise": [
                self.parameterAsDouble(parameters, name, context)
                for name in (s.SHOT_NOISE, s.READ_NOISE)
            ],
            "unrounded": self.parameterAsBool(parameters, s.UNROUNDED, context),
            "bands": self.parameterAsInts(parameters, p.BANDS, context) or None,
            "creation_options": self.creation_options(parameters, context),
        }
        for setting, name in (
            ("thickness", s.OPTICAL_THICKNESS),
            ("fog_base", s.FOG_BASE),
            ("wavelength", s.WAVELENGTH),
            ("wavelength_m", s.WAVELENGTH_M),
            ("alpha", s.ALPHA),
        ):
            settings[setting] = self.optional_number(parameters, name, context)
        for setting, name in (
            ("fog_depth", s.FOG_DEPTH),
            ("airlight_variation", s.AIRLIGHT_VARIATION),
            ("adjacency", s.ADJACENCY),
        ):
            settings[setting] = self.parameterAsDouble(parameters, name, context)
        if settings["thickness"] is None:
            settings["level"] = self.parameterAsEnumString(parameters, s.LEVEL, context)
        return settings

    def _color(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> list[float] | None:
        """Return the colour of the airlight; None if none is given, [] if it is none."""
        text = self.parameterAsString(parameters, s.AIRLIGHT_COLOR, context)
        if not text:
            return None
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            return []
        return numbers if len(numbers) == 3 and all(0 <= n <= 2 for n in numbers) else []

    def name_layers(
        self, name: str, context: QgsProcessingContext, settings: dict[str, Any]
    ) -> None:
        """Name the layers that will be loaded after the input, and style them."""
        name_layer(context, settings["destination"], _tr("{name} hazy").format(name=name))
        name_layer(context, settings["airlight_output"], _tr("{name} airlight").format(name=name))
        dress_thickness(context, settings["thickness_output"], name)

    def results(self, report: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs that are not numbers."""
        results: dict[str, Any] = {p.OUTPUT: settings["destination"]}
        for name, setting in (
            (p.THICKNESS, "thickness_output"),
            (s.AIRLIGHT, "airlight_output"),
            (s.TRUTH, "truth_output"),
        ):
            if settings[setting]:
                results[name] = settings[setting]
        if settings["thickness_output"]:
            put_style_beside(Path(settings["thickness_output"]), HAZE_THICKNESS)
        return results


def _tr(text: str) -> str:
    return QCoreApplication.translate("SynthesizeHazeAlgorithm", text)
