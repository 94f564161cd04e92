# SPDX-License-Identifier: GPL-3.0-or-later
"""Where memory or a number format does not suffice, the run goes on and the pixels are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from dehaze_core.engine import RunSettings, Silent, run
from dehaze_core.engine.compute import SMALLEST_PX, Compute
from dehaze_core.engine.device import Device, choose_device
from dehaze_core.errors import ResourceError
from dehaze_core.grid import BlockGrid
from dehaze_core.models.dehazexl.lite import DehazeXLLite
from dehaze_core.models.streaming import HazeMaps
from dehaze_core.scene.srgb import encode_uint8

MakeRaster = Callable[..., Path]


class Listener(Silent):
    """Remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def source(make_raster: MakeRaster, hazy: NDArray[np.float32]) -> Path:
    return make_raster(data=encode_uint8(hazy))


def dehaze(source: Path, out: Path, listener: Silent | None = None) -> NDArray[np.generic]:
    settings = RunSettings(source=str(source), destination=str(out), block_size=512)
    run(settings, listener or Silent())
    with rasterio.open(out) as raster:
        pixels: NDArray[np.generic] = raster.read()
    return pixels


def on_cuda(warn: Callable[[str], None]) -> Compute:
    """Return the network on something that passes for a CUDA device."""
    compute = Compute(DehazeXLLite(), choose_device("cpu"), warn)
    compute.device = Device(torch.device("cuda"), "CUDA (pretended)", torch.float16)
    return compute


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        MemoryError("Unable to allocate 2 GiB"),
    ],
)
def test_a_run_short_of_memory_ends_with_the_same_pixels(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected = dehaze(source, tmp_path / "expected.tif")
    skips = DehazeXLLite.skips

    def short(self: DehazeXLLite, rgb: torch.Tensor, valid: torch.Tensor) -> list[torch.Tensor]:
        if rgb[0, 0].numel() > 448 * 448:
            raise error
        return skips(self, rgb, valid)

    monkeypatch.setattr(DehazeXLLite, "skips", short)
    listener = Listener()

    pixels = dehaze(source, tmp_path / "out.tif", listener)

    difference = np.abs(pixels.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert [w for w in listener.warnings if "Memory ran out" in w] == [
        "Memory ran out while computing 512 px at once; going on with pieces of 256 px.",
        "Memory ran out while computing 256 px at once; going on with pieces of 128 px.",
    ]


def test_a_device_that_is_too_small_gives_way_to_the_cpu() -> None:
    warnings: list[str] = []
    compute = on_cuda(warnings.append)
    grid = BlockGrid(512, 512, 512, 32, 32)

    def work(piece: object) -> str:
        if compute.device.torch.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute.device.torch.type

    assert compute.by_pieces(grid, grid[0], work) == ["cpu"]
    assert [w.partition("going on with ")[2] for w in warnings] == [
        "pieces of 256 px.",
        "pieces of 128 px.",
        "the CPU.",
    ]
    assert compute.as_a_whole(lambda: compute.device.torch.type) == "cpu"
    assert compute.device.autocast == torch.float16


def test_work_that_cannot_be_cut_goes_to_the_cpu_at_once() -> None:
    warnings: list[str] = []
    compute = on_cuda(warnings.append)

    def work() -> str:
        if compute.device.torch.type == "cuda":
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")
        return compute.device.torch.type

    assert compute.as_a_whole(work) == "cpu"
    assert len(warnings) == 1


def test_no_memory_even_on_the_cpu_is_a_resource_error() -> None:
    compute = Compute(DehazeXLLite(), choose_device("cpu"), lambda _: None)
    grid = BlockGrid(512, 512, 512, 32, 32)

    def work(piece: object) -> None:
        raise MemoryError("Unable to allocate 1 TiB")

    with pytest.raises(ResourceError, match=f"computing {SMALLEST_PX} px at once: Unable"):
        compute.by_pieces(grid, grid[0], work)


def test_other_errors_are_not_taken_for_a_shortage() -> None:
    compute = on_cuda(lambda _: None)

    def work() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        compute.as_a_whole(work)
    assert compute.device.torch.type == "cuda"


def test_what_overflows_in_half_precision_is_computed_in_float32() -> None:
    warnings: list[str] = []
    half = Device(torch.device("cpu"), "CPU", torch.float16)
    compute = Compute(DehazeXLLite(), half, warnings.append)
    large = torch.full((4, 4), 300.0)

    for _ in range(2):
        product = compute.finite(lambda: large @ large, lambda x: bool(x.isfinite().all()))

    assert (product == 360_000.0).all()
    assert warnings == ["torch.float16 overflows in places; these are done in float32."]


def test_pixels_without_a_finite_estimate_stay_as_they_are(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hazy: NDArray[np.float32]
) -> None:
    decode = DehazeXLLite.decode

    def with_gap(self: DehazeXLLite, *args: object) -> HazeMaps:
        maps = decode(self, *args)  # type: ignore[arg-type]
        maps.thickness[..., 10:20, 10:20] = torch.nan
        return maps

    monkeypatch.setattr(DehazeXLLite, "decode", with_gap)
    listener = Listener()

    pixels = dehaze(source, tmp_path / "out.tif", listener)

    # The gap of the first block; the interpolation reaches one cell into it.
    assert (pixels[:, 44:76, 44:76] == encode_uint8(hazy)[:, 44:76, 44:76]).all()
    assert (pixels[:, 100:] != encode_uint8(hazy)[:, 100:]).any()
    assert any("not finite in places" in w for w in listener.warnings)


def test_tokens_that_are_not_numbers_do_not_reach_the_rest_of_the_raster(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = DehazeXLLite.tokens

    def with_gap(self: DehazeXLLite, *args: object) -> torch.Tensor:
        made = tokens(self, *args)  # type: ignore[arg-type]
        made[:, 2, 2] = torch.nan
        return made

    monkeypatch.setattr(DehazeXLLite, "tokens", with_gap)

    pixels = dehaze(source, tmp_path / "out.tif")

    with rasterio.open(source) as raster:
        assert (pixels[:, 200:] != raster.read()[:, 200:]).any()
