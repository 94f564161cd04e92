# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run will do and need, known before it starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from dehaze_core.engine.backend import backend_of, device_for, with_backend
from dehaze_core.engine.device import Device, use_threads
from dehaze_core.engine.forecast import (
    device_memory_to_use_mib,
    device_mib,
    disk_mib,
    memory_mib,
    memory_to_use_mib,
)
from dehaze_core.engine.segments.given_mask import check_mask
from dehaze_core.engine.settings import RunSettings
from dehaze_core.engine.tokens.context import choose_backend
from dehaze_core.engine.tokens.context_backends import ContextKind
from dehaze_core.engine.trial import HYPER_KEYS, pixel_seconds, token_seconds
from dehaze_core.errors import ModelError, ResourceError, SettingsError
from dehaze_core.grid import BlockGrid, Window
from dehaze_core.models import Model, load_model
from dehaze_core.models.dehazexl.context import pooling_factor
from dehaze_core.models.streaming import TOKEN_PX, StreamedNetwork, TokenNetwork
from dehaze_core.scene import Frame, Scene, open_scene

BLOCK_SIZES = (4096, 3072, 2048, 1536, 1024, 768, 512, 256)

OVERVIEW = "overview"
"""Context of a network that has no tokens and looks at an overview."""


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
        backend: What computes the pixels: `torch`, or `onnxruntime` and its version.
        block_size: Side of a block, px.
        halo: Margin around a block, px.
        blocks: Number of blocks.
        tokens: Number of tokens in the context; 0 for a network without.
        context: How tokens look at each other: `exact`, `bounded` or `hyper`; or `overview` where
            the network looks at one instead.
        context_cell: Keys of bounded attention are averaged over k x k tokens; else 1.
        memory_mib: Peak memory forecast.
        device_mib: Peak memory on a CUDA device; 0 on the CPU.
        disk_mib: Disk needed beside the output, while running.
        disk_stages_mib: The same at the end of every stage.
        seconds: Time forecast; None if it was not measured.
        guide: What guides the network: a mask, or a structure and a segmenter; None for a network
            without a guide.
    """

    width: int
    height: int
    bands: int
    dtype: str
    model: str
    model_bands: tuple[int, ...]
    device: str
    backend: str
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
    guide: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able data."""
        return asdict(self)


def block_grid(frame: Frame, size: int, network: StreamedNetwork) -> BlockGrid:
    """Return the grid of blocks of `size` px in which a network works through a raster."""
    return BlockGrid(frame.height, frame.width, size, network.halo_px, TOKEN_PX, network.unit_px)


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
    threads = use_threads(settings.threads)
    device = device_for(settings)
    model = load_model(settings.model)
    network = with_backend(model.network, settings.backend, device, threads)
    model = replace(model, network=network)
    with open_scene(settings.source) as scene:
        check_mask(network, settings.mask, scene.frame, place_of(scene, settings))
        plan = draw_plan(cropped(scene, settings).frame, model, device, settings)
    return replace(plan, seconds=measured_seconds(plan, network.to(device.torch), device))


def draw_plan(frame: Frame, model: Model, device: Device, settings: RunSettings) -> Plan:
    """Choose a block size that fits into memory and forecast the rest.

    Raises:
        ModelError: The network was made for other bands than red, green and blue (MODEL_BANDS).
        ResourceError: Not even the smallest block fits (MEMORY).
    """
    network = model.network
    if network.bands != 3:
        raise ModelError(
            f"Model '{model.card.name}' was made for pictures of {network.bands} bands; "
            "expected 3: red, green and blue.",
            hint="Other bands follow from these three; choose a model of three bands.",
            code="MODEL_BANDS",
        )
    size = _block_size(frame, network, device, settings)
    grid = block_grid(frame, size, network)
    context = _plan_context(grid, network, settings.context)
    stages = disk_mib(frame, grid, network, settings, context.scratch_bytes)
    return Plan(
        width=frame.width,
        height=frame.height,
        bands=frame.count,
        dtype=frame.dtype,
        model=model.card.name,
        model_bands=tuple(b + 1 for b in choose_model_bands(frame, settings.bands)),
        device=device.description,
        backend=backend_of(network),
        block_size=size,
        halo=network.halo_px,
        blocks=len(grid),
        tokens=context.tokens,
        context=context.name,
        context_cell=context.cell,
        memory_mib=memory_mib(frame, size, network),
        device_mib=device_mib(frame, size, network) if device.torch.type == "cuda" else 0,
        disk_mib=max(stages.values()),
        disk_stages_mib=stages,
        guide=_guide(network, settings),
    )


def measured_seconds(plan: Plan, network: StreamedNetwork, device: Device) -> float:
    """Forecast the time of a run by timing the network, which is on the device."""
    size, halo = plan.block_size, plan.halo
    grid = BlockGrid(plan.height, plan.width, size, halo, TOKEN_PX, network.unit_px)
    seconds = grid.outer_px * pixel_seconds(network, device.torch)
    if not isinstance(network, TokenNetwork):
        return seconds
    keys = {"exact": plan.tokens, "hyper": HYPER_KEYS}.get(plan.context, network.context_budget)
    return seconds + plan.tokens * token_seconds(network, keys, device.torch)


def _guide(network: StreamedNetwork, settings: RunSettings) -> str | None:
    """Return what guides a network, in a few words."""
    if not network.guides:
        return None
    if settings.mask is not None or settings.structure == "haze_gray":
        return settings.mask or settings.structure
    return f"{settings.structure} of {settings.segmenter}, {settings.coding}"


@dataclass(frozen=True, slots=True)
class _PlannedContext:
    """How blocks will learn of the rest of the raster; see the fields of `Plan`."""

    name: str
    tokens: int = 0
    cell: int = 1
    scratch_bytes: int = 0


def _plan_context(grid: BlockGrid, network: StreamedNetwork, kind: ContextKind) -> _PlannedContext:
    if not isinstance(network, TokenNetwork):
        return _PlannedContext(OVERVIEW)
    rows, cols, budget = grid.cell_rows, grid.cell_cols, network.context_budget
    backend = choose_backend(kind, rows, cols, budget)
    layers = network.context.each_layer()
    return _PlannedContext(
        backend.name,
        rows * cols,
        pooling_factor(rows, cols, budget) if backend.name == "bounded" else 1,
        max(backend.scratch_bytes(layer, rows * cols) for layer in layers),
    )


def _block_size(
    frame: Frame, network: StreamedNetwork, device: Device, settings: RunSettings
) -> int:
    unit = network.unit_px
    longest = -(-max(frame.width, frame.height) // unit) * unit
    # A block larger than the raster gains nothing: try the raster itself, then smaller ones.
    candidates = [min(size, longest) for size in BLOCK_SIZES]
    if settings.block_size is not None:
        candidates = [max(settings.block_size // unit, 1) * unit]
    limit = memory_to_use_mib(settings, memory_mib(frame, candidates[-1], network))
    device_limit = device_memory_to_use_mib(device.torch)
    for size in candidates:
        on_device = device_limit is None or device_mib(frame, size, network) <= device_limit
        if on_device and memory_mib(frame, size, network) <= limit:
            return size
    size = candidates[-1]
    there = "" if device_limit is None else f" and {device_limit} MiB on the device"
    raise ResourceError(
        f"Blocks of {size} px of {frame.count} bands {frame.dtype} need "
        f"{memory_mib(frame, size, network)} MiB of memory; {limit} MiB may be used{there}.",
        hint="Raise the memory limit, choose smaller blocks, or close other programs.",
        code="MEMORY",
    )


def cropped(scene: Scene, settings: RunSettings) -> Scene:
    """Return the part of the scene that the settings ask for."""
    return scene if settings.extent is None else scene.crop(place_of(scene, settings))


def place_of(scene: Scene, settings: RunSettings) -> Window:
    """Return where in the scene the part lies that the settings ask for."""
    if settings.extent is None:
        return scene.frame.window
    return scene.window_of_extent(settings.extent)
