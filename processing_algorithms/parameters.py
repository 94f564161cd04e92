# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters that several algorithms share: same name, same meaning, same help everywhere."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingParameterBand,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtCore import QCoreApplication

from .compat import FLAG_ADVANCED, NUMBER_DOUBLE, NUMBER_INTEGER

INPUT = "INPUT"
BANDS = "BANDS"
EXTENT = "EXTENT"
MODEL = "MODEL"
STRENGTH = "STRENGTH"
DEVICE = "DEVICE"
CONTEXT = "CONTEXT"
BACKEND = "BACKEND"
BLOCK_SIZE = "BLOCK_SIZE"
MEMORY_LIMIT = "MEMORY_LIMIT"
THREADS = "THREADS"
CREATION_OPTIONS = "CREATION_OPTIONS"
OUTPUT = "OUTPUT"
THICKNESS = "THICKNESS"

DEVICES = ("auto", "cpu", "cuda")
CONTEXTS = ("auto", "exact", "bounded", "hyper")
BACKENDS = ("auto", "torch", "onnxruntime")


def hazy_raster() -> QgsProcessingParameterDefinition:
    """Return the raster to be dehazed."""
    return with_help(
        QgsProcessingParameterRasterLayer(INPUT, _tr("Hazy raster")),
        _tr(
            "A raster file of any size with 8-bit, 16-bit or floating point values. Nodata, masks "
            "and alpha are respected."
        ),
    )


def model_bands() -> QgsProcessingParameterDefinition:
    """Return the choice of the bands that the network looks at."""
    return color_bands(
        _tr(
            "Three bands in the order red, green, blue, or one band of a panchromatic raster. If "
            "empty, they are found by their colour interpretation, else the first three are "
            "taken. Other bands of known wavelength, near infrared for example, are dehazed along "
            "with them; the rest is copied."
        )
    )


def extent() -> QgsProcessingParameterDefinition:
    """Return the part of the raster to be dehazed."""
    return part(
        _tr(
            "Dehaze only this part, in any CRS. It grows outwards to whole pixels; the output has "
            "the size of this part."
        )
    )


def model(names: tuple[str, ...], text: str) -> QgsProcessingParameterDefinition:
    """Return the choice of one of the models `names`, with its help; the first is the default."""
    return with_help(choice(MODEL, _tr("Model"), names, names[0]), text)


def strength() -> QgsProcessingParameterDefinition:
    """Return how much of the haze goes, in percent."""
    parameter = QgsProcessingParameterNumber(
        STRENGTH,
        _tr("Strength [%]"),
        type=NUMBER_DOUBLE,
        defaultValue=100.0,
        minValue=0.0,
        maxValue=150.0,
    )
    parameter.setMetadata({"widget_wrapper": {"decimals": 1}})
    return with_help(
        parameter,
        _tr(
            "Share of the estimated haze that is removed: 0 changes nothing, 100 removes what the "
            "network sees, less keeps a natural aerial perspective, more is for stubborn haze."
        ),
    )


def device() -> QgsProcessingParameterDefinition:
    """Return the choice of the processor."""
    return with_help(
        choice(DEVICE, _tr("Device"), DEVICES, DEVICES[0]),
        _tr("auto takes an NVIDIA GPU (cuda) if the engine can use one, else the CPU."),
    )


def global_context() -> QgsProcessingParameterDefinition:
    """Return how every place learns of the whole scene."""
    return advanced(
        choice(CONTEXT, _tr("Global context"), CONTEXTS, CONTEXTS[0]),
        _tr(
            "How every place learns of the whole scene. auto is exact for scenes of moderate size "
            "and bounded (a coarser view of far places) for larger ones; exact can take very long; "
            "hyper is the approximation that DehazeXL was published with."
        ),
    )


def backend() -> QgsProcessingParameterDefinition:
    """Return the choice of the library that computes the network."""
    return advanced(
        choice(BACKEND, _tr("Backend"), BACKENDS, BACKENDS[0]),
        _tr(
            "The library that computes the network: torch (PyTorch) or onnxruntime (ONNX Runtime); "
            "auto leaves the choice to the engine. The result is the same within 1 DN. onnxruntime "
            "needs the extra 'onnx' of the engine's environment."
        ),
    )


def block_size() -> QgsProcessingParameterDefinition:
    """Return the side of the blocks in pixels."""
    return advanced(
        QgsProcessingParameterNumber(
            BLOCK_SIZE, _tr("Block size [pixels]"), NUMBER_INTEGER, None, True, 64, 16384
        ),
        _tr(
            "Side of the blocks the raster is worked through in. Does not change the result, only "
            "memory and speed. If empty, it is chosen to fit the memory."
        ),
    )


def memory_limit() -> QgsProcessingParameterDefinition:
    """Return the memory the engine may plan with, in MiB."""
    return advanced(
        QgsProcessingParameterNumber(
            MEMORY_LIMIT, _tr("Memory limit [MiB]"), NUMBER_INTEGER, None, True, 1024
        ),
        _tr("Memory the engine may use. If empty, a share of what is free when it starts."),
    )


def threads() -> QgsProcessingParameterDefinition:
    """Return the number of processor threads."""
    return advanced(
        QgsProcessingParameterNumber(THREADS, _tr("Threads"), NUMBER_INTEGER, None, True, 1, 1024),
        _tr("Processor threads. If empty, all. Does not change the result."),
    )


def creation_options() -> QgsProcessingParameterDefinition:
    """Return options for GDAL's driver for cloud-optimised GeoTIFF."""
    return advanced(
        QgsProcessingParameterString(
            CREATION_OPTIONS, _tr("Creation options"), defaultValue="", optional=True
        ),
        _tr(
            "Options of GDAL's COG driver as KEY=VALUE, separated by |, for example "
            "COMPRESS=ZSTD|LEVEL=12. If empty, lossless DEFLATE."
        ),
    )


def dehazed_raster() -> QgsProcessingParameterDefinition:
    """Return the destination of the dehazed raster."""
    return with_help(
        QgsProcessingParameterRasterDestination(OUTPUT, _tr("Dehazed")),
        _tr(
            "Cloud-optimised GeoTIFF with the CRS, geotransform, data type, nodata and bands of "
            "the input. It appears under its name only when it is complete."
        ),
    )


def haze_thickness() -> QgsProcessingParameterDefinition:
    """Return the optional destination of the haze thickness."""
    return optional_raster(
        THICKNESS,
        _tr("Haze thickness"),
        _tr(
            "Optical thickness of the haze at 550 nm (0 = clear, 1 = 37 % of the ground's light "
            "gets through), one 32-bit band."
        ),
    )


def with_help(
    parameter: QgsProcessingParameterDefinition, text: str
) -> QgsProcessingParameterDefinition:
    """Return a parameter with its help."""
    parameter.setHelp(text)
    return parameter


def color_bands(text: str) -> QgsProcessingParameterDefinition:
    """Return the choice of red, green and blue of the input, with its help."""
    return with_help(
        QgsProcessingParameterBand(
            BANDS,
            _tr("Red, green and blue band (empty = found automatically)"),
            parentLayerParameterName=INPUT,
            optional=True,
            allowMultiple=True,
        ),
        text,
    )


def part(text: str) -> QgsProcessingParameterDefinition:
    """Return the choice of a part of the input, with its help."""
    return with_help(
        QgsProcessingParameterExtent(EXTENT, _tr("Extent (empty = whole raster)"), optional=True),
        text,
    )


def optional_raster(name: str, description: str, text: str) -> QgsProcessingParameterDefinition:
    """Return the destination of a raster that is only made when asked for, with its help."""
    return with_help(
        QgsProcessingParameterRasterDestination(
            name, description, optional=True, createByDefault=False
        ),
        text,
    )


def choice(
    name: str, description: str, values: tuple[str, ...], default: str
) -> QgsProcessingParameterEnum:
    """Return a parameter whose value is one of some words."""
    return QgsProcessingParameterEnum(
        name, description, options=list(values), defaultValue=default, usesStaticStrings=True
    )


def advanced(
    parameter: QgsProcessingParameterDefinition, text: str
) -> QgsProcessingParameterDefinition:
    """Return a parameter with its help that is shown among the advanced ones."""
    parameter.setFlags(parameter.flags() | FLAG_ADVANCED)
    return with_help(parameter, text)


def _tr(text: str) -> str:
    return QCoreApplication.translate("DehazeParameters", text)
