# SPDX-License-Identifier: GPL-3.0-or-later
"""The published network in one pass, and as the engine runs it, on a raster in memory.

    python -m benchmarks.published --side 2048 --doc docs/performance.md

- plain: one pass as the published code does it: 16 patches at once, all features kept, the biases
  by position computed for every batch;
- kept: ours in one pass, features of the first pass kept in memory;
- streamed: ours in two passes, features thrown away and computed again.

Every way runs in a process of its own, so that peaks of memory do not mix. Weights are random. The
results must agree, or the times say nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor

from dehaze_core.benchmark.document import insert_section
from dehaze_core.benchmark.tables import Table
from dehaze_core.engine.device import choose_device, use_threads
from dehaze_core.engine.memory import keep_freed_memory, peak_memory_mib
from dehaze_core.models.architectures import build_network
from dehaze_core.models.dehazexl.patches import PATCH_PX, channels_first, patches_of
from dehaze_core.models.dehazexl.published import DehazeXL
from dehaze_core.models.streaming import TOKEN_PX, SceneHaze

TITLE = "The published network"
NOTE = (
    "{name} on {side:,} x {side:,} px in memory, float32, {device}: "
    "`python -m benchmarks.published`. *Plain* is one pass as the published code does it; *kept* "
    "and *streamed* are ours with and without the features of the first pass in memory."
)
AT_ONCE = 16
TOLERANCE = 1e-4

View = tuple[Tensor, Tensor, Tensor]


def plain(network: DehazeXL, view: View) -> Tensor:
    """Return the clear raster in one pass over batches of 16 patches, all features kept."""
    rgb, _, weight = view
    patches = patches_of(rgb, PATCH_PX).flatten(0, 2)
    features = []
    for batch in patches.split(AT_ONCE):
        _forget_biases(network)
        features.append(network.encoder(batch))
    deepest = torch.cat([each[-1] for each in features])
    side = rgb.shape[-1] // PATCH_PX
    tokens = _stitched(deepest, side)
    hidden = network.context(tokens, weight, network.context_budget)
    known = patches_of(channels_first(hidden), PATCH_PX // TOKEN_PX).flatten(0, 2)
    painted = []
    for batch, given, skips in zip(
        patches.split(AT_ONCE), known.split(AT_ONCE), features, strict=True
    ):
        _forget_biases(network)
        painted.append(batch + network.decoder(given.permute(0, 2, 3, 1), skips))
    return channels_first(_stitched(torch.cat(painted).permute(0, 2, 3, 1), side))


def kept(network: DehazeXL, view: View) -> Tensor:
    """Return the clear raster by the network's own single pass."""
    return network(*view).clear  # type: ignore[no-any-return]


def streamed(network: DehazeXL, view: View) -> Tensor:
    """Return the clear raster by two passes with the context between them."""
    rgb, valid, weight = view
    tokens = network.encode(rgb, valid)
    hidden = network.context(tokens, weight, network.context_budget)
    nothing = SceneHaze(rgb.new_zeros(1, 0), rgb.new_zeros(1, 0))
    return network.estimate(rgb, valid, network.conditions(tokens, hidden), nothing).clear


WAYS: dict[str, Callable[[DehazeXL, View], Tensor]] = {
    "plain": plain,
    "kept": kept,
    "streamed": streamed,
}


def _stitched(patches: Tensor, side: int) -> Tensor:
    """Return patches (side * side, s, s, C) as one map (1, side * s, side * s, C)."""
    rows = patches.unflatten(0, (side, side)).permute(0, 2, 1, 3, 4)
    return rows.flatten(2, 3).flatten(0, 1)[None]


def _forget_biases(network: DehazeXL) -> None:
    for module in network.modules():
        if hasattr(module, "_bias"):
            module._bias = None


def measure(way: str, architecture: str, side: int, device: str) -> dict[str, Any]:
    """Time a way and return seconds, peak memory and some values of the result."""
    keep_freed_memory()
    use_threads(None)
    where = choose_device(device)  # type: ignore[arg-type]
    torch.manual_seed(1)
    network = build_network(architecture).eval().to(where.torch)
    generator = torch.Generator().manual_seed(2)
    rgb = torch.rand(1, 3, side, side, generator=generator).to(where.torch)
    tokens = side // TOKEN_PX
    view = rgb, torch.ones_like(rgb[:, :1]), rgb.new_ones(1, tokens, tokens)
    with torch.inference_mode(), where.autocast_context():
        if not isinstance(network, DehazeXL):
            raise TypeError(f"{architecture} is not the published network")
        start = time.perf_counter()
        clear = WAYS[way](network, view)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "peak": peak_memory_mib(),
        "device": where.description,
        "values": clear.flatten()[:: clear.numel() // 1000].float().cpu().tolist(),
    }


def in_process(way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a way in a process of its own."""
    arguments = ["--way", way, "--side", str(options.side), "--network", options.network]
    command = [sys.executable, "-m", "benchmarks.published", "--device", options.device]
    output = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure all ways, check that they agree, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--side", type=int, default=2048, help="a multiple of 256")
    parser.add_argument("--network", default="dehazexl-base")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--doc", type=Path, help="Markdown file that receives the table")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        found = measure(options.way, options.network, options.side, options.device)
        typer.echo(json.dumps(found))
        return
    found = {way: in_process(way, options) for way in WAYS}
    reference = torch.tensor(found["plain"]["values"])
    for way, each in found.items():
        worst = float((torch.tensor(each["values"]) - reference).abs().max())
        if worst > TOLERANCE * float(reference.abs().max()):
            parser.exit(1, f"{way} differs from plain by {worst:.2g}.\n")
    rows = tuple(
        (
            way,
            f"{each['seconds']:.1f}",
            f"{options.side**2 / 1e6 / each['seconds']:.3f}",
            f"{found['plain']['seconds'] / each['seconds']:.2f}",
            f"{each['peak']:,}",
        )
        for way, each in found.items()
    )
    note = NOTE.format(name=options.network, side=options.side, device=found["plain"]["device"])
    table = Table(TITLE, note, ("way", "s", "Mpx/s", "speed, plain = 1", "peak, MiB"), rows)
    typer.echo(table.markdown(2))
    if options.doc is not None:
        insert_section(options.doc, TITLE, table.markdown(2))


if __name__ == "__main__":
    main()
