# SPDX-License-Identifier: GPL-3.0-or-later
"""Forecast and measured time and memory of whole runs, for models and rasters of many sizes.

    python -m benchmarks.sizes --doc docs/performance.md
    python -m benchmarks.sizes --models dehazexl-small --sides 2048 4096

Rasters are virtual: one procedural tile, repeated. A model without weights takes part with random
ones, which are as fast as any. Every run is a process of its own, so that peaks do not mix.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer

from benchmarks.rasters import write_virtual
from dehaze_core.benchmark.document import insert_section
from dehaze_core.benchmark.tables import Table
from dehaze_core.engine import RunSettings, Silent, run
from dehaze_core.engine.plan import make_plan
from dehaze_core.models import list_models, save_model
from dehaze_core.models.architectures import build_network

TITLE = "Any size"
NOTE = (
    "Three bands, 8 bit, virtual raster to cloud-optimised GeoTIFF, {device}; forecast by "
    "`dehaze plan`, measured by `python -m benchmarks.sizes`. Models without weights ran with "
    "random ones."
)
HEADINGS = (
    "model, side in px", "context", "forecast, s", "measured, s", "Mpx/s",
    "forecast, MiB", "peak, MiB", "on the device, MiB",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A model and the side of a square raster, in px."""

    model: str
    side: int


def measure(case: Case, device: str) -> dict[str, Any]:
    """Run a case in this process and return what was forecast and measured."""
    with tempfile.TemporaryDirectory(prefix="dehaze-benchmark-") as folder:
        source, destination = Path(folder, "source.vrt"), Path(folder, "out.tif")
        write_virtual(source, case.side)
        settings = RunSettings(
            source=str(source),
            destination=str(destination),
            model=_installed(case.model, Path(folder)),
            device=device,  # type: ignore[arg-type]
        )
        plan = make_plan(settings)
        report = run(settings, Silent())
    on_device = torch.cuda.max_memory_allocated() >> 20 if torch.cuda.is_available() else 0
    return {"plan": plan.as_dict(), "report": report.as_dict(), "on_device": on_device}


def _installed(model: str, folder: Path) -> str:
    """Return the name of a model; of an architecture without weights, one with random weights."""
    if model in {card.name for card in list_models()}:
        return model
    os.environ["DEHAZE_MODELS"] = str(folder)
    torch.manual_seed(1)
    return save_model(build_network(model), "random-weights", folder, {}).name


def in_process(case: Case, device: str) -> dict[str, Any]:
    """Run a case in a process of its own."""
    arguments = ["--one", case.model, str(case.side), "--device", device]
    command = [sys.executable, "-m", "benchmarks.sizes", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def row(case: Case, found: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of the table."""
    plan, report = found["plan"], found["report"]
    return (
        f"{case.model} {case.side:,}",
        plan["context"],
        f"{plan['seconds']:.0f}",
        f"{report['seconds']:.1f}",
        f"{report['mpx_per_second']:.2f}",
        f"{plan['memory_mib']:,}",
        f"{report['peak_memory_mib']:,}",
        f"{found['on_device']:,}" if found["on_device"] else "-",
    )


def main() -> None:
    """Measure every case, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["dehazexl-lite", "dehazexl-small"])
    parser.add_argument("--sides", nargs="+", type=int, default=[2048, 4096, 8192, 16_384, 30_000])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--doc", type=Path, help="Markdown file that receives the table")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case = Case(options.one[0], int(options.one[1]))
        typer.echo(json.dumps(measure(case, options.device)))
        return
    rows: list[tuple[str, ...]] = []
    for case in (Case(model, side) for model in options.models for side in options.sides):
        found = in_process(case, options.device)
        rows.append(row(case, found))
        typer.echo("  ".join(rows[-1]))
        if options.doc is not None:
            # After every case: the largest ones take long, and may be given up.
            note = NOTE.format(device=found["report"]["device"])
            table = Table(TITLE, note, HEADINGS, tuple(rows))
            insert_section(options.doc, TITLE, table.markdown(2))


if __name__ == "__main__":
    main()
