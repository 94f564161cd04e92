# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasters for benchmarks: procedural ground under procedural haze, of any size.

They are made in a process of their own, whose memory is no part of what a benchmark measures.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from dehaze_core.haze.noise import fractal_noise
from dehaze_core.haze.synthesis import HazeRecipe, add_haze
from dehaze_core.scene.srgb import encode_uint8

PROFILE = {
    "driver": "GTiff",
    "count": 3,
    "dtype": "uint8",
    "crs": "EPSG:32633",
    "transform": from_origin(400_000, 5_600_000, 0.5, 0.5),
    "tiled": True,
    "blockxsize": 512,
    "blockysize": 512,
    "compress": "deflate",
    "zlevel": 1,
    "predictor": 2,
    "photometric": "rgb",
}


def hazy_tile(side: int, seed: int = 1) -> NDArray[np.uint8]:
    """Return a hazy picture (3, side, side) uint8 with texture at all scales."""
    rng = np.random.default_rng(seed)
    rows, cols = np.meshgrid(np.arange(side) / 300.0, np.arange(side) / 300.0, indexing="ij")
    ground = fractal_noise(rows, cols, seed, 7)
    clear = np.stack([0.12 + 0.06 * ground + 0.03 * band for band in rng.standard_normal(3)])
    clear = np.clip(clear + 0.01 * rng.standard_normal((3, side, side)), 0.01, 1).astype(np.float32)
    recipe = HazeRecipe(kind="patchy", thickness=0.6, wavelength=side / 2, seed=seed)
    return encode_uint8(add_haze(clear, recipe).hazy)


def write_tiled(path: Path, side: int) -> None:
    """Write a square tiled GeoTIFF: one hazy tile of 2,000 px, repeated."""
    _elsewhere(_write_tiled, path, side)


def write_virtual(path: Path, side: int) -> None:
    """Write a virtual raster of any size that repeats one stored tile of 2,000 px beside it."""
    _elsewhere(_write_virtual, path, side)


def _elsewhere(write: Callable[[Path, int], None], path: Path, side: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=write, args=(path, side))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def _write_tiled(path: Path, side: int) -> None:
    tile = hazy_tile(2000)
    with rasterio.open(path, "w", width=side, height=side, **PROFILE) as out:
        for row in range(0, side, 2000):
            strip = np.concatenate([tile] * -(-side // 2000), axis=2)[:, : side - row, :side]
            out.write(strip, window=((row, min(row + 2000, side)), (0, side)))


def _write_virtual(path: Path, side: int) -> None:
    tile_path = path.with_suffix(".tile.tif")
    tile = hazy_tile(2000)
    with rasterio.open(tile_path, "w", width=2000, height=2000, **PROFILE) as out:
        out.write(tile)
    bands = "".join(_virtual_band(band, tile_path, side) for band in (1, 2, 3))
    transform = ", ".join(str(v) for v in PROFILE["transform"].to_gdal())
    path.write_text(
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>{transform}</GeoTransform>{bands}</VRTDataset>",
        encoding="utf-8",
    )


def _virtual_band(band: int, tile: Path, side: int) -> str:
    color = ("Red", "Green", "Blue")[band - 1]
    sources = []
    for row in range(0, side, 2000):
        for col in range(0, side, 2000):
            height, width = min(2000, side - row), min(2000, side - col)
            sources.append(
                '<SimpleSource><SourceFilename relativeToVRT="0">'
                f"{escape(str(tile))}</SourceFilename>"
                f"<SourceBand>{band}</SourceBand>"
                f'<SourceProperties RasterXSize="2000" RasterYSize="2000" DataType="Byte" '
                f'BlockXSize="512" BlockYSize="512"/>'
                f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
                f'<DstRect xOff="{col}" yOff="{row}" xSize="{width}" ySize="{height}"/>'
                "</SimpleSource>"
            )
    return (
        f'<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{color}</ColorInterp>'
        f"{''.join(sources)}</VRTRasterBand>"
    )
