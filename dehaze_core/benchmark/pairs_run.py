# SPDX-License-Identifier: GPL-3.0-or-later
"""All methods over a folder of pairs: restore, save, read back, score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from dehaze_core.benchmark.methods import Contest
from dehaze_core.benchmark.results import PairResults
from dehaze_core.benchmark.thumbnails import save_thumbnail
from dehaze_core.engine.progress import Progress
from dehaze_core.metrics.pairs import LoadedPair, find_pairs, load_picture, write_rows

SCORES = "scores.csv"

Item = TypeVar("Item")


def restored_path(method: str, name: str) -> Path:
    """Return where the restored picture of a pair is kept, relative to the output folder."""
    return Path("restored", method, f"{name}.png")


def thumbnail_path(kind: str, name: str) -> Path:
    """Return where a thumbnail is kept, relative to the output folder.

    Args:
        kind: `hazy`, `clear` or `restored/METHOD`.
        name: Name of the pair.
    """
    return Path("thumbnails", kind, f"{name}.jpg")


def spread_out(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Return at most `limit` items, evenly spread from the first to the last."""
    if limit is None or limit >= len(items):
        return list(items)
    last = len(items) - 1
    return [items[place * last // max(limit - 1, 1)] for place in range(limit)]


def run_pairs(
    folder: Path, out: Path, contest: Contest, limit: int | None, progress: Progress
) -> PairResults:
    """Run and score every method on every pair.

    Writes the restored pictures (PNG), thumbnails of all pictures, and `scores.csv`.

    Args:
        folder: Holds `hazy/` and `clear/`.
        out: Output folder.
        contest: The methods.
        limit: Number of pairs at most; all if None.
        progress: Listener.

    Raises:
        InputError: The folder is not one of pairs, or a picture cannot be read.
        ModelError: A method returned no picture.
        OutputError: The output folder cannot be written (OUTPUT_FOLDER).
    """
    # In this order a few pairs that are spread over all hold every level and a large scene.
    ordered = sorted(find_pairs(folder), key=lambda pair: (pair.large, pair.level, pair.name))
    pairs = spread_out(ordered, limit)
    results = PairResults(contest, {method.name: [] for method in contest.methods})
    for number, pair in enumerate(pairs):
        loaded = LoadedPair.load(pair)
        save_thumbnail(loaded.hazy, out / thumbnail_path("hazy", pair.name))
        save_thumbnail(loaded.clear, out / thumbnail_path("clear", pair.name))
        for place, method in enumerate(contest.methods):
            share = (number + place / len(contest.methods)) / len(pairs)
            progress.update(share, f"{pair.name}: {method.name}")
            kept = out / restored_path(method.name, pair.name)
            results.scores[method.name].append(loaded.score(method.restore, kept))
            save_thumbnail(
                load_picture(kept), out / thumbnail_path(f"restored/{method.name}", pair.name)
            )
    write_rows(out / SCORES, list(results.rows()))
    return results
