# SPDX-License-Identifier: GPL-3.0-or-later
"""The tiles and overviews of an output: how many there must be, and whether all are there."""

from __future__ import annotations

from typing import Any

from dehaze_core.engine.output.cog_options import bytes_per_pixel, tile_side
from dehaze_core.scene.frame import Frame

_SMALLEST_OVERVIEW = 512
_REPORTED = 3


def overview_factors(frame: Frame) -> list[int]:
    """Return factors 2, 4, ... of the overviews: down to the first with no side above 512 px."""
    factors = []
    factor = 2
    while max(frame.width, frame.height) * 2 > _SMALLEST_OVERVIEW * factor:
        factors.append(factor)
        factor *= 2
    return factors


def raw_bytes(frame: Frame) -> int:
    """Return the bytes of all tiles, uncompressed, overviews included."""
    tile = tile_side(frame)
    tiles = 0
    for factor in (1, *overview_factors(frame)):
        rows, cols = _ceil(frame.height, factor), _ceil(frame.width, factor)
        tiles += _ceil(rows, tile) * _ceil(cols, tile)
    return tiles * tile * tile * bytes_per_pixel(frame)


def missing_tiles(dataset: Any, file_size: int) -> list[str]:  # noqa: ANN401 - rasterio is untyped
    """Return the places of tiles, overviews included, that are absent or reach beyond the file.

    Args:
        dataset: An open GeoTIFF.
        file_size: Its size in bytes.
    """
    found: list[str] = []
    block_rows, block_cols = dataset.block_shapes[0]
    # Not the factors that rasterio names: it divides widths, and those of a column do not shrink.
    factors = [2**step for step in range(len(dataset.overviews(1)) + 1)]
    for level, factor in enumerate(factors, start=-1):
        rows = _ceil(_ceil(dataset.height, factor), block_rows)
        cols = _ceil(_ceil(dataset.width, factor), block_cols)
        for row in range(rows):
            for col in range(cols):
                if not _is_there(dataset, level, row, col, file_size):
                    found.append(f"tile {row}, {col} of overview 1:{factor} is missing")
                    if len(found) >= _REPORTED:
                        return found
    return found


def _is_there(dataset: Any, level: int, row: int, col: int, file_size: int) -> bool:  # noqa: ANN401
    overview = {} if level < 0 else {"ovr": level}
    place = f"{col}_{row}"
    size = dataset.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=1, **overview)
    offset = dataset.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=1, **overview)
    return bool(size and offset) and 0 < int(offset) <= int(offset) + int(size) <= file_size


def _ceil(size: int, step: int) -> int:
    return -(-size // step)
