# SPDX-License-Identifier: GPL-3.0-or-later
"""All methods over real hazy rasters, of which nobody knows what is below the haze."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from dehaze_core.benchmark.methods import Contest, Method
from dehaze_core.benchmark.pairs_run import spread_out
from dehaze_core.benchmark.thumbnails import save_thumbnail
from dehaze_core.engine.progress import Progress
from dehaze_core.errors import ModelError
from dehaze_core.metrics import Appearance, rms_change
from dehaze_core.metrics.pairs import Picture, load_picture, save_picture, write_rows
from dehaze_core.scene import Radiometry, open_scene, raster_files

LONGEST = 2048
"""Longer side in px at most; larger rasters are shrunk for this purpose."""

REAL_SCORES = "real.csv"


@dataclass(frozen=True, slots=True)
class RealScore:
    """One raster before and after.

    Attributes:
        name: Path below the folder, with slashes.
        before: What the hazy picture looks like.
        after: What the restored picture looks like.
        change_dn: RMS difference of both over valid pixels, DN of 8 bit.
    """

    name: str
    before: Appearance
    after: Appearance
    change_dn: float

    @property
    def group(self) -> str:
        """Name of the subfolder, empty for files in the folder itself."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class RealResults:
    """Scores by method name; every method has the same rasters in the same order."""

    contest: Contest
    scores: dict[str, list[RealScore]]

    @property
    def first(self) -> list[RealScore]:
        """Scores of the first model."""
        return self.scores[self.contest.first.name]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row for every method and raster."""
        for method, scores in self.scores.items():
            for score in scores:
                row: dict[str, Any] = {"method": method, "name": score.name}
                row |= {f"{key}_in": value for key, value in asdict(score.before).items()}
                row |= {f"{key}_out": value for key, value in asdict(score.after).items()}
                yield row | {"change_dn": score.change_dn}


def read_display(path: Path) -> tuple[Picture, NDArray[np.bool_]]:
    """Read a raster as the networks see it, in 8 bit, and which of its pixels are valid.

    Returns:
        `(rows, columns, 3)` uint8, black where there is no data, and `(rows, columns)`.

    Raises:
        InputError: The raster cannot be read.
    """
    with open_scene(str(path)) as scene:
        bands = scene.frame.rgb_bands
        radiometry = Radiometry.for_scene(scene, bands)
        stored, valid = scene.overview(LONGEST, bands)
    # Sample types of 16 bits and more become float32 on the way, as in the engine.
    display = radiometry.display(torch.from_numpy(stored.astype(np.float32))).numpy()
    display = np.where(valid, np.nan_to_num(display), 0.0)
    if len(display) == 1:
        display = np.repeat(display, 3, axis=0)
    return np.moveaxis(np.rint(display * 255).astype(np.uint8), 0, -1), valid


def real_restored_path(method: str, name: str) -> Path:
    """Return where the restored picture of a raster is kept, relative to the output folder."""
    return Path("real", "restored", method, f"{name}.png")


def real_thumbnail_path(kind: str, name: str) -> Path:
    """Return where a thumbnail is kept; `kind` is `hazy` or `restored/METHOD`."""
    return Path("real", "thumbnails", kind, f"{name}.jpg")


def run_real(
    folder: Path, out: Path, contest: Contest, limit: int | None, progress: Progress
) -> RealResults:
    """Run every method on every raster below a folder and describe both.

    Writes the restored pictures (PNG), thumbnails, and `real.csv`.

    Raises:
        InputError: There is no raster, or one cannot be read.
        ModelError: A method returned no picture.
        OutputError: The output folder cannot be written (OUTPUT_FOLDER).
    """
    paths = spread_out(raster_files(folder), limit)
    results = RealResults(contest, {method.name: [] for method in contest.methods})
    for number, path in enumerate(paths):
        name = path.relative_to(folder).as_posix()
        hazy, valid = read_display(path)
        save_thumbnail(hazy, out / real_thumbnail_path("hazy", name))
        before = _appearance(hazy, valid)
        for place, method in enumerate(contest.methods):
            share = (number + place / len(contest.methods)) / len(paths)
            progress.update(share, f"{name}: {method.name}")
            restored = _restore(method, hazy, valid, out / real_restored_path(method.name, name))
            save_thumbnail(restored, out / real_thumbnail_path(f"restored/{method.name}", name))
            change = rms_change(_bands_first(hazy), _bands_first(restored), valid=valid)
            after = _appearance(restored, valid)
            results.scores[method.name].append(RealScore(name, before, after, change))
    write_rows(out / REAL_SCORES, list(results.rows()))
    return results


def _restore(method: Method, hazy: Picture, valid: NDArray[np.bool_], keep: Path) -> Picture:
    """Restore a picture, leave pixels without data as they were, and return what was saved."""
    restored = method.restore(_without_gaps(hazy, valid))
    if restored.shape != hazy.shape or restored.dtype != np.uint8:
        raise ModelError(
            f"{method.name} returned {restored.shape} {restored.dtype} for {keep.stem}; expected "
            f"{hazy.shape} uint8."
        )
    save_picture(np.where(valid[..., None], restored, hazy), keep)
    return load_picture(keep)


def _without_gaps(picture: Picture, valid: NDArray[np.bool_]) -> Picture:
    """Fill pixels without data from their nearest valid ones: most methods know of no mask."""
    if valid.all() or not valid.any():
        return picture
    nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    filled: Picture = picture[tuple(nearest)]
    return filled


def _appearance(picture: Picture, valid: NDArray[np.bool_]) -> Appearance:
    return Appearance.of(_bands_first(picture), data_range=255, valid=valid)


def _bands_first(picture: Picture) -> Picture:
    return np.moveaxis(picture, -1, 0)
