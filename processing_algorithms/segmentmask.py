# SPDX-License-Identifier: GPL-3.0-or-later
"""Segmentation: a raster in, a raster of segments out that guides haze removal."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext
from qgis.PyQt.QtCore import QCoreApplication

from . import parameters as p
from . import segmentation_parameters as s
from .engine_algorithm import EngineAlgorithm, name_layer
from .raster_source import RasterSource

LAYERS = (p.OUTPUT, s.LABELS, s.POLYGONS)


class SegmentMaskAlgorithm(EngineAlgorithm):
    """`dehaze:segmentmask`."""

    task = "segment"
    numbers = ("MASK_COUNT", "COVERAGE", "SECONDS")
    is_resumable = False

    def name(self) -> str:
        """Return the id, public for ever."""
        return "segmentmask"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return _tr("Segment raster (Segment Anything)")

    def tags(self) -> list[str]:
        """Return words that find this algorithm."""
        words = _tr(
            "segment,segmentation,segment anything,SAM,MobileSAM,superpixels,SLIC,felzenszwalb,"
            "mask,objects,OBIA,labels,polygons,haze,dehaze"
        )
        return words.split(",")

    def shortDescription(self) -> str:
        """Return one sentence for the tooltip."""
        return _tr(
            "Divides a raster into segments, with Segment Anything or a classical method, as a "
            "mask for SAM-guided haze removal."
        )

    def shortHelpString(self) -> str:
        """Return the help beside the dialog."""
        return _tr(
            "Divides a raster of any size into segments: fields, roofs, roads, water.\n"
            "The raster is scaled down and segmented as a whole, then in tiles of finer levels; "
            "segments of all tiles are merged, smaller ones on top of larger ones. Each segment "
            "has one code in the whole raster, and segments that touch have different codes.\n"
            "The mask guides Dehaze (SAM-guided); labels and polygons are for everything else.\n"
            "Segment Anything (mobile, small, middle, large) needs weights, which 'dehaze models "
            "fetch-sam mobile' downloads once; slic and felzenszwalb run without. What was "
            "segmented is remembered, so that the same again is quick.\n"
            "The work is done in a process of its own. Cancel stops it within two seconds and "
            "leaves no output. Nothing is sent anywhere."
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Declare parameters and outputs."""
        for parameter in (
            s.segmented_raster(),
            s.segmented_bands(),
            s.segmented_extent(),
            s.segmenter(),
            s.coding(),
            s.side(),
            s.tiles(),
            p.device(),
            p.threads(),
            s.codes(),
            s.labels(),
            s.polygons(),
        ):
            self.addParameter(parameter)
        self.add_numbers()

    def complaint(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return why the values make no sense together; empty if they do."""
        return self.complaint_about_bands(parameters, context) or self.complaint_about_files(
            parameters, context, LAYERS
        )

    def settings(
        self, source: RasterSource, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return the engine's settings as JSON values."""
        extent = self.parameterAsExtent(parameters, p.EXTENT, context, source.crs)
        threads = self.optional_number(parameters, p.THREADS, context)
        return {
            "source": source.path,
            "destination": self.output_path(parameters, p.OUTPUT, context),
            "labels": self.output_path(parameters, s.LABELS, context),
            "polygons": self.output_path(parameters, s.POLYGONS, context),
            "segmenter": self.parameterAsEnumString(parameters, s.SEGMENTER, context),
            "coding": self.parameterAsEnumString(parameters, s.CODING, context),
            "side": self.parameterAsInt(parameters, s.SIDE, context),
            "tiles": self.parameterAsInt(parameters, s.TILES, context),
            "bands": self.parameterAsInts(parameters, p.BANDS, context) or None,
            "extent": None if extent.isNull() else source.extent_values(extent),
            "device": self.parameterAsEnumString(parameters, p.DEVICE, context),
            "threads": None if threads is None else int(threads),
        }

    def name_layers(
        self, name: str, context: QgsProcessingContext, settings: dict[str, Any]
    ) -> None:
        """Name the layers that will be loaded after the input."""
        name_layer(context, settings["destination"], _tr("{name} mask").format(name=name))
        name_layer(context, settings["labels"], _tr("{name} labels").format(name=name))
        name_layer(context, settings["polygons"], _tr("{name} segments").format(name=name))

    def summary(self, report: dict[str, Any]) -> str:
        """Return what the log says of a finished run."""
        text = _tr(
            "Segments found by {segmenter}: {count}, on {share:.0%} of the pixels with data "
            "({width} x {height} pixels in {seconds:.1f} s on {device})."
        )
        return text.format(
            count=report["masks"],
            share=report["coverage"],
            width=report["width"],
            height=report["height"],
            segmenter=report["segmenter"],
            seconds=report["seconds"],
            device=report["device"],
        )

    def results(self, report: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs that are not numbers."""
        paths = {
            p.OUTPUT: settings["destination"],
            s.LABELS: settings["labels"],
            s.POLYGONS: settings["polygons"],
        }
        return {name: path for name, path in paths.items() if path}


def _tr(text: str) -> str:
    return QCoreApplication.translate("SegmentMaskAlgorithm", text)
