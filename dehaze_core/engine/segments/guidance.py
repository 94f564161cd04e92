# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run comes to its guide: the bands themselves, a mask that is given, or segments it finds.

Segments are found once, on a small picture of the scene, before the first block. They are kept with
the state of the run: who goes on with it, maybe on another device, is guided by the same ones.
"""

from __future__ import annotations

import base64
import shutil
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from dehaze_core import __version__
from dehaze_core.engine.device import Device
from dehaze_core.engine.job import Job
from dehaze_core.engine.plan import place_of
from dehaze_core.engine.progress import Progress
from dehaze_core.engine.sealed import read_sealed, write_sealed
from dehaze_core.engine.segments.given_mask import GivenMask, open_mask, refuse_mask
from dehaze_core.engine.segments.guide import GrayGuide, Guide, HeldCodes, MaskGuide
from dehaze_core.engine.segments.scene_picture import Dehazed
from dehaze_core.engine.segments.segment import coded_scene
from dehaze_core.engine.segments.settings import SegmentOptions
from dehaze_core.engine.settings import RunSettings
from dehaze_core.engine.workspace import Workspace
from dehaze_core.models import load_model
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.scene import Scene
from dehaze_core.scene.gdal_source import quiet_open
from dehaze_core.segmentation.segmenter import Segmenter, find_segmenter

FIRST_MODEL = "dehazexl-lite"
"""Takes the haze out of the picture that is segmented, where the structure is `dehaze_mask`."""

GUIDE_UNTIL = 0.1
"""Share of the progress bar, where segments are looked for."""

_FILE = "guide.json"

Codes = NDArray[np.uint8]
Run = Callable[[RunSettings, Progress], object]
"""The engine itself: dehazes a raster."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """Where the guide of a run comes from.

    Attributes:
        about: All that it depends on beside the source, by name.
        inputs: Rasters that it is read from.
        until: Share of the progress bar that `make` takes.
        make: Returns the guide of a job that has none yet; keeps what took time in the workspace.
    """

    about: Mapping[str, str]
    inputs: tuple[Scene, ...]
    until: float
    make: Callable[[Job, Workspace, Progress], Guide]


def find_guidance(
    settings: RunSettings,
    network: StreamedNetwork,
    whole: Scene,
    device: Device,
    run: Run,
    stack: ExitStack,
) -> Guidance | None:
    """Return where the guide of a run comes from; None for a network that has none.

    Args:
        settings: What to do.
        network: The network.
        whole: The source, not cropped.
        device: Where segments are looked for.
        run: Used for a first removal of haze.
        stack: Closes the mask in the end.

    Raises:
        SettingsError: A mask was given for a network without a guide (MASK_MODEL).
        InputError: The mask cannot be read, or is none of this raster (MASK_BANDS, MASK_DTYPE,
            MASK_CRS, MASK_PLACE).
        ModelError: The segmenter's weights or packages are missing (MODEL_WEIGHTS_MISSING,
            MODEL_PACKAGE).
    """
    refuse_mask(network, settings.mask)
    if not network.guides:
        return None
    about: dict[str, str] = {"structure": settings.structure}
    if settings.structure == "haze_gray":
        return Guidance(about, (), 0.0, lambda job, workspace, progress: GrayGuide())
    if settings.mask is not None:
        mask = open_mask(settings.mask, whole.frame, place_of(whole, settings))
        stack.callback(mask.scene.close)
        about |= {"mask": settings.mask, "fingerprint": mask.scene.fingerprint()}
        return Guidance(about, (mask.scene,), 0.0, partial(_given, mask))
    options = SegmentOptions(settings.segmenter, settings.coding)
    segmenter = find_segmenter(options.segmenter, device.torch)
    about |= {
        "segmenter": segmenter.identity,
        "coding": options.coding,
        "side": str(options.side),
        "tiles": str(options.tiles),
    }
    if settings.structure == "dehaze_mask":
        about["dehazed_by"] = f"{FIRST_MODEL} {load_model(FIRST_MODEL).card.sha256} {__version__}"
    finder = _Finder(settings, options, segmenter, about.get("dehazed_by", ""), run)
    return Guidance(about, (), GUIDE_UNTIL, finder.guide)


def _given(mask: GivenMask, job: Job, workspace: Workspace, progress: Progress) -> Guide:
    return mask.guide(job.grid.height, job.grid.width, progress.warning)


@dataclass(frozen=True, slots=True)
class _Finder:
    """Finds the segments of a scene.

    Attributes:
        settings: What to do.
        options: How to segment.
        segmenter: The one that the options name.
        dehazed_by: What removes the haze of the picture before; empty for nothing.
        run: The engine.
    """

    settings: RunSettings
    options: SegmentOptions
    segmenter: Segmenter
    dehazed_by: str
    run: Run

    def guide(self, job: Job, workspace: Workspace, progress: Progress) -> Guide:
        """Return the codes of the job's scene, those that an interrupted run has left, if any."""
        path = workspace.folder / _FILE
        codes = _stored(path)
        if codes is None:
            codes = self._found(job, workspace, progress)
            _store(path, codes)
        return MaskGuide.covering(HeldCodes(codes), job.grid.height, job.grid.width)

    def _found(self, job: Job, workspace: Workspace, progress: Progress) -> Codes:
        steps = _Steps(progress)
        found = coded_scene(
            job.scene,
            job.model_bands,
            job.radiometry,
            self.options,
            self.segmenter,
            steps.advance,
            self._first_removal(workspace, steps) if self.dehazed_by else None,
            dehazed_by=self.dehazed_by,
        )
        segments = found.segments
        progress.log(
            f"Guide: {segments.count} segments by {self.segmenter.name} cover "
            f"{segments.coverage:.0%} of the raster."
        )
        return found.codes

    def _first_removal(self, workspace: Workspace, progress: Progress) -> Dehazed:
        """Return what dehazes the picture of the scene: a run of its own, in as little memory."""

        def dehazed(picture: Codes, valid: NDArray[np.bool_]) -> Codes:
            folder = workspace.empty_folder("picture")
            hazy, clear = folder / "hazy.tif", folder / "clear.tif"
            _write_picture(hazy, picture, valid)
            settings = RunSettings(
                source=str(hazy),
                destination=str(clear),
                model=FIRST_MODEL,
                device=self.settings.device,
                memory_limit=self.settings.memory_limit,
                threads=self.settings.threads,
                format="gtiff",
            )
            self.run(settings, progress)
            with quiet_open(clear) as raster:
                pixels: Codes = raster.read().transpose(1, 2, 0)
            shutil.rmtree(folder)
            return pixels

        return dehazed


class _Steps:
    """Tells of segments being looked for, and listens to the run that removes haze before.

    Args:
        progress: Listener of the run that is guided.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._share = 0.0

    def advance(self, share: float) -> None:
        """Take note of the share of the segmentation that is done."""
        self._share = share
        self._progress.update(GUIDE_UNTIL * share, "Finding segments")

    def update(self, fraction: float, text: str) -> None:
        """Stay where the segmentation is; the listener may end the work here as well."""
        self._progress.update(GUIDE_UNTIL * self._share, "Removing haze before segmenting")

    def log(self, message: str) -> None:
        """Ignore a message."""

    def warning(self, message: str) -> None:
        """Pass a warning on."""
        self._progress.warning(message)


def _write_picture(path: Path, picture: Codes, valid: NDArray[np.bool_]) -> None:
    height, width = valid.shape
    shape = {"count": 3, "height": height, "width": width, "dtype": "uint8"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        quiet_open(path, "w", driver="GTiff", photometric="rgb", **shape) as raster,
    ):
        raster.write(picture.transpose(2, 0, 1))
        raster.write_mask(valid)


def _store(path: Path, codes: Codes) -> None:
    packed = base64.b64encode(zlib.compress(codes.tobytes())).decode("ascii")
    write_sealed(path, {"shape": list(codes.shape), "codes": packed})


def _stored(path: Path) -> Codes | None:
    record = read_sealed(path)
    if record is None:
        return None
    content = zlib.decompress(base64.b64decode(record["codes"]))
    return np.frombuffer(content, np.uint8).reshape(record["shape"])
