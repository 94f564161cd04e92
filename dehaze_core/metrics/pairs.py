# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of hazy and clear pictures, scored pair by pair.

`FOLDER/hazy` and `FOLDER/clear` hold 8-bit pictures with the same stems; formats may differ. A stem
may end with the haze level, `_L0` (clear in, clear out) to `_L4` (thick); stems that begin with
`large` are scenes rather than chips and are reported apart as well. Every number compares 8-bit
sRGB pictures as saved; means are taken over images, never over pooled pixels.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dehaze_core.errors import InputError, ModelError
from dehaze_core.metrics.full_reference import ciede2000, psnr, rms_change, ssim

Picture = NDArray[np.uint8]
"""`(rows, columns, 3)` red, green, blue, sRGB-encoded, 0..255."""

Restorer = Callable[[Picture], Picture]
"""Takes a hazy picture and returns the dehazed one, of the same shape."""

CLEAR_LEVEL = "L0"
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

    PSNR in dB, CIEDE2000 without unit, change in DN (RMS between hazy and restored), time in s.
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
    change_dn: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def find_pairs(folder: Path) -> list[Pair]:
    """Return the pairs of a folder, sorted by name.

    Raises:
        InputError: A subfolder, a partner or every picture is missing, or a partner is ambiguous.
    """
    for part in ("hazy", "clear"):
        if not (folder / part).is_dir():
            raise InputError(
                f"{folder} has no folder {part!r}; expected hazy/ and clear/ with pictures of the "
                "same stems.",
                hint="Point at the folder that holds both.",
            )
    pairs = [
        Pair(hazy.stem, hazy, find_partner(folder / "clear", hazy.stem))
        for hazy in sorted((folder / "hazy").iterdir())
        if hazy.is_file() and not hazy.name.startswith(".")
    ]
    if not pairs:
        raise InputError(f"{folder / 'hazy'} is empty; expected pictures.")
    return pairs


def find_partner(folder: Path, stem: str) -> Path:
    """Return the one file of a folder that has this stem, whatever its extension."""
    found = [path for path in folder.iterdir() if path.stem == stem]
    if len(found) != 1:
        names = ", ".join(sorted(path.name for path in found)) or "none"
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


def score_pair(pair: Pair, restore: Restorer) -> tuple[PairScore, Picture]:
    """Restore one picture and compare both, before and after, with the reference.

    Returns:
        The numbers, and the restored picture they belong to.
    """
    hazy, clear = load_picture(pair.hazy), load_picture(pair.clear)
    started = time.perf_counter()
    restored = restore(hazy)
    seconds = time.perf_counter() - started
    _check_restored(restored, hazy, pair)
    before, after, reference = (_bands_first(picture) for picture in (hazy, restored, clear))
    score = PairScore(
        name=pair.name,
        level=pair.level,
        large=pair.large,
        psnr_in=psnr(before, reference, data_range=255),
        psnr_out=psnr(after, reference, data_range=255),
        ssim_in=ssim(before, reference, data_range=255),
        ssim_out=ssim(after, reference, data_range=255),
        ciede_in=ciede2000(before, reference),
        ciede_out=ciede2000(after, reference),
        change_dn=rms_change(before, after),
        seconds=seconds,
    )
    return score, restored


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
        hazy = [score for score in every if score.level != CLEAR_LEVEL]
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


def _bands_first(picture: Picture) -> Picture:
    return np.moveaxis(picture, -1, 0)


def _check_restored(restored: Picture, hazy: Picture, pair: Pair) -> None:
    if restored.shape != hazy.shape or restored.dtype != np.uint8:
        raise ModelError(
            f"The restored picture of {pair.name} is {restored.shape} {restored.dtype}; expected "
            f"{hazy.shape} uint8."
        )
