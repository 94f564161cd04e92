# SPDX-License-Identifier: GPL-3.0-or-later
"""A synthesis from clear raster to hazy raster and truth: prepare, paint block by block, finalise.

It stands on the same parts as haze removal: a workspace that can be resumed, result stores whose
chunks are their own journal, and outputs that appear whole or not at all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from dehaze_core import __version__
from dehaze_core.engine.journal import BlockRecord, Journal
from dehaze_core.engine.memory import peak_memory_mib, release_freed_memory
from dehaze_core.engine.output.formats import check_output, output_format, write_output
from dehaze_core.engine.pipeline import run_blocks
from dehaze_core.engine.plan import choose_model_bands
from dehaze_core.engine.preflight import check_folders, check_space
from dehaze_core.engine.progress import Progress
from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.workspace import JOURNAL, Workspace, digest
from dehaze_core.errors import InputError
from dehaze_core.grid import Block, BlockGrid
from dehaze_core.haze.bands import BandHaze, band_haze
from dehaze_core.haze.fields import HazeFields
from dehaze_core.scene import Frame, Radiometry, Scene, open_scene
from dehaze_core.synthesis.layers import airlight_frame, hazy_frame, thickness_frame
from dehaze_core.synthesis.painter import HazePainter, HazyBlock
from dehaze_core.synthesis.recipe import draw_fields
from dehaze_core.synthesis.report import SynthesisReport
from dehaze_core.synthesis.settings import SynthesisSettings
from dehaze_core.synthesis.terrain import Terrain
from dehaze_core.synthesis.truth import request_of, truth_of, write_truth

PAINT_UNTIL = 0.6
"""Share of the progress bar."""

_MIB = 2**20
_OVERVIEWS = 4 / 3
# An uncompressed copy and the file itself, while the store is still there.
_COPIES = 1 + 2 * _OVERVIEWS


def synthesize(settings: SynthesisSettings, progress: Progress) -> SynthesisReport:
    """Put haze on a clear raster.

    Size, georeference, nodata and metadata of the hazy raster are the source's. Every output
    appears whole or not at all, the hazy raster last. An interrupted synthesis goes on where it
    stopped when it is started again with the same settings.

    Args:
        settings: What to do.
        progress: Told about the way.

    Returns:
        Facts about the haze and the work.

    Raises:
        DehazeError: The synthesis is refused or fails; nothing is left under the outputs' names.
    """
    start = time.monotonic()
    check_folders(settings)
    with ExitStack() as stack:
        scene = stack.enter_context(open_scene(settings.source))
        terrain = None
        if settings.dem is not None:
            terrain = stack.enter_context(
                Terrain(settings.dem, scene.frame, settings.fog_base, settings.fog_depth)
            )
        fields = draw_fields(settings, scene.frame)
        job = _Job(settings, scene, fields, terrain, progress)
        # Last: what is refused leaves no folder behind.
        workspace = stack.enter_context(Workspace(Path(settings.destination)))
        job.prepare(workspace)
        job.paint()
        job.finalise()
        workspace.delete()
        return job.report(time.monotonic() - start)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One raster to write: where it goes, what it carries, and what a painted block adds to it."""

    path: Path
    frame: Frame
    store: ResultStore
    values: Callable[[HazyBlock], Any]


class _Job:
    """The steps of one synthesis and what they share."""

    def __init__(
        self,
        settings: SynthesisSettings,
        scene: Scene,
        fields: HazeFields,
        terrain: Terrain | None,
        progress: Progress,
    ) -> None:
        self.settings = settings
        self.scene = scene
        self.fields = fields
        self.terrain = terrain
        self.progress = progress
        # Once, at the start: what the result is made from, even if the file changes meanwhile.
        self.fingerprint = scene.fingerprint()
        self.model_bands = choose_model_bands(scene.frame, settings.bands)
        self.radiometry = Radiometry.for_scene(scene, self.model_bands)
        self.frame = hazy_frame(scene.frame, unrounded=settings.unrounded)
        self.painter = HazePainter(
            scene,
            self.radiometry,
            fields,
            self.bands,
            terrain,
            settings.adjacency,
            self.frame.dtype,
        )
        self.grid = BlockGrid(
            scene.frame.height, scene.frame.width, settings.block_size, self.painter.halo, 1
        )
        self.resumed = 0

    @cached_property
    def bands(self) -> list[BandHaze]:
        """The bands that get haze."""
        frame = self.scene.frame
        found = band_haze(self.model_bands, frame.color_interp, self.fields.recipe.alpha)
        return sorted(found, key=lambda band: band.index)

    def prepare(self, workspace: Workspace) -> None:
        """Check disk and formats, warn of what will not be as expected, and open the stores."""
        self.workspace = workspace
        self._check_disk()
        self._warn()
        truth = self._truth()
        identity = {
            "task": "synthesis",
            "truth": truth,
            "layers": list(
                map(bool, (self.settings.thickness_output, self.settings.airlight_output))
            ),
            "block_size": self.settings.block_size,
        }
        reason = self.workspace.prepare(identity)
        if reason is not None:
            self.progress.warning(reason)
        self.workspace.claim(self.settings.outputs[1:])
        self._key = digest(identity)
        self.layers = self._open_layers()
        self._check_outputs()

    def paint(self) -> None:
        """Put haze on all blocks that are not finished."""
        with ExitStack() as stack:
            self.journal = Journal(self.workspace.folder / JOURNAL)
            stack.callback(self.journal.close)
            missing = [block for block in self.grid if not self._is_finished(block)]
            done = self.resumed = len(self.grid) - len(missing)
            if done:
                self.progress.log(f"Resuming: {done} of {len(self.grid)} blocks are finished.")
            for _ in run_blocks(missing, self.painter.load, self.painter.paint, self._store):
                done += 1
                self.progress.update(PAINT_UNTIL * done / len(self.grid), "Adding haze")

    def finalise(self) -> None:
        """Write the outputs, the hazy raster last: where it is, the truth is as well.

        Raises:
            InputError: The source was changed while it was read (INPUT_CHANGED).
            OutputError: An output cannot be written, or does not read back as it should.
        """
        if self.scene.fingerprint() != self.fingerprint:
            raise InputError(
                f"{self.settings.source} was changed during the synthesis.",
                hint="Run again; the work starts over, since blocks of both states would not fit.",
                code="INPUT_CHANGED",
            )
        release_freed_memory()
        if self.settings.truth_output is not None:
            write_truth(Path(self.settings.truth_output), self._full_truth())
        for number, layer in enumerate(reversed(self.layers)):
            write_output(
                output_format(layer.path),
                layer.store.read,
                layer.frame,
                self.scene.stored_mask if layer.frame.mask == "internal" else None,
                layer.path,
                provenance={
                    "DEHAZE_VERSION": __version__,
                    "DEHAZE_HAZE": json.dumps(self._truth(), sort_keys=True),
                },
                creation_options=self._options(layer),
                progress=partial(self._writing, number),
                work_folder=self.workspace.folder_for(layer.path),
                # Layers were looked at before the work; an interrupted run may have written them.
                overwrite=self.settings.overwrite or layer is not self.layers[0],
            )
        self.progress.update(1.0, "Done")

    def report(self, seconds: float) -> SynthesisReport:
        """Sum up the synthesis."""
        frame, settings = self.scene.frame, self.settings
        return SynthesisReport(
            output=settings.destination,
            thickness_output=settings.thickness_output,
            airlight_output=settings.airlight_output,
            truth_output=settings.truth_output,
            width=frame.width,
            height=frame.height,
            kind=settings.kind,
            level=settings.haze_level,
            **self._statistics(),
            blocks=len(self.grid),
            resumed_blocks=self.resumed,
            seconds=round(seconds, 3),
            mpx_per_second=round(frame.width * frame.height / 1e6 / max(seconds, 1e-9), 3),
            peak_memory_mib=peak_memory_mib(),
        )

    def _store(self, block: Block, hazy: HazyBlock) -> None:
        for layer in self.layers:
            layer.store.write(block.core, layer.values(hazy))
        total = float(hazy.thickness.sum(where=hazy.valid, dtype=np.float64))
        self.journal.add(BlockRecord(block.index, int(hazy.valid.sum()), total))

    def _is_finished(self, block: Block) -> bool:
        stored = all(layer.store.is_complete(block.core) for layer in self.layers)
        return stored and block.index in self.journal

    def _open_layers(self) -> list[_Layer]:
        settings, frame = self.settings, self.scene.frame
        wanted: list[tuple[str, str | None, Frame, Callable[[HazyBlock], Any]]] = [
            ("result", settings.destination, self.frame, lambda hazy: hazy.pixels),
            (
                "thickness",
                settings.thickness_output,
                thickness_frame(frame),
                lambda hazy: hazy.thickness[None],
            ),
            (
                "airlight",
                settings.airlight_output,
                airlight_frame(frame, self.bands),
                lambda hazy: hazy.airlight,
            ),
        ]
        return [
            _Layer(Path(path), layer, self._open_store(name, layer), values)
            for name, path, layer, values in wanted
            if path is not None
        ]

    def _options(self, layer: _Layer) -> tuple[str, ...]:
        """Return the creation options of a layer: the user's are for the hazy raster."""
        return self.settings.creation_options if layer is self.layers[0] else ()

    def _open_store(self, name: str, frame: Frame) -> ResultStore:
        return ResultStore.open(
            self.workspace.folder / name,
            shape=(frame.count, frame.height, frame.width),
            dtype=frame.dtype,
            chunk=self.settings.block_size,
            settings_hash=self._key,
        )

    def _check_outputs(self) -> None:
        """Find out what the formats cannot hold before any work is done."""
        others = (self.settings.dem, self.settings.texture)
        inputs = [*self.scene.files, *(Path(path) for path in others if path is not None)]
        for layer in self.layers:
            for sentence in check_output(
                output_format(layer.path),
                layer.frame,
                layer.path,
                creation_options=self._options(layer),
                work_folder=self.workspace.folder_for(layer.path),
                inputs=inputs,
            ):
                self.progress.warning(sentence)

    def _check_disk(self) -> None:
        settings, frame = self.settings, self.scene.frame
        pixels = frame.height * frame.width
        layers = 4 * (settings.thickness_output is not None)
        layers += 4 * len(self.bands) * (settings.airlight_output is not None)
        store = pixels * (self.frame.count * np.dtype(self.frame.dtype).itemsize + layers)
        stages = {"adding haze": store, "writing the outputs": store * _COPIES}
        check_space(
            {stage: int(size / _MIB) + 1 for stage, size in stages.items()},
            self.workspace.folder,
            settings.destination,
        )

    def _warn(self) -> None:
        hazed = {band.index for band in self.bands}
        left = [str(band + 1) for band in self.scene.frame.color_bands if band not in hazed]
        if left:
            self.progress.warning(
                f"Bands {', '.join(left)} stay clear: their wavelength is not known. "
                "Set their colour interpretation (for example nir) to have haze on them."
            )
        if self.terrain is not None and self.terrain.covered < 1.0:
            self.progress.warning(
                f"The DEM covers {100 * self.terrain.covered:.0f} % of the raster; the rest counts "
                "as low ground."
            )

    def _truth(self) -> dict[str, Any]:
        return truth_of(
            self.settings,
            self.fields,
            self.bands,
            self.radiometry,
            self.terrain,
            self.fingerprint,
        )

    def _full_truth(self) -> dict[str, Any]:
        outputs = {
            "hazy": Path(self.settings.destination).name,
            "thickness": self.settings.thickness_output,
            "airlight": self.settings.airlight_output,
        }
        named = {name: path and Path(path).name for name, path in outputs.items()}
        return {
            **self._truth(),
            "request": request_of(self.settings, self.fields.recipe.texture),
            "outputs": named,
            "statistics": self._statistics(),
        }

    def _statistics(self) -> dict[str, float]:
        frame = self.scene.frame
        valid = sum(record.valid for record in self.journal)
        return {
            "median_thickness": self.fields.median_thickness(frame.height, frame.width),
            "mean_thickness": sum(record.thickness for record in self.journal) / max(valid, 1),
            "valid_fraction": valid / (frame.width * frame.height),
        }

    def _writing(self, number: int, share: float) -> None:
        done = (number + share) / len(self.layers)
        self.progress.update(PAINT_UNTIL + (1 - PAINT_UNTIL) * done, "Writing the outputs")
