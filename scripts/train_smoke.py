# SPDX-License-Identifier: GPL-3.0-or-later
"""Train for some minutes on procedural ground, and make sure that something was learnt.

Run by `make train-smoke` and in continuous integration: the recipe `lite-smoke` from a folder of
pictures to weights that load, with a lower held-out loss than before.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import typer
from PIL import Image

from dehaze_core.haze.noise import fractal_noise
from dehaze_core.models import load_model
from dehaze_core.scene.srgb import encode_uint8
from dehaze_core.training.log import LOSS, TrainLog
from dehaze_core.training.recipe import load_recipe
from dehaze_core.training.session import TrainFolders, train

SITES, PICTURES = 10, 3
SIDE = 512
LEAST_FALL = 0.1


def clear_ground(rng: np.random.Generator) -> np.ndarray:
    """Return a picture (512, 512, 3) uint8 of patches of different ground, texture and shadows."""
    line = np.arange(SIDE) / rng.uniform(60, 200)
    rows, cols = np.meshgrid(line, line, indexing="ij")
    kinds = fractal_noise(rows, cols, int(rng.integers(2**31)), 3)
    palette = rng.uniform(0.02, 0.5, (4, 3))
    ground = palette[np.digitize(kinds, (-0.7, 0.0, 0.7))].transpose(2, 0, 1)
    texture = np.exp(0.4 * fractal_noise(rows * 8, cols * 8, int(rng.integers(2**31)), 5))
    shadow = np.where(fractal_noise(rows * 5, cols * 5, int(rng.integers(2**31)), 2) > 1.2, 0.1, 1)
    linear = np.clip(ground * texture * shadow, 0.0, 1.0).astype(np.float32)
    return encode_uint8(linear).transpose(1, 2, 0)


def main() -> None:
    """Train and check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/smoke"))
    parser.add_argument("--minutes", type=float, help="instead of the recipe's")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    data, out = options.folder / "data", options.folder / "out"
    rng = np.random.default_rng(4)
    for site in range(SITES):
        (data / f"site-{site}").mkdir(parents=True)
        for number in range(PICTURES):
            picture = Image.fromarray(clear_ground(rng))
            picture.save(data / f"site-{site}" / f"{number}.png")
    recipe = load_recipe("lite-smoke", minutes=options.minutes)
    train(TrainFolders(data, None, out), recipe, "cpu", None, typer.echo)
    load_model(recipe.architecture, out)
    losses = [row[LOSS] for row in TrainLog(out).rows()]
    if not losses[-1] < losses[0] - LEAST_FALL:
        raise SystemExit(f"The held-out loss went from {losses[0]:.3f} to {losses[-1]:.3f}.")
    typer.echo(f"The held-out loss fell from {losses[0]:.3f} to {losses[-1]:.3f}.")


if __name__ == "__main__":
    main()
