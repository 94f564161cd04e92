# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run will do and need, known before it starts."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil
import torch

from dehaze_core.engine.device import Device
from dehaze_core.engine.settings import RunSettings
from dehaze_core.errors import ResourceError, SettingsError
from dehaze_core.grid import BlockGrid
from dehaze_core.models import Model
from dehaze_core.models.dehazexl.context import pooling_factor
from dehaze_core.models.dehazexl.lite import TOKEN_PX
from dehaze_core.scene import Frame

BLOCK_SIZES = (4096, 3072, 2048, 1536, 1024, 768, 512, 256)

DEFAULT_MEMORY_MIB = 1800
"""Memory a run takes at most unless told otherwise; larger blocks gain little."""

PROCESS_MIB = 730
"""Python, PyTorch, GDAL with its cache, context and the final file; see `NETWORK_BYTES_PER_PX`."""

NETWORK_BYTES_PER_PX = 295
"""Peak of pass B for each pixel of a block with halo, memory that is free but kept included.

Both numbers are fitted to the peaks that `python -m benchmarks.speed file --block N` prints.
"""

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Plan:
    """Forecast of a run.

    Attributes:
        width: Columns of the output, px.
        height: Rows of the output, px.
        bands: Bands of the output.
        dtype: Their data type.
        model: Name of the model.
        model_bands: 1-based bands the network looks at.
        device: Where it runs.
        block_size: Side of a block, px.
        halo: Margin around a block, px.
        blocks: Number of blocks.
        tokens: Number of tokens in the context.
        context: `exact` attention, or `bounded` with keys averaged over k x k tokens.
        context_cell: k.
        memory_mib: Peak memory forecast.
        disk_mib: Free disk needed beside the output, while running.
        seconds: Time forecast; None if it was not measured.
    """

    width: int
    height: int
    bands: int
    dtype: str
    model: str
    model_bands: tuple[int, ...]
    device: str
    block_size: int
    halo: int
    blocks: int
    tokens: int
    context: str
    context_cell: int
    memory_mib: int
    disk_mib: int
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able data."""
        return asdict(self)


def halo_of(model: Model) -> int:
    """Return the halo in px that makes blocks exact, in whole tokens."""
    need = max(model.network.config.encode_halo, model.network.config.decode_halo)
    return -(-need // TOKEN_PX) * TOKEN_PX


def choose_model_bands(frame: Frame, bands: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the 0-based bands the network looks at.

    Args:
        frame: Frame of the source.
        bands: The user's choice, 1-based, or None.

    Raises:
        SettingsError: A band does not exist or is the alpha band.
    """
    if bands is None:
        return frame.rgb_bands
    for band in bands:
        if not 1 <= band <= frame.count or band - 1 == frame.alpha_band:
            raise SettingsError(
                f"Band {band} was asked for; the raster has bands 1 to {frame.count}"
                + (
                    f", of which {frame.alpha_band + 1} is alpha."
                    if frame.alpha_band is not None
                    else "."
                )
            )
    return tuple(band - 1 for band in bands)


def draw_plan(frame: Frame, model: Model, device: Device, settings: RunSettings) -> Plan:
    """Choose a block size that fits into memory and forecast the rest.

    Raises:
        ResourceError: Not even the smallest block fits (MEMORY).
    """
    halo = halo_of(model)
    size = _block_size(frame, halo, settings)
    grid = BlockGrid(frame.height, frame.width, size, halo, TOKEN_PX)
    factor = pooling_factor(grid.cell_rows, grid.cell_cols, model.network.config.context_budget)
    return Plan(
        width=frame.width,
        height=frame.height,
        bands=frame.count,
        dtype=frame.dtype,
        model=model.card.name,
        model_bands=tuple(b + 1 for b in choose_model_bands(frame, settings.bands)),
        device=device.description,
        block_size=size,
        halo=halo,
        blocks=len(grid),
        tokens=grid.cell_rows * grid.cell_cols,
        context="exact" if factor == 1 else "bounded",
        context_cell=factor,
        memory_mib=_memory_mib(frame, size, halo),
        disk_mib=_disk_mib(frame, grid, model, settings),
    )


def measured_seconds(plan: Plan, model: Model, device: Device) -> float:
    """Forecast the time of a run by timing the network on a small block of the same halo.

    Reading, writing and the final file are taken to cost as much as one pass of the network; on
    fast devices they dominate.
    """
    side = 512
    rgb = torch.rand(1, 3, side, side, device=device.torch)
    mask = torch.ones(1, 1, side, side, device=device.torch)
    with torch.inference_mode():
        model.network.skips(rgb, mask)
        start = time.perf_counter()
        model.network.tokens(model.network.skips(rgb, mask))
        encode = (time.perf_counter() - start) / side**2
    outer = (1 + 2 * plan.halo / plan.block_size) ** 2
    io = 1.5e-7
    return plan.width * plan.height * (3.0 * encode * outer + io)


def _block_size(frame: Frame, halo: int, settings: RunSettings) -> int:
    limit = settings.memory_limit or default_memory_mib()
    if settings.block_size is not None:
        return max(settings.block_size // TOKEN_PX, 1) * TOKEN_PX
    longest = -(-max(frame.width, frame.height) // TOKEN_PX) * TOKEN_PX
    for size in BLOCK_SIZES:
        # A block larger than the raster gains nothing: try the raster itself, then smaller ones.
        candidate = min(size, longest)
        if _memory_mib(frame, candidate, halo) <= limit:
            return candidate
    raise ResourceError(
        f"The smallest block of {BLOCK_SIZES[-1]} px of {frame.count} bands {frame.dtype} needs "
        f"{_memory_mib(frame, BLOCK_SIZES[-1], halo)} MiB; {limit} MiB may be used.",
        hint="Raise the memory limit, or close other programs.",
        code="MEMORY",
    )


def default_memory_mib() -> int:
    """Return the memory a run may take if the user says nothing, in MiB."""
    return int(min(DEFAULT_MEMORY_MIB, 0.6 * psutil.virtual_memory().available / MIB))


def _memory_mib(frame: Frame, size: int, halo: int) -> int:
    outer_px = min(size + 2 * halo, frame.height + TOKEN_PX) * min(
        size + 2 * halo, frame.width + TOKEN_PX
    )
    # A block being read, one in work with its result, one being written.
    stored = 4 * frame.count * np.dtype(frame.dtype).itemsize
    return PROCESS_MIB + int(outer_px * (NETWORK_BYTES_PER_PX + stored) / MIB)


def _disk_mib(frame: Frame, grid: BlockGrid, model: Model, settings: RunSettings) -> int:
    pixels = frame.width * frame.height
    raster = pixels * frame.count * np.dtype(frame.dtype).itemsize
    if settings.thickness is not None:
        raster += pixels * 4
    tokens = grid.cell_rows * grid.cell_cols * (model.network.config.widths[-1] + 3) * 4
    # Result store, uncompressed copy for GDAL, and the final file with its overviews.
    return int((raster * 3.4 + 3 * tokens) / MIB) + 1
