# SPDX-License-Identifier: GPL-3.0-or-later
"""Label pictures for a folder of pictures, made before training so that it need not segment.

    DATA/a/b.tif  ->  OUT/a/b.png    16-bit, 0 where there is no segment, 1 to n in painting order

A label picture has the size of its picture, or that of the picture shrunk to the longest side
that is segmented. It names what it was made of and how, so that it is made again when that changes.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dehaze_core.engine.device import choose_device, use_threads
from dehaze_core.engine.output.aside import put_file, temporary_folder, write_errors
from dehaze_core.engine.progress import Progress
from dehaze_core.engine.segments.segment import found_segments, segments_key
from dehaze_core.engine.segments.settings import (
    DEFAULT_SIDE,
    DEFAULT_TILES,
    SegmentOptions,
    device_choice,
    require_machine,
)
from dehaze_core.engine.settings import DeviceChoice, require
from dehaze_core.errors import InputError, OutputError
from dehaze_core.scene import Radiometry, Scene, open_scene, raster_files
from dehaze_core.segmentation.segmenter import Segmenter, SegmenterName, find_segmenter

MOST_LABELS = 2**16 - 1

_KEY = "dehaze"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSetSettings:
    """Settings of the label pictures of a folder; checked when made.

    Attributes:
        source: Folder of pictures, with folders in it.
        destination: Folder of the label pictures.
        segmenter: Name of the segmenter, see `SEGMENTERS`.
        side: Longest side of what is segmented of a picture, 256..4096 px.
        tiles: Most tiles the segmenter looks at, of all levels of a picture together.
        device: `auto` takes a CUDA device where there is one.
        threads: CPU threads; None for all cores.

    Raises:
        SettingsError: A value is out of its range.
    """

    source: Path
    destination: Path
    segmenter: SegmenterName = "mobile"
    side: int = DEFAULT_SIDE
    tiles: int = DEFAULT_TILES
    device: DeviceChoice = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check every value that can be checked without opening a picture."""
        _ = self.options
        require_machine(self.device, self.threads)
        source, destination = self.source.resolve(), self.destination.resolve()
        require(
            source != destination and source not in destination.parents,
            f"The label pictures in {destination} would lie among the pictures of {source}, "
            "expected a folder outside of it.",
        )

    @property
    def options(self) -> SegmentOptions:
        """Return how every picture is segmented."""
        return SegmentOptions(self.segmenter, "paint", self.side, self.tiles)


@dataclass(frozen=True, slots=True)
class SegmentSetReport:
    """What was made.

    Attributes:
        output: Folder of the label pictures.
        pictures: Number of pictures found.
        written: Number of label pictures written.
        kept: Number of those that were there already.
        masks: Mean number of segments of those written; 0 where none was.
        segmenter: Name of the segmenter.
        device: Where it computed.
        seconds: Wall time.
    """

    output: str
    pictures: int
    written: int
    kept: int
    masks: float
    segmenter: str
    device: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        return asdict(self)


def segment_set(settings: SegmentSetSettings, progress: Progress) -> SegmentSetReport:
    """Make a label picture of every picture of a folder; those made in the same way are kept.

    Raises:
        DehazeError: A picture cannot be read or a label picture not be written; what is finished
            stays.
    """
    start = time.monotonic()
    pictures = find_pictures(settings.source)
    use_threads(settings.threads)
    device = choose_device(device_choice(settings.segmenter, settings.device))
    segmenter = find_segmenter(settings.segmenter, device.torch)
    counts = []
    for number, place in enumerate(pictures):
        progress.update(number / len(pictures), place.as_posix())
        output = settings.destination / place.with_suffix(".png")
        with open_scene(str((settings.source / place).resolve())) as scene:
            count = _labelled(scene, output, settings.options, segmenter)
        counts += [] if count is None else [count]
    progress.update(1.0, "Done")
    return SegmentSetReport(
        output=str(settings.destination),
        pictures=len(pictures),
        written=len(counts),
        kept=len(pictures) - len(counts),
        masks=float(np.mean(counts)) if counts else 0.0,
        segmenter=settings.segmenter,
        device=device.description,
        seconds=round(time.monotonic() - start, 3),
    )


def find_pictures(folder: Path) -> list[Path]:
    """Return all pictures of a folder and the folders in it, as paths below it, sorted.

    Raises:
        InputError: There is no such folder (INPUT_MISSING), no picture (INPUT_EMPTY), or two would
            have one label picture (INPUT_NAMES).
    """
    found: dict[Path, Path] = {}
    for path in raster_files(folder):
        place = path.relative_to(folder)
        other = found.setdefault(place.with_suffix(""), place)
        if other != place:
            raise InputError(
                f"{other} and {place} in {folder} would have the same label picture.",
                hint="Rename one of them.",
                code="INPUT_NAMES",
            )
    return list(found.values())


def _labelled(
    scene: Scene, output: Path, options: SegmentOptions, segmenter: Segmenter
) -> int | None:
    """Write the label picture of a scene; return its number of segments, None if it was there."""
    bands = scene.frame.rgb_bands
    radiometry = Radiometry.for_scene(scene, bands)
    key = segments_key(scene, bands, radiometry, options, (segmenter.identity,))
    if _key_of(output) == key:
        return None
    segments = found_segments(scene, bands, radiometry, options, segmenter, lambda share: None)
    if segments.count > MOST_LABELS:
        raise OutputError(
            f"{scene.path} has {segments.count} segments; a label picture holds {MOST_LABELS}.",
            hint="Choose a smaller side, or another segmenter.",
            code="OUTPUT_DTYPE",
        )
    _write(output, segments.labels.astype(np.uint16), key)
    return segments.count


def _key_of(path: Path) -> str | None:
    """Return what a label picture says it was made of; None for another or a damaged file."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as picture:
            # All of it: what is cut off at the end counts as not there.
            picture.load()
            return picture.info.get(_KEY)
    except (OSError, SyntaxError, ValueError):
        return None


def _write(path: Path, labels: NDArray[np.uint16], key: str) -> None:
    """Write a label picture that appears whole or not at all."""
    notes = PngInfo()
    notes.add_text(_KEY, key)
    with write_errors(path, labels.nbytes):
        path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path, None) as folder, write_errors(path, labels.nbytes):
        made = folder / "result.png"
        Image.fromarray(labels).save(made, pnginfo=notes)
        put_file(made, path)
