# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene segmented: as a job that writes rasters, and as the guide of a run.

The scene is shrunk to a picture of a few thousand px a side at most, so that neither memory nor
time of the segmenter grow with the raster. Codes and labels are of the picture's pixel grid, which
covers exactly the scene.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from dehaze_core import __version__
from dehaze_core.engine.device import Device, choose_device, use_threads
from dehaze_core.engine.memory import peak_memory_mib
from dehaze_core.engine.output.aside import put_file, write_errors
from dehaze_core.engine.plan import choose_model_bands
from dehaze_core.engine.preflight import check_folders
from dehaze_core.engine.progress import Progress
from dehaze_core.engine.segments.mask_cache import MaskCache, cache_key
from dehaze_core.engine.segments.outputs import Content, SegmentFile, segment_files
from dehaze_core.engine.segments.scene_picture import Dehazed, scene_picture, shrunk_shape
from dehaze_core.engine.segments.settings import (
    SegmentOptions,
    SegmentReport,
    SegmentSettings,
    device_choice,
)
from dehaze_core.engine.workspace import Workspace
from dehaze_core.errors import InputError, ResourceError
from dehaze_core.scene import Radiometry, Scene, open_scene
from dehaze_core.scene.fingerprint import digest
from dehaze_core.segmentation.coding import coded
from dehaze_core.segmentation.picture import Limits, Segments, segment_picture
from dehaze_core.segmentation.segmenter import Segmenter, find_segmenter

__all__ = [
    "CodedScene",
    "SegmentOptions",
    "SegmentReport",
    "SegmentSettings",
    "coded_scene",
    "segment",
]

SEGMENT_UNTIL = 0.9
"""Share of the progress bar."""

_READ_UNTIL = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class CodedScene:
    """The segments of a scene and their codes, on a grid that covers exactly the scene.

    Pixel (i, j) of h x w covers the scene's rows i * H / h to (i + 1) * H / h, columns likewise.

    Attributes:
        codes: Grey codes, uint8 (h, w); 0 where there is no segment or no data.
        segments: The segments; their `labels` are int32 (h, w).
        fingerprint: Digest of everything the codes depend on.
        cached: The segments were found by an earlier segmentation of the same scene.
    """

    codes: NDArray[np.uint8]
    segments: Segments
    fingerprint: str
    cached: bool

    @property
    def labels(self) -> NDArray[np.int32]:
        """The segment of every pixel, 1 to n, int32 (h, w); 0 where there is none."""
        return self.segments.labels


def coded_scene(  # noqa: PLR0913 - all that a mask depends on
    scene: Scene,
    bands: Sequence[int],
    radiometry: Radiometry,
    options: SegmentOptions,
    segmenter: Segmenter,
    progress_callback: Callable[[float], None],
    dehazed: Dehazed | None = None,
    *,
    dehazed_by: str = "",
) -> CodedScene:
    """Segment a scene, or remember how it was segmented before.

    Args:
        scene: The scene, or the part of it to segment.
        bands: 0-based bands that stand for red, green and blue, or one of them.
        radiometry: Of the whole raster.
        options: How to segment.
        segmenter: The one that the options name.
        progress_callback: Told the share done, 0 to 1; what it raises ends the work.
        dehazed: Removes the haze of the picture before it is segmented, if given.
        dehazed_by: All that the answers of `dehazed` depend on beside the picture: a name and a
            digest of weights. Needed with `dehazed`.

    Raises:
        InputError: The scene cannot be read, or was changed meanwhile (INPUT_CHANGED).
    """
    if (dehazed is None) == bool(dehazed_by):
        raise ValueError("dehazed_by names what dehazed depends on, and goes with it")
    makers = (segmenter.identity, dehazed_by)
    key = segments_key(scene, bands, radiometry, options, makers)
    cache = MaskCache.of_user()
    segments = cache.load(key)
    is_known = segments is not None
    if segments is None:
        segments = found_segments(
            scene, bands, radiometry, options, segmenter, progress_callback, dehazed
        )
        if segments_key(scene, bands, radiometry, options, makers) != key:
            raise InputError(
                f"{scene.path} was changed while it was segmented.",
                hint="Run again.",
                code="INPUT_CHANGED",
            )
        cache.store(key, segments)
    progress_callback(1.0)
    return CodedScene(
        codes=coded(segments, options.coding),
        segments=segments,
        fingerprint=digest([key, options.coding]),
        cached=is_known,
    )


def found_segments(
    scene: Scene,
    bands: Sequence[int],
    radiometry: Radiometry,
    options: SegmentOptions,
    segmenter: Segmenter,
    advance: Callable[[float], None],
    dehazed: Dehazed | None = None,
) -> Segments:
    """Segment a scene without remembering it; arguments are those of `coded_scene`.

    Raises:
        InputError: The scene cannot be read.
    """
    picture = scene_picture(
        scene, bands, radiometry, options.side, lambda share: advance(_READ_UNTIL * share)
    )
    pixels = picture.pixels
    if dehazed is not None:
        pixels = dehazed(pixels, picture.valid)
    return segment_picture(
        pixels,
        picture.valid,
        segmenter,
        Limits(options.tiles),
        lambda share: advance(_READ_UNTIL + (1 - _READ_UNTIL) * share),
    )


def segments_key(
    scene: Scene,
    bands: Sequence[int],
    radiometry: Radiometry,
    options: SegmentOptions,
    makers: Sequence[str],
) -> str:
    """Return a digest of everything that the segments of a scene depend on.

    Args:
        scene: The scene.
        bands: 0-based bands that are looked at.
        radiometry: Of the whole raster.
        options: How to segment; the coding comes after the segments and does not count.
        makers: What the segmenter, and what removes haze before it, depend on.
    """
    frame = scene.frame
    # Sidecars say these without changing the pixels.
    seen_as = (frame.nodata, frame.mask, frame.alpha_band, frame.scales, frame.offsets)
    parts = (tuple(bands), radiometry, options.side, options.tiles, seen_as)
    return cache_key(scene.fingerprint(), *map(repr, parts), *makers)


def segment(settings: SegmentSettings, progress: Progress) -> SegmentReport:
    """Segment a raster.

    The rasters written cover exactly the source (or the extent) with fewer, larger pixels, in its
    CRS. All outputs are made aside and appear together at the end.

    Args:
        settings: What to do.
        progress: Told about the way.

    Returns:
        Facts about the segments and the work.

    Raises:
        DehazeError: The segmentation is refused or fails; nothing is left under the outputs' names.
    """
    try:
        return _segment(settings, progress)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ResourceError(
            f"Memory ran out: {error}.",
            hint="Close other programs, choose device 'cpu', or a smaller side.",
            code="MEMORY",
        ) from error


def _segment(settings: SegmentSettings, progress: Progress) -> SegmentReport:
    start = time.monotonic()
    check_folders(settings)
    use_threads(settings.threads)
    device = choose_device(device_choice(settings.segmenter, settings.device))
    progress.log(f"Device: {device.description}")
    segmenter = find_segmenter(settings.segmenter, device.torch)
    with ExitStack() as stack:
        whole = stack.enter_context(open_scene(settings.source))
        scene = whole
        if settings.extent is not None:
            scene = whole.crop(whole.window_of_extent(settings.extent))
        bands = choose_model_bands(scene.frame, settings.bands)
        # Locked until the end; nothing is kept in them.
        folders = [stack.enter_context(Workspace(Path(path))) for path in settings.outputs]
        files = segment_files(settings, scene.frame)
        _check(files, scene, whole.files, settings.side, progress)
        found = coded_scene(
            scene,
            bands,
            Radiometry.for_scene(whole, bands),
            settings.options,
            segmenter,
            lambda share: progress.update(SEGMENT_UNTIL * share, "Finding segments"),
        )
        _say(found, progress)
        content = Content(found.codes, found.segments, _provenance(settings, segmenter, found))
        _write(files, content, folders, settings, progress)
    return _report(settings, found, device, time.monotonic() - start)


def _check(
    files: Sequence[SegmentFile],
    scene: Scene,
    inputs: Sequence[Path],
    side: int,
    progress: Progress,
) -> None:
    """Find out what the outputs cannot hold before any work is done."""
    shape = shrunk_shape(scene.frame.height, scene.frame.width, side)
    for file in files:
        for sentence in file.check(shape, inputs):
            progress.warning(sentence)


def _write(
    files: Sequence[SegmentFile],
    content: Content,
    workspaces: Sequence[Workspace],
    settings: SegmentSettings,
    progress: Progress,
) -> None:
    """Write all outputs aside, then give them their names."""
    made = []
    for number, (file, workspace) in enumerate(zip(files, workspaces, strict=True)):
        share = SEGMENT_UNTIL + (1 - SEGMENT_UNTIL) * number / len(files)
        progress.update(share, "Writing the outputs")
        path = workspace.empty_folder("made") / file.path.name
        file.write(path, content)
        made.append(path)
    progress.update(1.0, "Done")
    # Nothing is told from here on, so that no cancelling comes between the files. The codes, which
    # others wait for, are the last.
    for file, path in reversed(list(zip(files, made, strict=True))):
        with write_errors(file.path, 0):
            put_file(path, file.path, overwrite=settings.overwrite)


def _say(found: CodedScene, progress: Progress) -> None:
    segments = found.segments
    if found.cached:
        progress.log("The segments are known from an earlier segmentation of the same scene.")
    if segments.left_out:
        progress.warning(
            f"{segments.left_out} of {segments.left_out + segments.levels} levels of detail are "
            f"left out: they would take more tiles than allowed. {segments.tiles} were segmented."
        )
    if not segments.count:
        progress.warning(
            "No segment was found; the codes are 0 everywhere."
            if segments.valid
            else "No pixel holds data; the codes are 0 everywhere."
        )


def _report(
    settings: SegmentSettings, found: CodedScene, device: Device, seconds: float
) -> SegmentReport:
    height, width = found.codes.shape
    return SegmentReport(
        output=settings.destination,
        labels=settings.labels,
        polygons=settings.polygons,
        width=width,
        height=height,
        masks=found.segments.count,
        coverage=found.segments.coverage,
        levels=found.segments.levels,
        tiles=found.segments.tiles,
        segmenter=settings.segmenter,
        coding=settings.coding,
        cached=found.cached,
        device=device.description,
        seconds=round(seconds, 3),
        peak_memory_mib=peak_memory_mib(),
    )


def _provenance(
    settings: SegmentSettings, segmenter: Segmenter, found: CodedScene
) -> dict[str, str]:
    """Return the tags of the outputs, from which the segmentation can be repeated."""
    return {
        "DEHAZE_VERSION": __version__,
        "DEHAZE_LIBRARIES": f"torch {torch.__version__}, GDAL {rasterio.__gdal_version__}",
        "DEHAZE_SEGMENTER": segmenter.identity,
        "DEHAZE_CODING": settings.coding,
        "DEHAZE_MASKS": str(found.segments.count),
        "DEHAZE_PARAMETERS": json.dumps(settings.as_dict(), sort_keys=True),
        "DEHAZE_MASK_FINGERPRINT": found.fingerprint,
    }
