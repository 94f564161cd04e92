# SPDX-License-Identifier: GPL-3.0-or-later
"""Time and memory of the context step alone, on the tokens of a raster of any size.

    python -m benchmarks.context --rows 300 --cols 300 --network lite --backend bounded
    python -m benchmarks.context --rows 3125 --cols 3125 --network base --backend hyper

The second line is a raster of 100,000 x 100,000 px. Tokens and weights are made up; a corner of the
raster has no data. Files lie in a folder of their own, which is removed at the end.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.speed import say
from dehaze_core.engine.device import choose_device, use_threads
from dehaze_core.engine.memory import (
    keep_freed_memory,
    peak_memory_mib,
    release_freed_memory,
)
from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.tokens.context import ContextStep, choose_backend
from dehaze_core.engine.tokens.context_backends import ContextBackend
from dehaze_core.grid import BlockGrid, Window
from dehaze_core.models.architectures import build_network
from dehaze_core.models.streaming import TOKEN_PX, TokenNetwork

BLOCK_PX = 2048

GB = 1e9


def measure(
    network: TokenNetwork, grid: BlockGrid, backend: ContextBackend, device: str, folder: Path
) -> None:
    """Print how long the context step takes, and the largest memory of the process so far."""
    start = time.perf_counter()
    store = token_store(grid, network.token_width, folder)
    release_freed_memory()
    say(f"  tokens made in {time.perf_counter() - start:.0f} s, {peak_memory_mib()} MiB")
    where = choose_device(device)  # type: ignore[arg-type]
    step = ContextStep(network.to(where.torch), where.torch, grid, store, folder, backend)
    start, busy = time.perf_counter(), time.process_time()
    context = step.run(lambda _: None)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    if context is not None:
        context.conditions.close()
    tokens = grid.cell_rows * grid.cell_cols
    say(
        f"{tokens} tokens of {network.token_width} values, {backend.name}, {where.description}: "
        f"{seconds:.1f} s ({busy:.1f} s of processor time), "
        f"peak memory {peak_memory_mib()} MiB"
    )


def token_store(grid: BlockGrid, width: int, folder: Path) -> ResultStore:
    """Return a store of pass A, filled with smooth tokens under noise."""
    store = ResultStore.open(
        folder / "tokens",
        shape=(width + 1, grid.cell_rows, grid.cell_cols),
        dtype="float32",
        chunk=grid.size // grid.cell,
        settings_hash="benchmark",
    )
    for block in grid:
        window = grid.cells(block.core)
        store.write(window, procedural_tokens(window, width, seed=block.index))
    return store


def procedural_tokens(window: Window, width: int, seed: int) -> NDArray[np.float32]:
    """Return tokens and, last, weights (width + 1, h, w), which are 0 in the upper left corner."""
    rng = np.random.default_rng(seed)
    rows = np.arange(window.row, window.row_stop, dtype=np.float32)[:, None]
    cols = np.arange(window.col, window.col_stop, dtype=np.float32)[None]
    channel = np.arange(width, dtype=np.float32)[:, None, None]
    tokens = rng.standard_normal((width + 1, window.height, window.width), np.float32)
    tokens[:-1] += np.sin(channel + rows * (0.01 + channel / 5000)) * np.cos(cols * 0.02 + channel)
    tokens[-1] = rows + cols > 60
    return tokens


def needed_bytes(network: TokenNetwork, backend: ContextBackend, tokens: int) -> int:
    """Return the disk space that tokens, hidden states, conditions and scratch files take."""
    widths = (network.token_width + 1) + network.token_width + network.condition_width
    scratch = max(backend.scratch_bytes(layer, tokens) for layer in network.context.each_layer())
    return tokens * widths * 4 + scratch


def main() -> None:
    """Run the benchmark that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300, help="rows of tokens, 32 px each")
    parser.add_argument("--cols", type=int, default=300, help="columns of tokens")
    parser.add_argument("--network", choices=("base", "small", "lite"), default="lite")
    parser.add_argument("--backend", choices=("auto", "exact", "bounded", "hyper"), default="auto")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    keep_freed_memory()
    use_threads(options.threads)
    torch.manual_seed(1)
    network = build_network(f"dehazexl-{options.network}").eval()
    rows, cols = options.rows, options.cols
    backend = choose_backend(options.backend, rows, cols, network.context_budget)
    needed = needed_bytes(network, backend, rows * cols)
    free = shutil.disk_usage(options.folder).free
    say(f"{rows} x {cols} tokens, {needed / GB:.1f} GB on disk, {free / GB:.1f} GB are free")
    if needed > free:
        parser.exit(
            1, f"{options.folder} is too small: free some space or choose another --folder.\n"
        )
    grid = BlockGrid(rows * TOKEN_PX, cols * TOKEN_PX, BLOCK_PX, 0, TOKEN_PX)
    with tempfile.TemporaryDirectory(prefix="dehaze-context-", dir=options.folder) as folder:
        measure(network, grid, backend, options.device, Path(folder))


if __name__ == "__main__":
    main()
