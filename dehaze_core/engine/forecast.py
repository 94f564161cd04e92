# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run will need of memory and disk, forecast before it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import torch

from dehaze_core.engine.output.formats import output_format
from dehaze_core.engine.settings import RunSettings
from dehaze_core.grid import BlockGrid
from dehaze_core.models.streaming import TOKEN_PX, OverviewNetwork, StreamedNetwork
from dehaze_core.scene import GDAL_CACHE_MIB, Frame, gdal_cache_mib

DEFAULT_MEMORY_MIB = 1500
"""Memory a run takes at most, unless told otherwise or the smallest blocks need more; larger blocks
gain little."""

PROCESS_MIB = 400
"""Python, PyTorch, GDAL with its usual cache.

Fitted, as the footprint of the networks, to the peaks that `python -m benchmarks.speed file --block
N` prints.
"""

FINAL_MIB = 420
"""Writing and checking the final file, when no block is in memory."""

DEVICE_MIB = 570
"""Libraries and context on a CUDA device."""

TOKEN_COPIES = 4
"""A token with its weight as read, put in order, embedded and written."""

SUM_BYTES = 13 * 8
"""Sums over the pixels of a token, from which the haze of painted pixels is fitted."""

OVERVIEWS = 4 / 3
"""Size of a raster with all its overviews, relative to the raster."""

MIB = 2**20


def memory_mib(frame: Frame, size: int, network: StreamedNetwork) -> int:
    """Return the peak memory of a run with blocks of `size` px, in MiB."""
    # A block being read, one in work with its result, one being written.
    stored = 4 * frame.count * np.dtype(frame.dtype).itemsize
    blocks = _outer_px(frame, size, network) * (network.footprint.bytes_per_px + stored)
    # The context step reads tokens in rows of blocks, when no block is in memory.
    rows = min(size, frame.height) / TOKEN_PX
    token_bytes = TOKEN_COPIES * 4 * (network.token_width + 1)
    tokens = (rows + 1) * (frame.width / TOKEN_PX + 1) * token_bytes
    # And so is the overview looked at.
    overview = _overview_px(frame, network) * network.footprint.bytes_per_px
    fixed = PROCESS_MIB + network.footprint.fixed_mib + gdal_cache_mib(frame) - GDAL_CACHE_MIB
    return fixed + max(FINAL_MIB, int(max(blocks, tokens, overview) / MIB))


def device_mib(frame: Frame, size: int, network: StreamedNetwork) -> int:
    """Return the peak memory on a CUDA device, in MiB."""
    footprint = network.footprint
    pixels = max(_outer_px(frame, size, network), _overview_px(frame, network))
    return DEVICE_MIB + footprint.fixed_mib + int(pixels * footprint.bytes_per_px / MIB)


def memory_to_use_mib(settings: RunSettings, least: int) -> int:
    """Return the memory a run may take, in MiB: the user's limit, but not more than is free.

    Args:
        settings: With the user's limit.
        least: What the run needs at least, MiB: a large network needs more than the default.
    """
    free = int(psutil.virtual_memory().available / MIB)
    if settings.memory_limit is not None:
        return min(settings.memory_limit, free)
    # Who asks for a block size asks for the memory it takes.
    if settings.block_size is not None:
        return free
    return min(max(DEFAULT_MEMORY_MIB, least), int(0.6 * free))


def device_memory_to_use_mib(device: torch.device) -> int | None:
    """Return the free memory of a CUDA device in MiB; None for the CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) // MIB


def disk_mib(
    frame: Frame,
    grid: BlockGrid,
    network: StreamedNetwork,
    settings: RunSettings,
    scratch: int,
) -> dict[str, int]:
    """Return the disk space taken by each stage beside the output, in MiB.

    Args:
        frame: Frame of the output.
        grid: Its blocks.
        network: The network.
        settings: Which outputs are wanted.
        scratch: Bytes that the context needs beside the states of the tokens.
    """
    cells = grid.cell_rows * grid.cell_cols
    tokens = cells * (network.token_width + 1) * 4 if network.token_width else 0
    pixels = frame.width * frame.height
    raster = pixels * frame.count * np.dtype(frame.dtype).itemsize
    layers = [raster] if settings.thickness is None else [raster, pixels * 4]
    stores = raster + cells * SUM_BYTES if network.paints else sum(layers)
    # At worst nothing can be compressed.
    files = sum(layers) * OVERVIEWS
    if output_format(Path(settings.destination), settings.format) == "cog":
        # Made from an uncompressed copy, one layer after the other.
        files += max(layers) * OVERVIEWS
    stages = {
        "looking at the scene": tokens,
        "global context": 3 * tokens + scratch,
        "removing haze": 2 * tokens + stores,
        "writing the output": 2 * tokens + stores + files,
    }
    return {stage: int(size / MIB) + 1 for stage, size in stages.items()}


def _outer_px(frame: Frame, size: int, network: StreamedNetwork) -> int:
    outer, unit = size + 2 * network.halo_px, network.unit_px
    return min(outer, frame.height + unit) * min(outer, frame.width + unit)


def _overview_px(frame: Frame, network: StreamedNetwork) -> int:
    if not isinstance(network, OverviewNetwork):
        return 0
    longest, unit = network.overview_px, network.unit_px
    shrink = max(1.0, max(frame.height, frame.width) / longest)
    return int(frame.height / shrink + unit) * int(frame.width / shrink + unit)
