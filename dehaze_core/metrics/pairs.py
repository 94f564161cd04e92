# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of hazy and clear pictures, scored pair by pair.

`FOLDER/hazy` and `FOLDER/clear` hold 8-bit pictures with the same stems; formats may differ. A stem
may end with the haze level, `_L0` (clear in, clear out) to `_L4` (thick); stems that begin with
`large` are scenes rather than chips and are reported apart as well. A data set as
`dehaze synthesize-set` makes it, with `FOLDER/L1` to `FOLDER/L4` in the place of `hazy`, is read
too. Every number compares 8-bit
sRGB pictures; a restored picture that is kept is read back from its file first, so that what is
scored is what was saved. Means are taken over images, never over pooled pixels.
"""

from __future__ import annotations

import csv
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dehaze_core.errors import InputError, ModelError, OutputError
from dehaze_core.metrics.full_reference import ciede2000, psnr, rms_change, spectral_angle, ssim
from dehaze_core.metrics.seams import seam_score

Picture = NDArray[np.uint8]
"""`(rows, columns, 3)` red, green, blue, sRGB-encoded, 0..255."""

Restorer = Callable[[Picture], Picture]
"""Takes a hazy picture and returns the dehazed one, of the same shape."""

CLEAR_LEVEL = "L0"

SEAM_STEP = 256
"""Distance in px of the grid lines along which seams are looked for: the usual side of a slice."""

SEAM_REACH = 4
"""Steps up to so many px from a line are what its own step is compared with."""

_LEVEL = re.compile(r"_(L[0-4])$")
_EIGHT_BIT_MODES = {"L", "LA", "P", "RGB", "RGBA"}


@dataclass(frozen=True, slots=True)
class Pair:
    """A hazy picture and its clear reference."""

    name: str
    hazy: Path
    clear: Path

    @property
    def level(self) -> str:
        """Haze level `L0`..`L4`, or `-` where the name tells none."""
        found = _LEVEL.search(self.name)
        return found.group(1) if found else "-"

    @property
    def large(self) -> bool:
        """Whether this is a large scene rather than a chip."""
        return self.name.startswith("large")


@dataclass(frozen=True, slots=True)
class PairScore:
    """All numbers of one pair; `_in` compares hazy with clear, `_out` restored with clear.

    PSNR in dB, CIEDE2000 without unit, spectral angle in degrees, change in DN (RMS between hazy
    and restored), time in s. `seam` is the seam score of the restored picture over that of the
    hazy one, 1 without seams; NaN where no grid line crosses the picture.
    """

    name: str
    level: str
    large: bool
    psnr_in: float
    psnr_out: float
    ssim_in: float
    ssim_out: float
    ciede_in: float
    ciede_out: float
    angle_in: float
    angle_out: float
    change_dn: float
    seam: float
    seconds: float

    @property
    def hazy(self) -> bool:
        """Whether there is haze to remove."""
        return self.level != CLEAR_LEVEL

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def find_pairs(folder: Path) -> list[Pair]:
    """Return the pairs of a folder, sorted by name.

    Raises:
        InputError: A subfolder, a partner or every picture is missing, or a partner is ambiguous.
    """
    levels = [path for path in sorted(folder.glob("L[0-4]")) if path.is_dir()]
    if not (folder / "clear").is_dir() or not (levels or (folder / "hazy").is_dir()):
        raise InputError(
            f"{folder} does not hold pairs; expected hazy/ (or L1/ to L4/) and clear/ with "
            "pictures of the same stems.",
            hint="Point at the folder that holds them.",
        )
    clear = _by_stem(folder / "clear")
    pairs = []
    for part in levels or [folder / "hazy"]:
        hazy = _by_stem(part)
        if not hazy:
            raise InputError(f"{part} is empty; expected pictures.")
        for stem in sorted(hazy):
            name = f"{stem}_{part.name}" if levels else stem
            pairs.append(Pair(name, _only(hazy, stem, part), _only(clear, stem, folder / "clear")))
    return pairs


def find_partner(folder: Path, stem: str) -> Path:
    """Return the one file of a folder that has this stem, whatever its extension.

    Raises:
        InputError: There is none, or more than one.
    """
    return _only(_by_stem(folder), stem, folder)


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            found.setdefault(path.stem, []).append(path)
    return found


def _only(files: dict[str, list[Path]], stem: str, folder: Path) -> Path:
    found = files.get(stem, [])
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(f"Expected one picture named {stem}.* in {folder}, found {names}.")
    return found[0]


def load_picture(path: Path) -> Picture:
    """Read an 8-bit picture as red, green, blue; alpha is left out, grey and palettes are expanded.

    Raises:
        InputError: Not a picture, or not an 8-bit one.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in _EIGHT_BIT_MODES:
                raise InputError(
                    f"{path} has the pixel type {picture.mode}; expected 8 bits a band.",
                    hint="Scores are defined on 8-bit pictures: convert it with a fixed stretch.",
                )
            return np.array(picture.convert("RGB"), np.uint8)
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture that can be read.") from error


def save_picture(picture: Picture, path: Path) -> None:
    """Write a picture as PNG, without loss; folders are made.

    Raises:
        OutputError: The file cannot be written (OUTPUT_FOLDER).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, format="PNG")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error}.",
            hint="Choose a folder of yours with room for the pictures.",
            code="OUTPUT_FOLDER",
        ) from error


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like a picture is to its clear reference; see `PairScore` for the units."""

    psnr: float
    ssim: float
    ciede: float
    angle: float

    @classmethod
    def between(cls, picture: Picture, clear: Picture) -> Likeness:
        """Compare two pictures of one shape."""
        image, reference = _bands_first(picture), _bands_first(clear)
        return cls(
            psnr(image, reference, data_range=255),
            ssim(image, reference, data_range=255),
            ciede2000(image, reference),
            spectral_angle(image, reference),
        )


@dataclass(frozen=True, slots=True)
class LoadedPair:
    """A pair in memory, with the numbers of its hazy picture: every method has them in common."""

    pair: Pair
    hazy: Picture
    clear: Picture
    before: Likeness
    seam: float

    @classmethod
    def load(cls, pair: Pair) -> LoadedPair:
        """Read both pictures and compare them.

        Raises:
            InputError: One cannot be read, or they differ in size.
        """
        hazy, clear = load_picture(pair.hazy), load_picture(pair.clear)
        if hazy.shape != clear.shape:
            raise InputError(
                f"The pair {pair.name} has a hazy picture of {hazy.shape[1]} x {hazy.shape[0]} px "
                f"and a clear one of {clear.shape[1]} x {clear.shape[0]} px; expected one size.",
                hint="Pictures are compared pixel by pixel and never resampled.",
            )
        return cls(pair, hazy, clear, Likeness.between(hazy, clear), _seams(hazy))

    def score(self, restore: Restorer, keep: Path | None = None) -> PairScore:
        """Restore the hazy picture and compare the result with the clear one.

        Args:
            restore: The method.
            keep: PNG that receives the restored picture.

        Raises:
            ModelError: The method returned something else than a picture of the same shape.
            OutputError: The restored picture cannot be written.
        """
        started = time.perf_counter()
        restored = restore(self.hazy)
        seconds = time.perf_counter() - started
        _check_restored(restored, self.hazy, self.pair)
        if keep is not None:
            save_picture(restored, keep)
            restored = load_picture(keep)
        before, after = self.before, Likeness.between(restored, self.clear)
        return PairScore(
            name=self.pair.name,
            level=self.pair.level,
            large=self.pair.large,
            psnr_in=before.psnr,
            psnr_out=after.psnr,
            ssim_in=before.ssim,
            ssim_out=after.ssim,
            ciede_in=before.ciede,
            ciede_out=after.ciede,
            angle_in=before.angle,
            angle_out=after.angle,
            change_dn=rms_change(_bands_first(self.hazy), _bands_first(restored)),
            seam=_seams(restored) / self.seam if self.seam else math.nan,
            seconds=seconds,
        )


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a CSV file; the first row's keys are the heading.

    Raises:
        OutputError: The file cannot be written (OUTPUT_FOLDER).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.", code="OUTPUT_FOLDER") from error


@dataclass(frozen=True, slots=True)
class Group:
    """Means over some images."""

    images: int
    psnr_in: float
    psnr_out: float
    ssim_in: float
    ssim_out: float
    ciede_in: float
    ciede_out: float
    angle_in: float
    angle_out: float
    change_dn: float

    @classmethod
    def of(cls, scores: Iterable[PairScore]) -> Group | None:
        """Average the scores; None where there are none."""
        chosen = list(scores)
        if not chosen:
            return None
        names = [name for name in cls.__dataclass_fields__ if name != "images"]
        return cls(
            len(chosen), *(fmean(getattr(score, name) for score in chosen) for name in names)
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """What a folder of pairs says about a restorer.

    `hazy` is the mean over all images but those of level L0, chips and large scenes alike;
    `improved` is the share of the same images whose PSNR rose.
    """

    levels: dict[str, Group]
    hazy: Group | None
    chips: Group | None
    large: Group | None
    clear: Group | None
    improved: float | None

    @classmethod
    def of(cls, scores: Iterable[PairScore]) -> Summary:
        """Group the scores by level and by size."""
        every = list(scores)
        levels = {
            level: group
            for level in sorted({score.level for score in every})
            if (group := Group.of(score for score in every if score.level == level))
        }
        hazy = [score for score in every if score.hazy]
        return cls(
            levels=levels,
            hazy=Group.of(hazy),
            chips=Group.of(score for score in hazy if not score.large),
            large=Group.of(score for score in hazy if score.large),
            clear=levels.get(CLEAR_LEVEL),
            improved=fmean(score.psnr_out > score.psnr_in for score in hazy) if hazy else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return nested plain values, ready for JSON."""
        return asdict(self)


def _seams(picture: Picture) -> float:
    if max(picture.shape[:2]) <= SEAM_STEP:
        return math.nan
    return seam_score(_bands_first(picture), step=SEAM_STEP, near=SEAM_REACH)


def _bands_first(picture: Picture) -> Picture:
    return np.moveaxis(picture, -1, 0)


def _check_restored(restored: Picture, hazy: Picture, pair: Pair) -> None:
    if restored.shape != hazy.shape or restored.dtype != np.uint8:
        raise ModelError(
            f"The restored picture of {pair.name} is {restored.shape} {restored.dtype}; expected "
            f"{hazy.shape} uint8."
        )
