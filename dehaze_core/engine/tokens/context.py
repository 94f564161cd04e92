# SPDX-License-Identifier: GPL-3.0-or-later
"""The global bottleneck over all tokens of a raster, streamed from disk strip by strip.

Same arithmetic as `GlobalContext.forward` on the whole grid; memory depends on the width of one
row of blocks, not on the number of tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.sealed import read_sealed, write_sealed
from dehaze_core.engine.tokens.context_backends import (
    BoundedAttention,
    ContextBackend,
    ContextKind,
    ExactAttention,
)
from dehaze_core.engine.tokens.hidden_tokens import STRIP_TOKENS, HiddenTokens, to_cpu
from dehaze_core.engine.tokens.hyper_context import HyperAttention
from dehaze_core.engine.tokens.token_file import TokenFile
from dehaze_core.grid import BlockGrid, Window
from dehaze_core.models.streaming import SceneHaze, SceneValues, TokenNetwork


def choose_backend(kind: ContextKind, rows: int, cols: int, budget: int) -> ContextBackend:
    """Return the way in which the tokens of a raster look at each other.

    Args:
        kind: A way, or `auto`: exact as long as the budget suffices, then bounded.
        rows: Rows of tokens.
        cols: Columns of tokens.
        budget: Largest number of keys of bounded attention.
    """
    if kind == "auto":
        kind = "exact" if rows * cols <= budget else "bounded"
    if kind == "exact":
        return ExactAttention()
    return HyperAttention() if kind == "hyper" else BoundedAttention(budget)


@dataclass(frozen=True, slots=True)
class SceneContext:
    """Result of the context step: what pass B needs to know about the rest of the raster.

    Attributes:
        conditions: Conditions of every token, see `TokenNetwork.conditions`; None without tokens.
        scene: What is known of the whole scene, on the CPU.
    """

    conditions: TokenFile | None
    scene: SceneValues

    def at(self, cells: Window) -> NDArray[np.float32]:
        """Return the conditions of a window of tokens, (h, w, K); K is 0 without tokens."""
        if self.conditions is None:
            return np.empty((cells.height, cells.width, 0), np.float32)
        return self.conditions.read(cells)

    def close(self) -> None:
        """Close the file of the conditions."""
        if self.conditions is not None:
            self.conditions.close()


class ContextStep:
    """Runs the bottleneck on the tokens of pass A.

    Args:
        network: The model.
        device: Where it runs.
        grid: Blocks of the raster; tokens are its cells.
        tokens: (C + 1, R, C) store of pass A: tokens and, last, their weights.
        folder: Where the scratch files, the conditions and the marker of completion are kept.
        backend: How tokens look at each other; `auto` by default.
    """

    def __init__(
        self,
        network: TokenNetwork,
        device: torch.device,
        grid: BlockGrid,
        tokens: ResultStore,
        folder: Path,
        backend: ContextBackend | None = None,
    ) -> None:
        self.network = network
        self.device = device
        self.tokens = tokens
        self.folder = folder
        self.rows, self.cols = grid.cell_rows, grid.cell_cols
        self.backend = backend or choose_backend(
            "auto", self.rows, self.cols, network.context_budget
        )

    def run(self, progress: Callable[[float], None]) -> SceneContext | None:
        """Return the conditions of all tokens, from disk where an earlier run has finished them.

        A raster without a single valid pixel has no context: the result is None.

        Args:
            progress: Told the share of the step that is done, 0..1.
        """
        finished = self._load_finished()
        if finished is not None:
            return finished
        with torch.inference_mode():
            hidden = self._hidden()
            try:
                self._embed(hidden)
                if not hidden.weight.any():
                    return None
                self._update(hidden, progress)
                context = self._finish(hidden)
            finally:
                hidden.delete()
        progress(1.0)
        return context

    def _hidden(self) -> HiddenTokens:
        """Make room for hidden states of the length that the bottleneck gives them."""
        token = torch.zeros(1, 1, 1, self.network.token_width, device=self.device)
        width = self.network.context.embed(token, 0, 1).shape[-1]
        weight = np.zeros((self.rows, self.cols), np.float32)
        return HiddenTokens(self.folder, weight, width, self.device)

    def _embed(self, hidden: HiddenTokens) -> None:
        for row, tokens, weight in self._token_rows():
            hidden.weight[row : row + len(weight)] = weight
            hidden.write(row, self.network.context.embed(tokens, row, self.rows))

    def _update(self, hidden: HiddenTokens, progress: Callable[[float], None]) -> None:
        layers = self.network.context.each_layer()
        steps = len(layers) + 2
        progress(1 / steps)
        for number, layer in enumerate(layers):

            def told(share: float, done: int = number + 1) -> None:
                progress((done + share) / steps)

            self.backend.update(layer, number, hidden, told)

    def _token_rows(self) -> Iterator[tuple[int, Tensor, NDArray[np.float32]]]:
        """Yield strips of tokens: first row, tokens (1, r, C, D), weights (r, C)."""
        step = max(1, STRIP_TOKENS // self.cols)
        for top in range(0, self.rows, self.tokens.chunk):
            stored = self._row_of_chunks(top)
            for row in range(0, len(stored), step):
                strip = stored[row : row + step]
                tokens = torch.from_numpy(np.ascontiguousarray(strip[..., :-1]))[None]
                yield top + row, tokens.to(self.device), strip[..., -1]

    def _row_of_chunks(self, top: int) -> NDArray[np.float32]:
        """Return all tokens, last their weights, of a row of chunks, (r, C, C + 1)."""
        size = self.tokens.chunk
        height = min(size, self.rows - top)
        rows = np.empty((height, self.cols, self.network.token_width + 1), np.float32)
        for left in range(0, self.cols, size):
            chunk = Window(top, left, size, size).clipped(self.rows, self.cols)
            rows[:, left : left + size] = self.tokens.read(chunk).transpose(1, 2, 0)
        return rows

    def _finish(self, hidden: HiddenTokens) -> SceneContext:
        votes, trust = torch.zeros(()), torch.zeros(())
        for strip in hidden.strips():
            window = Window(strip.row, 0, strip.row_stop - strip.row, self.cols)
            strip_votes, strip_trust = self.network.scene_sums(*hidden.read_window(window))
            votes = votes + strip_votes.double().cpu()
            trust = trust + strip_trust.double().cpu()
        conditions = self._open_conditions()
        checksum = 0
        for row, tokens, weight in self._token_rows():
            window = Window(row, 0, len(weight), self.cols)
            states, _ = hidden.read_window(window)
            values = to_cpu(self.network.conditions(tokens, states)[0])
            conditions.write_rows(row, values)
            checksum = zlib.crc32(values.data, checksum)
        conditions.sync()
        marker = {"crc32": checksum, "votes": votes.tolist(), "trust": trust.tolist()}
        write_sealed(self._marker, marker)
        return SceneContext(conditions, self._scene_haze(votes, trust))

    def _load_finished(self) -> SceneContext | None:
        """Return the conditions of an earlier run if they are complete and undamaged."""
        marker = read_sealed(self._marker)
        if marker is None:
            return None
        votes = torch.tensor(marker["votes"], dtype=torch.float64)
        trust = torch.tensor(marker["trust"], dtype=torch.float64)
        conditions = self._open_conditions()
        checksum = 0
        step = max(1, STRIP_TOKENS // self.cols)
        for row in range(0, self.rows, step):
            stored = conditions.read_rows(row, min(row + step, self.rows))
            checksum = zlib.crc32(stored.data, checksum)
        if checksum != marker["crc32"]:
            conditions.close()
            return None
        return SceneContext(conditions, self._scene_haze(votes, trust))

    @property
    def _marker(self) -> Path:
        return self.folder / "context.json"

    def _open_conditions(self) -> TokenFile:
        width = self.network.condition_width
        return TokenFile(self.folder / "conditions.f32", self.rows, self.cols, width)

    def _scene_haze(self, votes: Tensor, trust: Tensor) -> SceneHaze:
        return self.network.scene_haze(votes.float(), trust.float())
