# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed and memory of the passes over the pixels in PyTorch and in onnxruntime, on the CPU.

    python -m benchmarks.backends                          all cores, blocks of 1,024 px
    python -m benchmarks.backends --threads 1 --side 512

Networks are untrained, which makes no difference to either. Memory is how far the process grows
over what it takes before the passes, for each pixel of the block: `Footprint.bytes_per_px` has to
cover it. Every network and backend has a process of its own, so that none gets memory that another
has left.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable

import psutil
import torch

from benchmarks.speed import MIB, MemoryWatch, say
from dehaze_core.engine.backend import backend_of, with_backend
from dehaze_core.engine.device import choose_device, use_threads
from dehaze_core.engine.memory import keep_freed_memory, release_freed_memory
from dehaze_core.models.architectures import build_network
from dehaze_core.models.streaming import (
    TOKEN_PX,
    OverviewNetwork,
    SceneHaze,
    StreamedNetwork,
    TokenNetwork,
)

ARCHITECTURES = ("dehazexl-lite", "distilled")


def passes(network: StreamedNetwork, side: int) -> dict[str, Callable[[], object]]:
    """Return the passes that a run takes over every block, by name, on random pixels."""
    rows = side // TOKEN_PX
    rgb, valid = torch.rand(1, 3, side, side), torch.ones(1, 1, side, side)
    if isinstance(network, OverviewNetwork):
        small = (..., slice(8 * TOKEN_PX), slice(8 * TOKEN_PX))
        seen = network.look(rgb[small], valid[small], torch.ones(1, 8, 8))
        none = torch.zeros(1, rows, rows, 0)
        return {"estimate": lambda: network.estimate(rgb, valid, none, seen)}
    assert isinstance(network, TokenNetwork)
    given = torch.rand(1, rows, rows, network.condition_width)
    scene = SceneHaze(torch.ones(1, 3), torch.ones(1, 1))
    return {
        "encode": lambda: network.encode(rgb, valid),
        "estimate": lambda: network.estimate(rgb, valid, given, scene),
    }


def measure(architecture: str, backend: str, threads: int | None, side: int, repeats: int) -> None:
    """Print speed and memory of one network in one backend."""
    keep_freed_memory()
    device, threads = choose_device("cpu"), use_threads(threads)
    network = build_network(architecture).eval().requires_grad_(False)
    network = with_backend(network, backend, device, threads)  # type: ignore[arg-type]
    with torch.inference_mode():
        each = passes(network, side)
        release_freed_memory()
        before = psutil.Process().memory_info().rss // MIB
        watch = MemoryWatch()
        watch.start()
        taken = {name: _best_seconds(work, repeats) for name, work in each.items()}
        grown = watch.stop() - before
    mpx = side**2 / 1e6
    total, busy = (mpx / sum(seconds[i] for seconds in taken.values()) for i in (0, 1))
    parts = ", ".join(f"{name} {mpx / seconds[0]:.2f}" for name, seconds in taken.items())
    say(
        f"{architecture}, {backend_of(network)}, {threads} threads, {side} px: "
        f"{total:.2f} Mpx/s ({parts}), {busy:.2f} Mpx a second of processor time, "
        f"{grown * MIB / side**2:.0f} bytes/px"
    )


def _best_seconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the shortest time and the least processor time.

    What else the machine does only ever adds to them, less to the latter.
    """
    work()
    wall, busy = [], []
    for _ in range(repeats):
        start, start_busy = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        busy.append(time.process_time() - start_busy)
    return min(wall), min(busy)


def main() -> None:
    """Print a line for each network and backend."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    spawning = multiprocessing.get_context("spawn")
    for architecture in ARCHITECTURES:
        for backend in ("torch", "onnxruntime"):
            work = (architecture, backend, options.threads, options.side, options.repeats)
            process = spawning.Process(target=measure, args=work)
            process.start()
            process.join()


if __name__ == "__main__":
    main()
