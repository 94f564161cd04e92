# SPDX-License-Identifier: GPL-3.0-or-later
"""What a physical model lacks: the same haze maps, with a little of the truth told.

    python -m benchmarks.limits PAIRS --doc docs/quality.md

The first row of the table is the model. In the next ones the thickness of each picture is
multiplied by the one number that suits its clear version best, and so is the airlight. The last row
inverts the haze that the pairs were made with, where `trans/` and the columns `alpha` and
`airlight_linear` of a MANIFEST.csv tell it: no method that inverts the scattering model for a
picture of 8 bits can do better.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from dehaze_core.benchmark.document import insert_section
from dehaze_core.benchmark.tables import Table, number
from dehaze_core.engine.device import use_threads
from dehaze_core.engine.in_memory import PixelHaze, estimate_haze
from dehaze_core.haze.layers import correct
from dehaze_core.haze.physics import REFERENCE_WAVELENGTH, RGB_WAVELENGTHS
from dehaze_core.metrics.full_reference import psnr
from dehaze_core.metrics.pairs import Pair, Picture, find_pairs, load_picture
from dehaze_core.models import load_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite
from dehaze_core.scene import manifest_rows
from dehaze_core.scene.srgb import srgb_decode, srgb_encode

TITLE = "What is missing"
FACTORS = tuple(np.geomspace(0.4, 2.5, 17))
LEVELS = tuple(np.geomspace(0.7, 1.4, 9))
SEARCH_PX = 128
"""The factors are looked for on a picture of about this side."""

ROWS = (
    "as it is",
    "told one number a picture: how thick",
    "told two: how thick, how bright the airlight",
    "told all: the haze the pair was made with",
)
NOTE = (
    "PSNR in dB, means over pictures, of the haze maps of {model} with a little of the truth told: "
    "`python -m benchmarks.limits`."
)
GREEN = 1


def restored(linear: Tensor, haze: PixelHaze, factor: float = 1.0, level: float = 1.0) -> Picture:
    """Return the picture without a multiple of its haze, 8-bit."""
    clear = correct(linear, haze.thickness, haze.airlight * level, haze.ratios, factor)
    encoded = srgb_encode(clear.clamp(0.0, 1.0), peak=255.0).round().clamp(0, 255)
    picture: Picture = encoded.to(torch.uint8).permute(1, 2, 0).numpy()
    return picture


def scores(network: DehazeXLLite, pair: Pair, truth: PixelHaze | None) -> Iterator[float]:
    """Yield the PSNR of a pair for each of `ROWS`."""
    clear = load_picture(pair.clear)
    display = torch.tensor(load_picture(pair.hazy)).permute(2, 0, 1).float() / 255
    linear = srgb_decode(display)
    haze = estimate_haze(network, display, torch.ones(display.shape[1:]))
    yield _psnr(restored(linear, haze), clear)
    factor, level = best_factors(linear, haze, clear, (1.0,))
    yield _psnr(restored(linear, haze, factor, level), clear)
    factor, level = best_factors(linear, haze, clear, LEVELS)
    yield _psnr(restored(linear, haze, factor, level), clear)
    yield math.nan if truth is None else _psnr(restored(linear, truth), clear)


def best_factors(
    linear: Tensor, haze: PixelHaze, clear: Picture, levels: Iterable[float]
) -> tuple[float, float]:
    """Return the factors of thickness and airlight with the highest PSNR, on some of the pixels."""
    step = max(1, round(max(clear.shape) / SEARCH_PX))
    every = (..., slice(None, None, step), slice(None, None, step))
    few = PixelHaze(haze.thickness[every], haze.airlight[every], haze.ratios)
    some, wanted = linear[every], clear[::step, ::step]
    pairs = itertools.product(FACTORS, levels)
    return max(pairs, key=lambda factors: _psnr(restored(some, few, *factors), wanted))


def _psnr(picture: Picture, clear: Picture) -> float:
    return psnr(picture, clear, data_range=255)


def read_truth(folder: Path) -> dict[str, PixelHaze]:
    """Return the haze that pairs were made with, by name; empty where nothing tells."""
    return {row["id"]: _truth(folder, row) for row in manifest_rows(folder) if row.get("trans")}


def _truth(folder: Path, row: dict[str, str]) -> PixelHaze:
    size = int(row["width"]), int(row["height"])
    with Image.open(folder / row["trans"]) as image:
        fitted = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
        t = torch.tensor(np.asarray(fitted)).float() / 255
    ratios = (np.array(RGB_WAVELENGTHS) / REFERENCE_WAVELENGTH) ** -float(row["alpha"])
    airlight = torch.tensor([float(value) for value in row["airlight_linear"].split("/")])
    return PixelHaze(
        -t.clamp_min(1 / 255).log()[None] / float(ratios[GREEN]),
        airlight[:, None, None].expand(-1, *t.shape),
        torch.from_numpy(ratios).float()[:, None, None],
    )


def main() -> None:
    """Score all hazy pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model", default="dehazexl-lite")
    parser.add_argument("--doc", type=Path, help="Markdown file that receives the table")
    options = parser.parse_args()
    use_threads(None)
    network = load_model(options.model).network
    if not isinstance(network, DehazeXLLite):
        parser.error(f"{options.model} has no haze maps")
    pairs = [pair for pair in find_pairs(options.pairs) if pair.level != "L0"]
    truth = read_truth(options.pairs)
    with torch.inference_mode():
        found = [(pair, list(scores(network, pair, truth.get(pair.name)))) for pair in pairs]
    groups = {
        level: [s for p, s in found if p.level == level] for level in ("L1", "L2", "L3", "L4")
    }
    groups |= {"all": [s for _, s in found], "large": [s for p, s in found if p.large]}
    cells = [
        (name, *(number(fmean(s[row] for s in group), 2) for group in groups.values() if group))
        for row, name in enumerate(ROWS)
    ]
    headings = ("haze maps", *(name for name, group in groups.items() if group))
    table = Table(TITLE, NOTE.format(model=options.model), headings, tuple(cells))
    typer.echo(table.markdown(2))
    if options.doc is not None:
        insert_section(options.doc, TITLE, table.markdown(2))


if __name__ == "__main__":
    main()
