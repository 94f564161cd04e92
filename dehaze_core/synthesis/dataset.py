# SPDX-License-Identifier: GPL-3.0-or-later
"""A data set from a folder of clear rasters: each as it is and with haze of four levels.

    OUT/{train,test}/{clear,L1,L2,L3,L4}/NAME.tif    same names everywhere
    OUT/{train,test}/truth/NAME_L1.json              what is known of the haze
    OUT/MANIFEST.csv                                 all of them, with site, level and kind

A site is either trained on or tested on, never both. Which is decided by its name alone, so that
rasters that are added later change nothing for the others.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from dehaze_core.engine.progress import Progress
from dehaze_core.engine.workspace import claimed_layers
from dehaze_core.errors import InputError, OutputError, SettingsError
from dehaze_core.haze.synthesis import random_airlight
from dehaze_core.scene import (
    Radiometry,
    Scene,
    manifest_sites,
    open_scene,
    raster_files,
    read_texture,
)
from dehaze_core.synthesis.job import synthesize
from dehaze_core.synthesis.settings import HazeClass, Level, SynthesisSettings
from dehaze_core.synthesis.truth import request_of, write_text

CLEAR: Level = "L0"
MOST_TEST_SHARE = 0.5

_OVERVIEW_SIDE = 1024
_BRIGHT = 99.5
_NOISY = 0.4
_COLUMNS = ("path", "clear", "site", "split", "level", "kind", "thickness", "seed", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSettings:
    """Settings of a data set; checked when made.

    Attributes:
        source: Folder of clear rasters. A MANIFEST.csv in it may give their sites (columns `path`
            and `site`); else the site is the subfolder, or the raster itself if it is in none.
        destination: Folder of the data set.
        textures: Folder of rasters of real haze, or None.
        test_share: Share of the sites that go to `test`, 0..0.5.
        seed: Seed of everything that is drawn.
        unrounded: Write hazy rasters as floats, not rounded to the source's type.

    Raises:
        SettingsError: A value is out of its range.
    """

    source: Path
    destination: Path
    textures: Path | None = None
    test_share: float = 0.1
    seed: int = 0
    unrounded: bool = False

    def __post_init__(self) -> None:
        """Check every value that can be checked without opening a raster."""
        if not 0.0 <= self.test_share <= MOST_TEST_SHARE:
            raise SettingsError(
                f"A test share of {self.test_share:g} was given, expected 0 to {MOST_TEST_SHARE:g}."
            )
        source, destination = self.source.resolve(), self.destination.resolve()
        if source == destination or source in destination.parents:
            raise SettingsError(
                f"The data set {destination} would lie among the clear rasters of {source}.",
                hint="Choose a folder outside of it.",
            )


@dataclass(frozen=True, slots=True)
class SetReport:
    """What was made.

    Attributes:
        output: Folder of the data set.
        train: Number of clear rasters to train on.
        test: Number of clear rasters to test on.
        written: Number of rasters written, clear ones included.
        kept: Number of rasters that were there already.
        seconds: Wall time.
    """

    output: str
    train: int
    test: int
    written: int
    kept: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ClearRaster:
    """A clear raster and its place in the data set."""

    path: Path
    name: str
    site: str
    split: str


def synthesize_set(settings: SetSettings, progress: Progress) -> SetReport:
    """Make a data set; rasters that are there already, made in the same way, are kept.

    Raises:
        DehazeError: A raster cannot be read or written; what is finished stays. Or one would
            change sides (OUTPUT_SPLIT); then nothing is written.
    """
    start = time.monotonic()
    rasters = find_clear(settings)
    _check_sides(rasters, settings.destination)
    textures = [] if settings.textures is None else raster_files(settings.textures)
    _warn_of_empty_splits(rasters, progress)
    rows: list[dict[str, str]] = []
    written = 0
    levels = get_args(Level)
    for number, raster in enumerate(rasters):
        for step, job in enumerate(_jobs(raster, settings, textures)):
            part = _Part(progress, (number + step / len(levels)) / len(rasters), job)
            if not _is_made(job):
                _make_folders(job)
                synthesize(job, part)
                written += 1
            part.update(1.0, "")
            rows.append(_row(raster, job, settings))
    _write_manifest(settings.destination / "MANIFEST.csv", rows)
    return SetReport(
        output=str(settings.destination),
        train=sum(raster.split == "train" for raster in rasters),
        test=sum(raster.split == "test" for raster in rasters),
        written=written,
        kept=len(rows) - written,
        seconds=round(time.monotonic() - start, 3),
    )


def find_clear(settings: SetSettings) -> list[ClearRaster]:
    """Return all clear rasters with their names, sites and splits.

    Raises:
        InputError: There are none (INPUT_EMPTY), MANIFEST.csv is no table (INPUT_MANIFEST), or two
            would get the same name (INPUT_NAMES).
    """
    folder = settings.source
    sites = manifest_sites(folder)
    found: dict[str, ClearRaster] = {}
    for path in raster_files(folder):
        place = path.relative_to(folder)
        name = "_".join(place.with_suffix("").parts)
        site = sites.get(place.as_posix()) or str(place.parent.as_posix())
        site = name if site == "." else site
        if name in found:
            raise InputError(
                f"{path} and {found[name].path} would both be named {name} in the data set.",
                hint="Rename one of them.",
                code="INPUT_NAMES",
            )
        found[name] = ClearRaster(path, name, site, split_of(site, settings.test_share))
    return list(found.values())


def split_of(site: str, test_share: float) -> str:
    """Return `test` for about `test_share` of all names of sites, else `train`."""
    place = int.from_bytes(hashlib.sha256(site.encode()).digest()[:8], "big") / 2**64
    return "test" if place < test_share else "train"


def _jobs(
    raster: ClearRaster, settings: SetSettings, textures: list[Path]
) -> Iterator[SynthesisSettings]:
    """Yield the settings of the clear copy and of every level."""
    folder = settings.destination / raster.split
    with open_scene(str(raster.path)) as scene:
        bright = _bright_end(scene)
        longer = max(scene.frame.width, scene.frame.height)
    for level in get_args(Level):
        job = SynthesisSettings(
            source=str(raster.path),
            destination=str(folder / ("clear" if level == CLEAR else level) / f"{raster.name}.tif"),
            truth_output=str(folder / "truth" / f"{raster.name}_{level}.json"),
            kind="homogeneous",
            level=level,
        )
        if level == CLEAR:
            yield job
            continue
        text = f"{settings.seed} {raster.name} {level}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        drawn = _drawn(np.random.default_rng(seed), longer, bright, textures)
        yield replace(job, seed=seed, unrounded=settings.unrounded, **drawn)


def _drawn(
    rng: np.random.Generator, longer: int, bright: list[float], textures: list[Path]
) -> dict[str, Any]:
    """Draw the haze of one raster, as settings."""
    kinds = [k for k in get_args(HazeClass) if k != "valley" and (k != "texture" or textures)]
    weights = np.array([{"patchy": 2.0, "texture": 3.0}.get(kind, 1.0) for kind in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    alpha = float(rng.uniform(1.2, 2.0) if kind == "plume" else rng.uniform(0.0, 1.6))
    is_noisy = rng.random() < _NOISY
    return {
        "kind": kind,
        "alpha": alpha,
        "airlight": random_airlight(rng, alpha, bright),
        "airlight_variation": float(rng.uniform(0.0, 0.05)),
        "wavelength": max(longer * float(np.exp(rng.uniform(np.log(0.3), np.log(3.0)))), 4.0),
        "texture": str(textures[int(rng.integers(len(textures)))]) if kind == "texture" else None,
        "noise": (float(rng.uniform(0, 2e-4)), float(rng.uniform(0, 4e-3)))
        if is_noisy
        else (0.0, 0.0),
    }


def _bright_end(scene: Scene) -> list[float]:
    bands = scene.frame.rgb_bands
    pixels, valid = scene.overview(_OVERVIEW_SIDE, bands)
    light = Radiometry.for_scene(scene, bands).to_linear(torch.from_numpy(pixels)).numpy()
    return [float(np.percentile(band[valid], _BRIGHT)) if valid.any() else 1.0 for band in light]


def _is_made(job: SynthesisSettings) -> bool:
    """Tell whether an output is there and was made in the same way of the same raster."""
    output = Path(job.destination)
    # Killed between the two, a synthesis leaves its truth beside the raster of an earlier one.
    if not output.is_file() or claimed_layers(output):
        return False
    try:
        truth = json.loads(Path(str(job.truth_output)).read_bytes())
        made = truth["source"]["fingerprint"], truth["request"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    with open_scene(job.source) as scene:
        fingerprint = scene.fingerprint()
    texture = None if job.texture is None else read_texture(job.texture)
    return made == (fingerprint, request_of(job, texture))


def _make_folders(job: SynthesisSettings) -> None:
    for output in job.outputs:
        folder = Path(output).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder {folder} cannot be made: {error.strerror or error}.",
                hint="Choose a folder that you may write to.",
                code="OUTPUT_FOLDER",
            ) from error


def _row(raster: ClearRaster, job: SynthesisSettings, settings: SetSettings) -> dict[str, str]:
    folder = settings.destination
    truth = json.loads(Path(str(job.truth_output)).read_bytes())
    values = (
        Path(job.destination).relative_to(folder).as_posix(),
        f"{raster.split}/clear/{raster.name}.tif",
        raster.site,
        raster.split,
        job.level,
        "clear" if job.level == CLEAR else job.kind,
        f"{truth['statistics']['median_thickness']:.4f}",
        job.seed,
        raster.path.relative_to(settings.source).as_posix(),
    )
    return {name: str(value) for name, value in zip(_COLUMNS, values, strict=True)}


def _write_manifest(path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _check_sides(rasters: list[ClearRaster], destination: Path) -> None:
    """Refuse to put a raster on one side of a data set that has it on the other."""
    for raster in rasters:
        other = "train" if raster.split == "test" else "test"
        there = destination / other / "clear" / f"{raster.name}.tif"
        if there.exists():
            raise OutputError(
                f"{raster.path} would go to {raster.split}, but the data set has it in {other} "
                f"already: {there}.",
                hint="Keep the share and the sites as they were, or choose another folder.",
                code="OUTPUT_SPLIT",
            )


def _warn_of_empty_splits(rasters: list[ClearRaster], progress: Progress) -> None:
    sites = {raster.site for raster in rasters}
    for split in ("train", "test"):
        if all(raster.split != split for raster in rasters):
            progress.warning(
                f"None of the {len(sites)} sites goes to {split}; give more sites or another share."
            )


class _Part:
    """Progress of one raster as part of the whole."""

    def __init__(self, whole: Progress, start: float, job: SynthesisSettings) -> None:
        self._whole = whole
        self._start = start
        self._text = f"{Path(job.destination).stem} {job.level}"

    def update(self, fraction: float, text: str) -> None:
        """Keep the bar where the raster began; its own steps are too short to be shown."""
        self._whole.update(self._start, self._text)

    def log(self, message: str) -> None:
        """Pass a message on."""
        self._whole.log(message)

    def warning(self, message: str) -> None:
        """Pass a warning on."""
        self._whole.warning(f"{self._text}: {message}")
