# SPDX-License-Identifier: GPL-3.0-or-later
"""The two passes over the pixels: blocks to tokens, blocks with context to clear pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dehaze_core.engine.context import SceneContext
from dehaze_core.engine.job import Job, Mask, Pixels
from dehaze_core.engine.journal import BlockRecord, Journal
from dehaze_core.engine.pipeline import run_blocks
from dehaze_core.engine.result_store import ResultStore
from dehaze_core.grid import Block, Window
from dehaze_core.haze.bands import BandHaze, band_haze
from dehaze_core.haze.layers import correct, full_resolution
from dehaze_core.models.dehazexl.lite import HAZE_PX, HazeMaps, SceneHaze
from dehaze_core.scene.radiometry import quantise

STRIP_PX = 128
"""Rows brought to full resolution at a time: small enough for the processor's cache."""


def encode_blocks(job: Job, tokens: ResultStore) -> Iterator[Block]:
    """Pass A: write the tokens of every block that has none yet, and yield the block.

    Args:
        job: The run.
        tokens: (C + 1, R, C) store; the last channel takes the tokens' weights.
    """

    def load(block: Block) -> tuple[Pixels, Mask]:
        return job.read(block.outer, job.model_bands)

    def compute(block: Block, loaded: tuple[Pixels, Mask]) -> NDArray[np.float32]:
        pixels, valid = loaded
        window = job.grid.cells(block.inset)
        out = np.zeros((job.network.config.widths[-1] + 1, window.height, window.width), np.float32)
        out[-1] = job.token_weight(block, valid)
        if out[-1].any():
            with torch.inference_mode(), job.device.autocast_context():
                encoded = job.network.tokens(job.network.skips(*job.network_input(pixels, valid)))
            core = encoded[0][window.slices].permute(2, 0, 1)
            out[:-1] = core.float().cpu().numpy()
        return out

    def store(block: Block, values: NDArray[np.float32]) -> None:
        tokens.write(job.grid.cells(block.core), values)

    missing = (b for b in job.grid if not tokens.is_complete(job.grid.cells(b.core)))
    yield from run_blocks(missing, load, compute, store)


@dataclass(frozen=True, slots=True)
class Restored:
    """Result of pass B for the core of one block.

    Attributes:
        pixels: (B, h, w) stored values in the source's data type.
        thickness: (1, h, w) float32 optical thickness at 550 nm, NaN where invalid; None if not
            wanted.
        record: Sums for the report.
    """

    pixels: Pixels
    thickness: NDArray[np.float32] | None
    record: BlockRecord


class Restorer:
    """Pass B: clear pixels block by block.

    Args:
        job: The run.
        results: Store of the clear pixels.
        thickness: Store of the haze thickness, or None.
        journal: Records of finished blocks.
    """

    def __init__(
        self,
        job: Job,
        results: ResultStore,
        thickness: ResultStore | None,
        journal: Journal,
    ) -> None:
        self.job = job
        self.context: SceneContext | None = None
        self.results = results
        self.thickness = thickness
        self.journal = journal
        self.all_bands = tuple(range(job.scene.frame.count))

    def missing(self) -> list[Block]:
        """Return the blocks that are not finished, or whose results are damaged."""
        return [block for block in self.job.grid if not self._is_finished(block)]

    def run(self, blocks: list[Block], context: SceneContext | None) -> Iterator[Block]:
        """Restore blocks and yield each once it is stored and journalled.

        Args:
            blocks: Blocks to restore, in this order.
            context: Result of the context step; None if no pixel of the raster is valid.
        """
        self.context = context
        yield from run_blocks(blocks, self._load, self._compute, self._store)

    def _is_finished(self, block: Block) -> bool:
        window = self._written(block)
        return (
            block.index in self.journal
            and self.results.is_complete(window)
            and (self.thickness is None or self.thickness.is_complete(window))
        )

    def _written(self, block: Block) -> Window:
        return block.core.clipped(self.job.grid.height, self.job.grid.width)

    def _load(self, block: Block) -> tuple[Pixels, Mask, NDArray[np.float32] | None]:
        pixels, valid = self.job.read(block.outer, self.all_bands)
        conditions = None
        if self.context is not None and valid.any():
            conditions = self.context.conditions.read(self.job.grid.cells(block.outer))
        return pixels, valid, conditions

    def _compute(
        self, block: Block, loaded: tuple[Pixels, Mask, NDArray[np.float32] | None]
    ) -> Restored:
        pixels, valid, conditions = loaded
        window = self._written(block)
        core = (slice(None), *window.shifted(-block.outer.row, -block.outer.col).slices)
        out = pixels[core].copy()
        thickness = None
        if self.thickness is not None:
            thickness = np.full((1, window.height, window.width), np.nan, np.float32)
        if conditions is None or self.context is None or not valid[core[1:]].any():
            return Restored(out, thickness, BlockRecord(block.index, 0, 0.0))
        with torch.inference_mode():
            maps, rgb, scene = self._estimate(pixels, valid, conditions, self.context.scene)
            total = self._restore(block, pixels, valid, (maps, rgb, scene), out, thickness)
        count = int(np.count_nonzero(valid[core[1:]]))
        return Restored(out, thickness, BlockRecord(block.index, count, total))

    def _estimate(
        self, pixels: Pixels, valid: Mask, conditions: NDArray[np.float32], scene: SceneHaze
    ) -> tuple[HazeMaps, Tensor, SceneHaze]:
        job = self.job
        device = job.device.torch
        scene = scene.to(device)
        rgb, mask = job.network_input(pixels[list(job.model_bands)], valid)
        with job.device.autocast_context():
            given = torch.from_numpy(conditions)[None].to(device)
            maps = job.network.decode(job.network.skips(rgb, mask), given, scene)
        return maps, rgb, scene

    def _restore(
        self,
        block: Block,
        pixels: Pixels,
        valid: Mask,
        estimate: tuple[HazeMaps, Tensor, SceneHaze],
        out: Pixels,
        thickness: NDArray[np.float32] | None,
    ) -> float:
        """Fill `out` and `thickness` in strips; return the summed thickness of valid pixels."""
        maps, rgb, scene = estimate
        window = self._written(block)
        left, top = block.inset.col, block.inset.row
        columns = slice(left, left + window.width)
        frame = self.job.scene.frame
        bands = band_haze(self.job.model_bands, frame.color_interp, float(scene.alpha))
        total = 0.0
        for start in range(0, window.height, STRIP_PX):
            height = min(STRIP_PX, window.height - start)
            rows = slice(top + start, top + start + height)
            target = slice(start, start + height)
            mask = valid[rows, columns]
            tau, airlight = _strip_haze(maps, rgb, rows, columns)
            for band in bands:
                stored = pixels[band.index, rows, columns]
                clear = self._clear(stored, tau, airlight, band)
                values = quantise(clear, frame.dtype, frame.nodata[band.index])
                np.copyto(out[band.index, target], values, where=mask)
            layer = tau.cpu().numpy()
            total += float(layer.sum(where=mask, dtype=np.float64))
            if thickness is not None:
                np.copyto(thickness[0, target], layer, where=mask)
        return total

    def _clear(self, stored: Pixels, tau: Tensor, airlight: Tensor, band: BandHaze) -> Tensor:
        """Return stored values (h, w) of one band without haze, float32, not rounded."""
        radiometry = self.job.radiometry
        hazy = radiometry.to_linear(torch.from_numpy(stored).to(tau.device))
        clear = correct(hazy, tau, airlight[band.airlight_band], band.ratio, self.job.strength)
        # Haze only adds light: what would fall below zero is noise or a misjudged airlight.
        return radiometry.from_linear(torch.maximum(clear, hazy.clamp_max(0.0)))

    def _store(self, block: Block, restored: Restored) -> None:
        window = self._written(block)
        self.results.write(window, restored.pixels)
        if self.thickness is not None and restored.thickness is not None:
            self.thickness.write(window, restored.thickness)
        self.journal.add(restored.record)


def _strip_haze(maps: HazeMaps, rgb: Tensor, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """Return thickness (h, w) and airlight (3, h, w) of some rows of a block at full resolution.

    The maps are cut out with one cell to spare on every side, which is all that the interpolation
    looks at, so that strips do not show.
    """
    height, width = maps.thickness.shape[-2:]
    top, left = max(rows.start // HAZE_PX - 1, 0), max(columns.start // HAZE_PX - 1, 0)
    bottom = min(-(-rows.stop // HAZE_PX) + 1, height)
    right = min(-(-columns.stop // HAZE_PX) + 1, width)
    cells = (..., slice(top, bottom), slice(left, right))
    fine = (..., slice(top * HAZE_PX, bottom * HAZE_PX), slice(left * HAZE_PX, right * HAZE_PX))
    tau, airlight = full_resolution(
        maps.thickness[cells],
        maps.airlight[cells],
        maps.edge_slope[cells],
        rgb[fine].mean(dim=1, keepdim=True),
    )
    row, col = rows.start - top * HAZE_PX, columns.start - left * HAZE_PX
    inner = (
        0,
        ...,
        slice(row, row + rows.stop - rows.start),
        slice(col, col + columns.stop - columns.start),
    )
    return tau[inner][0], airlight[inner]
