# SPDX-License-Identifier: GPL-3.0-or-later
"""A raster as a scene: frame (georeference and metadata), lazy pixels, validity, radiometry."""

from __future__ import annotations

from dehaze_core.scene.folders import (
    RASTER_SUFFIXES,
    manifest_rows,
    manifest_sites,
    raster_files,
)
from dehaze_core.scene.frame import Frame, Gcp
from dehaze_core.scene.gdal_source import GDAL_CACHE_MIB, GDAL_OPTIONS, gdal_cache_mib
from dehaze_core.scene.quantise import quantise
from dehaze_core.scene.radiometry import Radiometry
from dehaze_core.scene.scene import Scene, open_scene
from dehaze_core.scene.texture import read_texture

__all__ = [
    "GDAL_CACHE_MIB",
    "GDAL_OPTIONS",
    "RASTER_SUFFIXES",
    "Frame",
    "Gcp",
    "Radiometry",
    "Scene",
    "gdal_cache_mib",
    "manifest_rows",
    "manifest_sites",
    "open_scene",
    "quantise",
    "raster_files",
    "read_texture",
]
