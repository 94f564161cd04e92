# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run will do and need, known before it starts."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from dehaze_core.engine.device import Device, choose_device, use_threads
from dehaze_core.engine.forecast import (
    device_memory_to_use_mib,
    device_mib,
    disk_mib,
    memory_mib,
    memory_to_use_mib,
)
from dehaze_core.engine.settings import RunSettings
from dehaze_core.errors import ResourceError, SettingsError
from dehaze_core.grid import BlockGrid
from dehaze_core.models import Model, load_model
from dehaze_core.models.dehazexl.context import pooling_factor
from dehaze_core.models.dehazexl.lite import TOKEN_PX
from dehaze_core.scene import Frame, Scene, open_scene

BLOCK_SIZES = (4096, 3072, 2048, 1536, 1024, 768, 512, 256)


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
        device_mib: Peak memory on a CUDA device; 0 on the CPU.
        disk_mib: Disk needed beside the output, while running.
        disk_stages_mib: The same at the end of every stage.
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
    device_mib: int
    disk_mib: int
    disk_stages_mib: dict[str, int]
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


def make_plan(settings: RunSettings) -> Plan:
    """Return what a run with these settings would do, with a time measured on this machine.

    Raises:
        DehazeError: The run would be refused.
    """
    use_threads(settings.threads)
    device = choose_device(settings.device)
    model = load_model(settings.model)
    with open_scene(settings.source) as scene:
        plan = draw_plan(cropped(scene, settings).frame, model, device, settings)
    network = model.network.to(device.torch)
    return replace(plan, seconds=measured_seconds(plan, replace(model, network=network), device))


def draw_plan(frame: Frame, model: Model, device: Device, settings: RunSettings) -> Plan:
    """Choose a block size that fits into memory and forecast the rest.

    Raises:
        ResourceError: Not even the smallest block fits (MEMORY).
    """
    halo = halo_of(model)
    size = _block_size(frame, halo, device, settings)
    grid = BlockGrid(frame.height, frame.width, size, halo, TOKEN_PX)
    stages = disk_mib(frame, grid, model, settings)
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
        memory_mib=memory_mib(frame, size, halo),
        device_mib=device_mib(frame, size, halo) if device.torch.type == "cuda" else 0,
        disk_mib=max(stages.values()),
        disk_stages_mib=stages,
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
        model.network.tokens(rgb, model.network.skips(rgb, mask))
        encode = (time.perf_counter() - start) / side**2
    outer = (1 + 2 * plan.halo / plan.block_size) ** 2
    io = 1.5e-7
    return plan.width * plan.height * (3.0 * encode * outer + io)


def _block_size(frame: Frame, halo: int, device: Device, settings: RunSettings) -> int:
    limit = memory_to_use_mib(settings)
    device_limit = device_memory_to_use_mib(device.torch)

    def fits(size: int) -> bool:
        on_device = device_limit is None or device_mib(frame, size, halo) <= device_limit
        return on_device and memory_mib(frame, size, halo) <= limit

    longest = -(-max(frame.width, frame.height) // TOKEN_PX) * TOKEN_PX
    # A block larger than the raster gains nothing: try the raster itself, then smaller ones.
    candidates = [min(size, longest) for size in BLOCK_SIZES]
    if settings.block_size is not None:
        candidates = [max(settings.block_size // TOKEN_PX, 1) * TOKEN_PX]
    for size in candidates:
        if fits(size):
            return size
    size = candidates[-1]
    there = "" if device_limit is None else f" and {device_limit} MiB on the device"
    raise ResourceError(
        f"Blocks of {size} px of {frame.count} bands {frame.dtype} need "
        f"{memory_mib(frame, size, halo)} MiB of memory; {limit} MiB may be used{there}.",
        hint="Raise the memory limit, choose smaller blocks, or close other programs.",
        code="MEMORY",
    )


def cropped(scene: Scene, settings: RunSettings) -> Scene:
    """Return the part of the scene that the settings ask for."""
    if settings.extent is None:
        return scene
    return scene.crop(scene.window_of_extent(settings.extent))
