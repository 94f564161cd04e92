# SPDX-License-Identifier: GPL-3.0-or-later
"""The global bottleneck over all tokens of a raster, streamed from disk strip by strip.

Same arithmetic as `ContextNetwork.forward` on the whole grid; memory depends on the width of one
row of tokens, not on their number.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.sealed import read_sealed, write_sealed
from dehaze_core.engine.token_file import TokenFile
from dehaze_core.grid import BlockGrid, Window
from dehaze_core.models.dehazexl.context import ContextLayer, Keys, pooling_factor
from dehaze_core.models.dehazexl.lite import LOCAL, DehazeXLLite, SceneHaze

STRIP_TOKENS = 4096
"""Tokens worked on at a time."""


@dataclass(frozen=True, slots=True)
class SceneContext:
    """Result of the context step: what pass B needs to know about the rest of the raster.

    Attributes:
        conditions: Conditions of every token, see `DehazeXLLite.conditions`.
        scene: Haze of the whole scene, on the CPU.
    """

    conditions: TokenFile
    scene: SceneHaze


class ContextStep:
    """Runs the bottleneck on the tokens of pass A.

    Args:
        network: The model.
        device: Where it runs.
        grid: Blocks of the raster; tokens are its cells.
        tokens: (C + 1, R, C) store of pass A: tokens and, last, their weights.
        folder: Where the scratch file, the conditions and the marker of completion are kept.
    """

    def __init__(
        self,
        network: DehazeXLLite,
        device: torch.device,
        grid: BlockGrid,
        tokens: ResultStore,
        folder: Path,
    ) -> None:
        self.network = network
        self.device = device
        self.grid = grid
        self.tokens = tokens
        self.folder = folder
        self.rows, self.cols = grid.cell_rows, grid.cell_cols
        self.width = network.config.widths[-1]
        self.factor = pooling_factor(self.rows, self.cols, network.config.context_budget)
        self.weight = np.zeros((self.rows, self.cols), np.float32)

    def run(self, progress: Callable[[float], None]) -> SceneContext | None:
        """Return the conditions of all tokens, from disk where an earlier run has finished them.

        A raster without a single valid pixel has no context: the result is None.

        Args:
            progress: Told the share of the step that is done, 0..1.
        """
        finished = self._load_finished()
        if finished is not None:
            return finished
        layers = self.network.context.each_layer()
        steps = len(layers) + 2
        scratch = self.folder / "hidden.f32"
        with ExitStack() as stack, torch.inference_mode():
            hidden = stack.enter_context(TokenFile(scratch, self.rows, self.cols, self.width))
            self._embed(hidden)
            if not self.weight.any():
                return None
            progress(1 / steps)
            for number, layer in enumerate(layers):
                self._update(hidden, layer, self._keys(hidden, layer))
                progress((number + 2) / steps)
            context = self._finish(hidden)
        scratch.unlink()
        progress(1.0)
        return context

    def _embed(self, hidden: TokenFile) -> None:
        for row, tokens, weight in self._token_rows():
            self.weight[row : row + weight.shape[0]] = weight
            hidden.write_rows(row, self._cpu(self.network.context.embed(tokens, row, self.rows)))

    def _token_rows(self) -> Iterator[tuple[int, Tensor, NDArray[np.float32]]]:
        """Yield strips as tall as a block: first row, tokens (1, r, C, D), weights (r, C)."""
        step = self.grid.size // self.grid.cell
        for row in range(0, self.rows, step):
            stored = self.tokens.read(Window(row, 0, min(step, self.rows - row), self.cols))
            tokens = torch.from_numpy(stored[:-1]).permute(1, 2, 0)[None].contiguous()
            yield row, tokens.to(self.device), stored[-1].astype(np.float32)

    def _keys(self, hidden: TokenFile, layer: ContextLayer) -> Keys:
        pooled, weights = [], []
        step = max(1, STRIP_TOKENS // self.cols // self.factor) * self.factor
        for row in range(0, self.rows, step):
            stop = min(row + step, self.rows)
            strip = self._gpu(hidden.read_rows(row, stop))
            values, weight = layer.pooled(strip, self._gpu(self.weight[row:stop]), self.factor)
            pooled.append(values)
            weights.append(weight)
        return layer.keys(torch.cat(pooled, dim=1), torch.cat(weights, dim=1))

    def _update(self, hidden: TokenFile, layer: ContextLayer, keys: Keys) -> None:
        for row, stop in self._strips():
            strip = layer(self._gpu(hidden.read_rows(row, stop)), keys)
            hidden.write_rows(row, self._cpu(strip))

    def _strips(self) -> Iterator[tuple[int, int]]:
        step = max(1, STRIP_TOKENS // self.cols)
        for row in range(0, self.rows, step):
            yield row, min(row + step, self.rows)

    def _finish(self, hidden: TokenFile) -> SceneContext:
        votes = torch.zeros(1, 4, dtype=torch.float64)
        trust = torch.zeros(1, 1, dtype=torch.float64)
        for row, stop in self._strips():
            strip, weight = self._gpu(hidden.read_rows(row, stop)), self._gpu(self.weight[row:stop])
            strip_votes, strip_trust = self.network.scene_sums(strip, weight)
            votes += strip_votes.double().cpu()
            trust += strip_trust.double().cpu()
        conditions = self._open_conditions()
        checksum = 0
        for row, tokens, shares in self._token_rows():
            strip = self._gpu(hidden.read_rows(row, row + shares.shape[0]))
            values = self._cpu(self.network.conditions(tokens, strip))
            conditions.write_rows(row, values)
            checksum = zlib.crc32(values.data, checksum)
        conditions.sync()
        marker = {"crc32": checksum, "votes": votes.tolist(), "trust": trust.tolist()}
        write_sealed(self._marker, marker)
        return SceneContext(conditions, _scene_haze(votes, trust))

    def _load_finished(self) -> SceneContext | None:
        """Return the conditions of an earlier run if they are complete and undamaged."""
        marker = read_sealed(self._marker)
        if marker is None:
            return None
        votes = torch.tensor(marker["votes"], dtype=torch.float64)
        trust = torch.tensor(marker["trust"], dtype=torch.float64)
        conditions = self._open_conditions()
        checksum = 0
        step = self.grid.size // self.grid.cell
        for row in range(0, self.rows, step):
            stored = conditions.read_rows(row, min(row + step, self.rows))
            checksum = zlib.crc32(stored.data, checksum)
        if checksum != marker["crc32"]:
            conditions.close()
            return None
        return SceneContext(conditions, _scene_haze(votes, trust))

    @property
    def _marker(self) -> Path:
        return self.folder / "context.json"

    def _open_conditions(self) -> TokenFile:
        return TokenFile(self.folder / "conditions.f32", self.rows, self.cols, self.width + LOCAL)

    def _gpu(self, values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values)[None].to(self.device)

    @staticmethod
    def _cpu(values: Tensor) -> NDArray[np.float32]:
        result: NDArray[np.float32] = values[0].float().cpu().numpy()
        return np.ascontiguousarray(result)


def _scene_haze(votes: Tensor, trust: Tensor) -> SceneHaze:
    return DehazeXLLite.scene_haze(votes.float(), trust.float())
