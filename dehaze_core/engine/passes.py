# SPDX-License-Identifier: GPL-3.0-or-later
"""The two passes over the pixels: blocks to tokens, blocks with context to clear pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dehaze_core.engine.corrections import Correction, Hazy, correction_of, haze_layer
from dehaze_core.engine.job import Job, Mask, Pixels
from dehaze_core.engine.journal import BlockRecord, Journal
from dehaze_core.engine.pipeline import run_blocks
from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.tokens.context import SceneContext
from dehaze_core.grid import Block, Window
from dehaze_core.models.streaming import HazeMaps, PaintedImage, TokenNetwork
from dehaze_core.scene.quantise import quantise, taken_value

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
    network = cast(TokenNetwork, compute.network)
    width = network.token_width
    out = np.zeros((width + 1, cells.height, cells.width), np.float32)
    out[-1] = job.token_weight(block, valid)

    def encode(piece: Block) -> None:
        seen = piece.outer.within(block.outer).slices
        rgb, mask = job.network_input(pixels[(slice(None), *seen)], valid[seen], piece.outer)
        encoded = compute.finite(lambda: network.encode(rgb, mask), _all_finite)
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
        haze: (C, h', w') cells of the haze layer, see `corrections.haze_layer`.
        record: Sums for the report.
    """

    pixels: Pixels
    haze: NDArray[np.generic]
    record: BlockRecord


class Restorer:
    """Pass B: clear pixels block by block.

    Attributes:
        has_gaps: Whether the network gave no finite estimate somewhere; these pixels stay as they
            were.

    Args:
        job: The run.
        results: Store of the clear pixels.
        haze: Store of the haze layer, or None if it is not wanted.
        journal: Records of finished blocks.
    """

    def __init__(
        self, job: Job, results: ResultStore, haze: ResultStore | None, journal: Journal
    ) -> None:
        self.job = job
        self.context: SceneContext | None = None
        self.results = results
        self.haze = haze
        self.layer = haze_layer(job)
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
            and (self.haze is None or self.haze.is_complete(self.layer.cells(window)))
        )

    def _written(self, block: Block) -> Window:
        return block.core.clipped(self.job.grid.height, self.job.grid.width)

    def _load(self, block: Block) -> tuple[Pixels, Mask, Hazy | None]:
        pixels, valid = self.job.read(block.outer, self.all_bands)
        if self.context is None or not valid.any():
            return pixels, valid, None
        conditions = self.context.at(self.job.grid.cells(block.outer))
        return pixels, valid, Hazy(pixels, valid, conditions, self.context.scene)

    def _compute(self, block: Block, loaded: tuple[Pixels, Mask, Hazy | None]) -> Restored:
        pixels, valid, hazy = loaded
        window = self._written(block)
        core = window.within(block.outer).slices
        out = pixels[(slice(None), *core)].copy()
        cells = self.layer.cells(window)
        shape = (self.layer.channels, cells.height, cells.width)
        haze = np.full(shape, self.layer.empty, self.layer.dtype)
        count = int(np.count_nonzero(valid[core]))
        if hazy is None or count == 0:
            return Restored(out, haze, BlockRecord(block.index, 0, 0.0))

        def restore(piece: Block) -> float:
            part = hazy.cut(piece.outer.within(block.outer), self.job.grid)
            place = self._written(piece).within(block.core)
            pieces = (out, place), (haze, self.layer.cells(place))
            return self._restore(piece, part, *(a[(slice(None), *w.slices)] for a, w in pieces))

        with torch.inference_mode():
            totals = self.job.compute.by_pieces(self.job.grid, block, restore)
        return Restored(out, haze, BlockRecord(block.index, count, sum(totals)))

    def _restore(self, piece: Block, hazy: Hazy, out: Pixels, haze: NDArray[np.generic]) -> float:
        """Fill `out` and `haze` in strips; return the summed thickness of valid pixels."""
        correction = self._correction(hazy, piece.outer)
        frame, first = self.job.scene.frame, self.job.model_bands[0]
        window = self._written(piece)
        left, top = piece.inset.col, piece.inset.row
        columns = slice(left, left + window.width)
        total = 0.0
        for start in range(0, window.height, STRIP_PX):
            place = Window(start, 0, min(STRIP_PX, window.height - start), window.width)
            rows = slice(top + start, top + start + place.height)
            mask = hazy.valid[rows, columns]
            strip = correction.strip(rows, columns)
            for band, clear in strip.bands:
                values = quantise(clear, frame.dtype, taken_value(frame, band, first))
                np.copyto(out[(band, *place.slices)], values, where=mask)
            haze[(slice(None), *self.layer.cells(place).slices)] = strip.haze
            total += strip.thickness
        return total

    def _correction(self, hazy: Hazy, window: Window) -> Correction:
        """Ask the network about a block, which lies at `window` of the padded raster."""
        job, compute = self.job, self.job.compute
        device = compute.device.torch
        scene = hazy.scene.to(device)
        rgb, mask = job.network_input(hazy.pixels[list(job.model_bands)], hazy.valid, window)
        given = torch.from_numpy(hazy.conditions)[None].to(device)
        answer = compute.finite(
            lambda: compute.network.estimate(rgb, mask, given, scene), _is_finite
        )
        self.has_gaps |= not answer.is_finite()
        return correction_of(job, hazy, rgb, answer, scene)

    def _store(self, block: Block, restored: Restored) -> None:
        window = self._written(block)
        self.results.write(window, restored.pixels)
        if self.haze is not None:
            self.haze.write(self.layer.cells(window), restored.haze)
        self.journal.add(restored.record)


def _is_finite(answer: HazeMaps | PaintedImage) -> bool:
    return answer.is_finite()
