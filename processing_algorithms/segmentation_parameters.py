# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of segmentation, and of networks that segments guide."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingParameterDefinition,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterVectorDestination,
)
from qgis.PyQt.QtCore import QCoreApplication

from .compat import NUMBER_INTEGER, VECTOR_POLYGON
from .parameters import (
    INPUT,
    OUTPUT,
    advanced,
    choice,
    color_bands,
    optional_raster,
    part,
    with_help,
)

SEGMENTER = "SEGMENTER"
CODING = "CODING"
SIDE = "SIDE"
TILES = "TILES"
LABELS = "LABELS"
POLYGONS = "POLYGONS"
MASK = "MASK"
STRUCTURE = "STRUCTURE"

SEGMENTERS = ("mobile", "small", "middle", "large", "slic", "felzenszwalb")
CODINGS = ("paint", "paper_sum_clip", "paper_sum_wrap")
STRUCTURES = ("haze_mask", "dehaze_mask", "haze_gray")


def segmented_raster() -> QgsProcessingParameterDefinition:
    """Return the raster to be segmented."""
    return with_help(
        QgsProcessingParameterRasterLayer(INPUT, _tr("Raster")),
        _tr(
            "A raster file of any size with 8-bit, 16-bit or floating point values. Pixels without "
            "data belong to no segment."
        ),
    )


def segmented_bands() -> QgsProcessingParameterDefinition:
    """Return the choice of the bands that the segmenter looks at."""
    return color_bands(
        _tr(
            "Three bands in the order red, green, blue, or one band of a panchromatic raster. If "
            "empty, they are found by their colour interpretation, else the first three are taken."
        )
    )


def segmented_extent() -> QgsProcessingParameterDefinition:
    """Return the part of the raster to be segmented."""
    return part(
        _tr(
            "Segment only this part, in any CRS. It grows outwards to whole pixels; the outputs "
            "cover this part."
        )
    )


def segmenter() -> QgsProcessingParameterDefinition:
    """Return the choice of what finds segments."""
    return with_help(
        choice(SEGMENTER, _tr("Segmenter"), SEGMENTERS, SEGMENTERS[0]),
        _tr(
            "What finds segments. mobile (MobileSAM), small, middle and large are Segment Anything "
            "with an image encoder of growing size; they need the extra 'sam' of the engine's "
            "environment and weights, which 'dehaze models fetch-sam' downloads or 'dehaze models "
            "import-sam' takes from a file. slic and felzenszwalb are classical methods that "
            "need no weights and know no objects, only edges and colours."
        ),
    )


def coding() -> QgsProcessingParameterDefinition:
    """Return how segments become codes."""
    return advanced(
        choice(CODING, _tr("Coding"), CODINGS, CODINGS[0]),
        _tr(
            "How segments become codes from 1 to 255. paint gives each pixel the code of the "
            "smallest segment around it, and segments that touch get different codes. "
            "paper_sum_clip and paper_sum_wrap add the codes of overlapping segments as "
            "published, and cut sums to 0 to 255 or take them modulo 256."
        ),
    )


def side() -> QgsProcessingParameterDefinition:
    """Return the size of the picture that is segmented."""
    return with_help(
        QgsProcessingParameterNumber(
            SIDE, _tr("Longest side [pixels]"), NUMBER_INTEGER, 1024, False, 256, 4096
        ),
        _tr(
            "The raster is scaled down to this longest side before it is segmented, and the "
            "outputs have this resolution; a smaller raster stays as it is. Larger finds smaller "
            "segments and takes longer: Segment Anything needs minutes for each tile on a CPU."
        ),
    )


def tiles() -> QgsProcessingParameterDefinition:
    """Return how many tiles may be segmented."""
    return advanced(
        QgsProcessingParameterNumber(
            TILES, _tr("Most tiles"), NUMBER_INTEGER, 64, False, 1, 100_000
        ),
        _tr(
            "Segment Anything looks at tiles of at most 1024 pixels: first at the whole picture "
            "scaled down, then at finer levels with more tiles, as long as all tiles of a level "
            "are within this number."
        ),
    )


def codes() -> QgsProcessingParameterDefinition:
    """Return the destination of the codes."""
    return with_help(
        QgsProcessingParameterRasterDestination(OUTPUT, _tr("Mask")),
        _tr(
            "GeoTIFF with the code of the segment of each pixel, one 8-bit band, 0 where there is "
            "no segment: what Dehaze (SAM-guided) takes as its mask."
        ),
    )


def labels() -> QgsProcessingParameterDefinition:
    """Return the optional destination of the labels."""
    return optional_raster(
        LABELS,
        _tr("Labels"),
        _tr("GeoTIFF with the number of the segment of each pixel from 1, one 32-bit band."),
    )


def polygons() -> QgsProcessingParameterDefinition:
    """Return the optional destination of the polygons."""
    return with_help(
        QgsProcessingParameterVectorDestination(
            POLYGONS, _tr("Polygons"), VECTOR_POLYGON, optional=True, createByDefault=False
        ),
        _tr(
            "GeoPackage with the outline, label, code, area and score of every segment, in the CRS "
            "of the raster. It needs the extra 'vectors' of the engine's environment."
        ),
    )


def mask() -> QgsProcessingParameterDefinition:
    """Return the optional raster of segments that guides the network."""
    return with_help(
        QgsProcessingParameterRasterLayer(
            MASK, _tr("Mask (empty = segment the raster)"), optional=True
        ),
        _tr(
            "A raster with one band that says which segment each pixel belongs to: the output of "
            "Segment raster, or any classification. It may have another resolution, but needs the "
            "CRS of the raster. 8-bit values are taken as codes, wider ones as labels. A mask is "
            "used as it is, with the structure haze_mask. If empty, the segmenter makes one."
        ),
    )


def structure() -> QgsProcessingParameterDefinition:
    """Return what the network gets beside the bands."""
    return with_help(
        choice(STRUCTURE, _tr("Structure"), STRUCTURES, STRUCTURES[0]),
        _tr(
            "What guides the network. haze_mask: segments of the hazy raster. dehaze_mask: "
            "segments of the raster dehazed once before, which takes longer and finds more under "
            "thick haze. haze_gray: no segments, the mean of the bands, for comparison."
        ),
    )


def _tr(text: str) -> str:
    return QCoreApplication.translate("SegmentationParameters", text)
