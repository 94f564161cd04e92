# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed of the network alone, and from file to file.

    python -m benchmarks.speed network            one pass over blocks of 1,024 px
    python -m benchmarks.speed file --side 10000  a tiled 8-bit GeoTIFF to a COG with overviews
    python -m benchmarks.speed file --side 30000 --virtual   the same from a procedural source

The second kind prints the peak resident memory of the process and its children, too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch

from benchmarks.rasters import write_tiled, write_virtual
from dehaze_core.engine import RunSettings, Silent, run
from dehaze_core.engine.device import choose_device, use_threads
from dehaze_core.engine.memory import keep_freed_memory
from dehaze_core.models import load_model
from dehaze_core.models.streaming import TOKEN_PX

MIB = 2**20


class MemoryWatch(threading.Thread):
    """Samples the resident memory of this process and its children until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Take a sample every 50 ms."""
        process = psutil.Process()
        while not self._stop_asked.wait(0.05):
            total = process.memory_info().rss
            for child in process.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total)

    def stop(self) -> int:
        """End the sampling and return the peak in MiB."""
        self._stop_asked.set()
        self.join()
        return self.peak // MIB


def network(device_name: str, side: int = 1024, repeats: int = 8) -> None:
    """Print megapixels per second of one pass of the network over a block."""
    keep_freed_memory()
    threads = use_threads(None)
    device = choose_device(device_name)  # type: ignore[arg-type]
    model = load_model("dehazexl-lite").network.to(device.torch)
    rgb = torch.rand(1, 3, side, side, device=device.torch)
    mask = torch.ones(1, 1, side, side, device=device.torch)
    weight = torch.ones(1, side // TOKEN_PX, side // TOKEN_PX, device=device.torch)
    seconds = []
    with torch.inference_mode():
        for _ in range(repeats + 2):
            start = time.perf_counter()
            model(rgb, mask, weight)
            if device.torch.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    rates = [side**2 / 1e6 / s for s in seconds[2:]]
    say(
        f"network only, {device.description}, {threads} threads, block {side} px: "
        f"{statistics.median(rates):.1f} Mpx/s (best {max(rates):.1f})"
    )


def file_to_file(side: int, virtual: bool, device: str, block: int | None) -> None:
    """Print megapixels per second and peak memory from a raster on disk to a finished COG."""
    with tempfile.TemporaryDirectory(prefix="dehaze-benchmark-") as folder:
        source = Path(folder) / ("source.vrt" if virtual else "source.tif")
        (write_virtual if virtual else write_tiled)(source, side)
        settings = RunSettings(
            source=str(source),
            destination=str(Path(folder) / "out.tif"),
            device=device,  # type: ignore[arg-type]
            block_size=block,
        )
        watch = MemoryWatch()
        watch.start()
        report = run(settings, Steps())
        peak = watch.stop()
        size = Path(settings.destination).stat().st_size / MIB
    say(
        f"file to file, {side} x {side} x 3 uint8, {report.device}: {report.seconds:.1f} s, "
        f"{report.mpx_per_second:.2f} Mpx/s, blocks of {report.block_size} px, "
        f"peak memory {peak} MiB, output {size:.0f} MiB"
    )


class Steps(Silent):
    """Prints how long each step of a run took."""

    def __init__(self) -> None:
        self._step = "Starting"
        self._since = time.perf_counter()

    def update(self, fraction: float, text: str) -> None:
        """Print the duration of the step that has just ended."""
        if text != self._step:
            now = time.perf_counter()
            say(f"  {self._step}: {now - self._since:.1f} s")
            self._step, self._since = text, now


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the benchmark that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=("network", "file"))
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--virtual", action="store_true")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--block", type=int)
    options = parser.parse_args()
    if options.kind == "network":
        network(options.device)
    else:
        file_to_file(options.side, options.virtual, options.device, options.block)


if __name__ == "__main__":
    main()
