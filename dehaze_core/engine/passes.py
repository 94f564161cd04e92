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
from dehaze_core.grid import Block, BlockGrid, Window
from dehaze_core.haze.bands import BandHaze, band_haze
from dehaze_core.haze.layers import correct, full_resolution
from dehaze_core.models.dehazexl.lite import HAZE_PX, HazeMaps, SceneHaze
from dehaze_core.scene import Frame
from dehaze_core.scene.quantise import quantise

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
        return _encode(job, block, *loaded)

    def store(block: Block, values: NDArray[np.float32]) -> None:
        tokens.write(job.grid.cells(block.core), values)

    missing = (b for b in job.grid if not tokens.is_complete(job.grid.cells(b.core)))
    yield from run_blocks(missing, load, compute, store)


def _encode(job: Job, block: Block, pixels: Pixels, valid: Mask) -> NDArray[np.float32]:
    """Return tokens and, last, weights of a block's core, (C + 1, h/32, w/32)."""
    cells, compute = job.grid.cells(block.core), job.compute
    width = compute.network.config.widths[-1]
    out = np.zeros((width + 1, cells.height, cells.width), np.float32)
    out[-1] = job.token_weight(block, valid)

    def encode(piece: Block) -> None:
        seen = piece.outer.within(block.outer).slices
        rgb, mask = job.network_input(pixels[(slice(None), *seen)], valid[seen])
        encoded = compute.finite(
            lambda: compute.network.tokens(rgb, compute.network.skips(rgb, mask)), _all_finite
        )
        core = encoded[0][job.grid.cells(piece.inset).slices].permute(2, 0, 1)
        target = (slice(None), *job.grid.cells(piece.core.within(block.core)).slices)
        out[:-1][target] = core.float().cpu().numpy()

    if out[-1].any():
        with torch.inference_mode():
            compute.by_pieces(job.grid, block, encode)
        # One token that is not a number would spoil the context of the whole raster.
        out[:, ~np.isfinite(out).all(axis=0)] = 0.0
    return out


def _all_finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())


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


@dataclass(frozen=True, slots=True)
class Hazy:
    """What pass B is given of a block's outer window.

    Attributes:
        pixels: (B, h, w) stored values of all bands.
        valid: (h, w).
        conditions: (h/32, w/32, C + LOCAL) of its tokens.
        scene: Haze of the whole scene.
    """

    pixels: Pixels
    valid: Mask
    conditions: NDArray[np.float32]
    scene: SceneHaze

    def cut(self, window: Window, grid: BlockGrid) -> Hazy:
        """Return a part of it: `window` is relative to this one and made of whole cells."""
        pixels, valid = self.pixels[(slice(None), *window.slices)], self.valid[window.slices]
        return Hazy(pixels, valid, self.conditions[grid.cells(window).slices], self.scene)


class Restorer:
    """Pass B: clear pixels block by block.

    Attributes:
        has_gaps: Whether the network gave no finite estimate somewhere; these pixels stay as they
            were.

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
        self.has_gaps = False

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

    def _load(self, block: Block) -> tuple[Pixels, Mask, Hazy | None]:
        pixels, valid = self.job.read(block.outer, self.all_bands)
        if self.context is None or not valid.any():
            return pixels, valid, None
        conditions = self.context.conditions.read(self.job.grid.cells(block.outer))
        return pixels, valid, Hazy(pixels, valid, conditions, self.context.scene)

    def _compute(self, block: Block, loaded: tuple[Pixels, Mask, Hazy | None]) -> Restored:
        pixels, valid, hazy = loaded
        window = self._written(block)
        core = window.within(block.outer).slices
        out = pixels[(slice(None), *core)].copy()
        thickness = None
        if self.thickness is not None:
            thickness = np.full((1, window.height, window.width), np.nan, np.float32)
        count = int(np.count_nonzero(valid[core]))
        if hazy is None or count == 0:
            return Restored(out, thickness, BlockRecord(block.index, 0, 0.0))

        def restore(piece: Block) -> float:
            part = hazy.cut(piece.outer.within(block.outer), self.job.grid)
            target = (slice(None), *self._written(piece).within(block.core).slices)
            layer = None if thickness is None else thickness[target]
            return self._restore(piece, part, out[target], layer)

        with torch.inference_mode():
            totals = self.job.compute.by_pieces(self.job.grid, block, restore)
        return Restored(out, thickness, BlockRecord(block.index, count, sum(totals)))

    def _restore(
        self, piece: Block, hazy: Hazy, out: Pixels, thickness: NDArray[np.float32] | None
    ) -> float:
        """Fill `out` and `thickness` in strips; return the summed thickness of valid pixels."""
        maps, rgb, scene = self._estimate(hazy)
        window = self._written(piece)
        left, top = piece.inset.col, piece.inset.row
        columns = slice(left, left + window.width)
        frame = self.job.scene.frame
        bands = band_haze(self.job.model_bands, frame.color_interp, float(scene.alpha))
        total = 0.0
        for start in range(0, window.height, STRIP_PX):
            height = min(STRIP_PX, window.height - start)
            rows = slice(top + start, top + start + height)
            target = slice(start, start + height)
            mask = hazy.valid[rows, columns]
            tau, airlight = _strip_haze(maps, rgb, rows, columns)
            for band in bands:
                stored = hazy.pixels[band.index, rows, columns]
                clear = self._clear(stored, tau, airlight, band)
                values = quantise(clear, frame.dtype, _taken(frame, band.index, bands[0].index))
                np.copyto(out[band.index, target], values, where=mask)
            layer = tau.cpu().numpy()
            total += float(layer.sum(where=mask, dtype=np.float64))
            if thickness is not None:
                np.copyto(thickness[0, target], layer, where=mask)
        return total

    def _estimate(self, hazy: Hazy) -> tuple[HazeMaps, Tensor, SceneHaze]:
        job, compute = self.job, self.job.compute
        device = compute.device.torch
        scene = hazy.scene.to(device)
        rgb, mask = job.network_input(hazy.pixels[list(job.model_bands)], hazy.valid)
        given = torch.from_numpy(hazy.conditions)[None].to(device)
        maps = compute.finite(
            lambda: compute.network.decode(compute.network.skips(rgb, mask), given, scene),
            HazeMaps.is_finite,
        )
        if not maps.is_finite():
            maps = maps.without_gaps()
            self.has_gaps = True
        return maps, rgb, scene

    def _clear(self, stored: Pixels, tau: Tensor, airlight: Tensor, band: BandHaze) -> Tensor:
        """Return stored values (h, w) of one band without haze, float32, not rounded."""
        radiometry = self.job.radiometry
        hazy = radiometry.to_linear(torch.from_numpy(stored).to(tau.device))
        clear = correct(hazy, tau, airlight[band.airlight_band], band.ratio, self.job.strength)
        # Haze only adds light: what would fall below zero is noise or a misjudged airlight.
        values = radiometry.from_linear(torch.maximum(clear, hazy.clamp_max(0.0)))
        if stored.dtype.kind != "f":
            return values
        # Floats near the end of their range overflow on the way: they stay what they are.
        return torch.where(values.isfinite(), values, torch.from_numpy(stored).to(values))

    def _store(self, block: Block, restored: Restored) -> None:
        window = self._written(block)
        self.results.write(window, restored.pixels)
        if self.thickness is not None and restored.thickness is not None:
            self.thickness.write(window, restored.thickness)
        self.journal.add(restored.record)


def _taken(frame: Frame, band: int, first: int) -> float | None:
    """Return the number that says "no data" and that no valid pixel of a band may become.

    Where nothing is declared, pixels that are zero in all bands count as missing: it is enough to
    keep the first band from zero.
    """
    declared = frame.nodata[band]
    return 0.0 if declared is None and frame.mask == "none" and band == first else declared


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
