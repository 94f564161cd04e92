# SPDX-License-Identifier: GPL-3.0-or-later
"""A run from source to finished file: plan, pass A, context, pass B, finalise."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dehaze_core import __version__
from dehaze_core.engine.context import ContextStep, SceneContext
from dehaze_core.engine.device import Device, choose_device, use_threads
from dehaze_core.engine.finalise import write_cog
from dehaze_core.engine.job import Job
from dehaze_core.engine.journal import Journal
from dehaze_core.engine.memory import keep_freed_memory, peak_memory_mib, release_freed_memory
from dehaze_core.engine.passes import Restorer, encode_blocks
from dehaze_core.engine.plan import MIB, Plan, choose_model_bands, draw_plan, measured_seconds
from dehaze_core.engine.progress import Progress
from dehaze_core.engine.report import Report
from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.settings import RunSettings
from dehaze_core.engine.workspace import Workspace, digest
from dehaze_core.errors import OutputError, ResourceError
from dehaze_core.grid import BlockGrid, Window
from dehaze_core.haze.bands import band_haze
from dehaze_core.models import Model, load_model
from dehaze_core.models.dehazexl.lite import TOKEN_PX
from dehaze_core.scene import Radiometry, Scene, open_scene

ENCODE_UNTIL, CONTEXT_UNTIL, RESTORE_UNTIL = 0.30, 0.36, 0.84
"""Shares of the progress bar."""

THICKNESS_LAYER = "haze optical thickness at 550 nm"


def make_plan(settings: RunSettings) -> Plan:
    """Return what a run with these settings would do, with a time measured on this machine.

    Raises:
        DehazeError: The run would be refused.
    """
    use_threads(settings.threads)
    device = choose_device(settings.device)
    model = load_model(settings.model)
    with open_scene(settings.source) as scene:
        plan = draw_plan(_crop(scene, settings).frame, model, device, settings)
    network = model.network.to(device.torch)
    return replace(plan, seconds=measured_seconds(plan, replace(model, network=network), device))


def run(settings: RunSettings, progress: Progress) -> Report:
    """Dehaze a raster.

    The output has the source's size (or the extent's), CRS, geotransform, data type, nodata and
    metadata. It appears whole or not at all. A run that was interrupted goes on where it
    stopped when it is started again with the same settings.

    Args:
        settings: What to do.
        progress: Told about the way.

    Returns:
        Facts about the run.

    Raises:
        DehazeError: The run is refused or fails; nothing is left under the outputs' names.
    """
    start = time.monotonic()
    keep_freed_memory()
    use_threads(settings.threads)
    device = choose_device(settings.device)
    progress.log(f"Device: {device.description}")
    model = load_model(settings.model)
    model = replace(model, network=model.network.to(device.torch))
    with open_scene(settings.source) as scene, _open_workspace(settings) as workspace:
        runner = _Runner(settings, model, device, scene, workspace, progress)
        runner.prepare()
        runner.restore()
        runner.finalise()
        workspace.delete()
        return runner.report(time.monotonic() - start)


class _Runner:
    """The steps of one run and what they share."""

    def __init__(
        self,
        settings: RunSettings,
        model: Model,
        device: Device,
        scene: Scene,
        workspace: Workspace,
        progress: Progress,
    ) -> None:
        self.settings = settings
        self.model = model
        self.device = device
        self.whole_scene = scene
        self.scene = _crop(scene, settings)
        # Once, at the start: what the result is made from, even if the file changes meanwhile.
        self.fingerprint = self.scene.fingerprint()
        self.workspace = workspace
        self.progress = progress
        self.resumed = 0

    def prepare(self) -> None:
        """Decide on blocks, check memory and disk, and open the stores."""
        scene, settings = self.scene, self.settings
        bands = choose_model_bands(scene.frame, settings.bands)
        self.plan = draw_plan(scene.frame, self.model, self.device, self._with_stored_block_size())
        self._check_disk()
        self._say_plan()
        size, halo = self.plan.block_size, self.plan.halo
        grid = BlockGrid(scene.frame.height, scene.frame.width, size, halo, TOKEN_PX)
        identity = self._identity()
        reason = self.workspace.prepare(identity)
        if reason is not None:
            self.progress.warning(reason)
        self.job = Job(
            scene=scene,
            model_bands=bands,
            radiometry=Radiometry.for_scene(self.whole_scene, bands),
            network=self.model.network,
            device=self.device,
            grid=grid,
            strength=settings.strength,
        )
        frame = scene.frame
        self._key = digest(identity)
        self.results = self._store(
            "result", (frame.count, frame.height, frame.width), frame.dtype, size
        )
        self.thickness: ResultStore | None = None
        if settings.thickness is not None:
            self.thickness = self._store(
                "thickness", (1, frame.height, frame.width), "float32", size
            )

    def restore(self) -> None:
        """Run both passes and the context between them."""
        with ExitStack() as stack:
            self.journal = Journal(self.workspace.folder / "blocks.jsonl")
            stack.callback(self.journal.close)
            restorer = Restorer(self.job, self.results, self.thickness, self.journal)
            missing = restorer.missing()
            self.resumed = len(self.job.grid) - len(missing)
            if self.resumed:
                self.progress.log(
                    f"Resuming: {self.resumed} of {len(self.job.grid)} blocks are finished."
                )
            if not missing:
                return
            context = self._context()
            if context is not None:
                stack.callback(context.conditions.close)
                self._warn_of_left_out_bands(context)
            release_freed_memory()
            done = self.resumed
            for _ in restorer.run(missing, context):
                done += 1
                self._advance(
                    CONTEXT_UNTIL, RESTORE_UNTIL, done / len(self.job.grid), "Removing haze"
                )

    def finalise(self) -> None:
        """Write the output files, each whole or not at all."""
        release_freed_memory()
        outputs = [(self.results, self.scene.frame, self.settings.destination)]
        if self.thickness is not None and self.settings.thickness is not None:
            outputs.append(
                (self.thickness, self.scene.frame.layer(THICKNESS_LAYER), self.settings.thickness)
            )
        for number, (store, frame, path) in enumerate(outputs):
            share = partial(self._finalise_progress, number, len(outputs))
            mask_read = self._read_mask if frame.mask == "internal" else None
            lost = write_cog(
                store.read,
                frame,
                mask_read,
                Path(path),
                provenance=self._provenance(),
                creation_options=self.settings.creation_options,
                progress=share,
                work_folder=self._empty_folder("output"),
            )
            for sentence in lost:
                self.progress.warning(sentence)
        self.progress.update(1.0, "Done")

    def report(self, seconds: float) -> Report:
        """Sum up the run."""
        frame, plan = self.scene.frame, self.plan
        valid = sum(record.valid for record in self.journal)
        thickness = sum(record.thickness for record in self.journal) / max(valid, 1)
        return Report(
            output=self.settings.destination,
            thickness=self.settings.thickness,
            width=frame.width,
            height=frame.height,
            model=self.model.card.name,
            model_sha256=self.model.card.sha256,
            device=self.device.description,
            block_size=plan.block_size,
            blocks=plan.blocks,
            resumed_blocks=self.resumed,
            seconds=round(seconds, 3),
            mpx_per_second=round(frame.width * frame.height / 1e6 / max(seconds, 1e-9), 3),
            mean_thickness=thickness,
            mean_transmission=float(np.exp(-thickness)),
            valid_fraction=valid / (frame.width * frame.height),
            peak_memory_mib=peak_memory_mib(),
        )

    def _with_stored_block_size(self) -> RunSettings:
        """Prefer the block size of an interrupted run, which may have seen more memory."""
        stored = self.workspace.read_identity()
        if self.settings.block_size is None and stored is not None:
            size = stored.get("block_size")
            if isinstance(size, int):
                return replace(self.settings, block_size=size)
        return self.settings

    def _identity(self) -> dict[str, Any]:
        frame = self.scene.frame
        return {
            "input": self.fingerprint,
            "frame": repr(
                (frame.nodata, frame.mask, frame.color_interp, frame.scales, frame.offsets)
            ),
            "model": self.model.card.sha256,
            "strength": self.settings.strength,
            "bands": list(self.plan.model_bands),
            "thickness_wanted": self.settings.thickness is not None,
            "block_size": self.plan.block_size,
            "precision": str(self.device.autocast),
            "version": __version__,
        }

    def _store(self, name: str, shape: tuple[int, int, int], dtype: str, chunk: int) -> ResultStore:
        return ResultStore.open(
            self.workspace.folder / name,
            shape=shape,
            dtype=dtype,
            chunk=chunk,
            settings_hash=self._key,
        )

    def _context(self) -> SceneContext | None:
        """Run pass A and the context step; None where no pixel is valid."""
        grid, network = self.job.grid, self.job.network
        width = network.config.widths[-1]
        tokens = self._store(
            "tokens",
            (width + 1, grid.cell_rows, grid.cell_cols),
            "float32",
            grid.size // grid.cell,
        )
        for block in encode_blocks(self.job, tokens):
            self._advance(0.0, ENCODE_UNTIL, (block.index + 1) / len(grid), "Looking at the scene")
        release_freed_memory()
        step = ContextStep(network, self.device.torch, grid, tokens, self.workspace.folder)
        return step.run(
            lambda share: self._advance(ENCODE_UNTIL, CONTEXT_UNTIL, share, "Global context")
        )

    def _empty_folder(self, name: str) -> Path:
        """Return a folder of the workspace, without what a killed run may have left in it."""
        folder = self.workspace.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _read_mask(self, window: Window) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return self.scene.stored_mask(window)

    def _advance(self, start: float, stop: float, share: float, text: str) -> None:
        self.progress.update(start + (stop - start) * share, text)

    def _finalise_progress(self, number: int, count: int, share: float) -> None:
        self._advance(RESTORE_UNTIL, 1.0, (number + share) / count, "Writing the output")

    def _say_plan(self) -> None:
        plan = self.plan
        cell = plan.context_cell
        context = "exact" if cell == 1 else f"bounded, cells of {cell} tokens"
        self.progress.log(
            f"Plan: {plan.width} x {plan.height} px, {plan.bands} bands {plan.dtype}; "
            f"{plan.blocks} blocks of {plan.block_size} px with a halo of {plan.halo} px; "
            f"context {context}; about {plan.memory_mib} MiB of memory and {plan.disk_mib} MiB of "
            "disk."
        )

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.workspace.folder).free // MIB
        if free < self.plan.disk_mib:
            raise ResourceError(
                f"The run needs {self.plan.disk_mib} MiB of disk beside "
                f"{self.settings.destination}, {free} MiB are free.",
                hint="Free space, or choose an output on another disk.",
                code="DISK",
            )

    def _warn_of_left_out_bands(self, context: SceneContext) -> None:
        frame = self.scene.frame
        corrected = {
            band.index
            for band in band_haze(
                self.job.model_bands, frame.color_interp, float(context.scene.alpha)
            )
        }
        left = [str(band + 1) for band in frame.color_bands if band not in corrected]
        if left:
            self.progress.warning(
                f"Bands {', '.join(left)} are copied unchanged: their wavelength is not known. "
                "Set their colour interpretation (for example nir) to have them corrected."
            )

    def _provenance(self) -> dict[str, str]:
        settings = self.settings.as_dict()
        return {
            "DEHAZE_VERSION": __version__,
            "DEHAZE_MODEL": self.model.card.name,
            "DEHAZE_MODEL_SHA256": self.model.card.sha256,
            "DEHAZE_PARAMETERS": json.dumps(settings, sort_keys=True),
            "DEHAZE_SOURCE": self.fingerprint,
        }


def _crop(scene: Scene, settings: RunSettings) -> Scene:
    if settings.extent is None:
        return scene
    return scene.crop(scene.window_of_extent(settings.extent))


def _open_workspace(settings: RunSettings) -> Workspace:
    for output in settings.outputs:
        path = Path(output)
        if not path.parent.is_dir():
            raise OutputError(
                f"The folder {path.parent} of the output does not exist.",
                hint="Create it, or choose another output.",
                code="OUTPUT_FOLDER",
            )
        if path.exists() and not settings.overwrite:
            raise OutputError(
                f"The output {path} exists already.",
                hint="Choose another name, or allow overwriting.",
                code="OUTPUT_EXISTS",
            )
    return Workspace(Path(settings.destination))
