# SPDX-License-Identifier: GPL-3.0-or-later
"""A run from source to finished file: plan, pass A, context, pass B, finalise."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dehaze_core.engine.backend import backend_of, device_for, with_backend
from dehaze_core.engine.compute import Compute
from dehaze_core.engine.corrections import haze_layer
from dehaze_core.engine.device import Device, use_threads
from dehaze_core.engine.fitted_haze import FittedHaze
from dehaze_core.engine.identity import provenance, run_identity
from dehaze_core.engine.job import Job
from dehaze_core.engine.journal import Journal
from dehaze_core.engine.memory import keep_freed_memory, peak_memory_mib, release_freed_memory
from dehaze_core.engine.output.formats import write_output
from dehaze_core.engine.output.read_back import Read
from dehaze_core.engine.overview import look_at_overview, stored_statistics
from dehaze_core.engine.passes import Restorer, encode_blocks
from dehaze_core.engine.plan import Plan, block_grid, choose_model_bands, cropped, draw_plan
from dehaze_core.engine.preflight import check_disk, check_folders, describe, left_out_bands
from dehaze_core.engine.progress import Progress
from dehaze_core.engine.report import Report
from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.run_outputs import check_outputs, run_outputs
from dehaze_core.engine.segments.guidance import find_guidance
from dehaze_core.engine.settings import RunSettings
from dehaze_core.engine.tokens.context import ContextStep, SceneContext, choose_backend
from dehaze_core.engine.workspace import JOURNAL, Workspace, claimed_layers, digest
from dehaze_core.errors import InputError, ResourceError
from dehaze_core.models import Model, load_model
from dehaze_core.models.streaming import TokenNetwork
from dehaze_core.scene import Radiometry, Scene, open_scene

ENCODE_UNTIL, CONTEXT_UNTIL, RESTORE_UNTIL = 0.30, 0.36, 0.84
"""Shares of the progress bar."""


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
        DehazeError: The run is refused or fails. Nothing is left under the destination's name; the
            haze thickness, which is finished before it, may be there already.
    """
    try:
        return _run(settings, progress)
    except MemoryError as error:
        raise ResourceError(
            f"Memory ran out: {error}.",
            hint="Close other programs, or set a lower memory limit.",
            code="MEMORY",
        ) from error


def _run(settings: RunSettings, progress: Progress) -> Report:
    start = time.monotonic()
    check_folders(settings)
    keep_freed_memory()
    threads = use_threads(settings.threads)
    device = device_for(settings)
    model = load_model(settings.model)
    network = with_backend(model.network, settings.backend, device, threads)
    model = replace(model, network=network)
    progress.log(f"Device: {device.description}, {backend_of(network)}")
    with ExitStack() as stack:
        scene = stack.enter_context(open_scene(settings.source))
        workspace = stack.enter_context(Workspace(Path(settings.destination)))
        for layer in settings.outputs[1:]:
            # Holds nothing, but keeps another run from writing the same file.
            stack.enter_context(Workspace(Path(layer)))
        runner = _Runner(settings, model, device, scene, workspace, progress)
        runner.prepare(stack)
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
        self.scene = cropped(scene, settings)
        # Once, at the start: what the result is made from, even if the file changes meanwhile.
        self.fingerprint = self.scene.fingerprint()
        self.inputs = {self.scene: self.fingerprint}
        self.outputs = run_outputs(settings, self.scene.frame)
        self.workspace = workspace
        # Written by the interrupted run that this one goes on with.
        self._own = claimed_layers(Path(settings.destination))
        self.progress = progress
        self.resumed = 0
        self.guide: Mapping[str, str] | None = None
        self._guided_until = 0.0
        # Where it is not known block by block.
        self._mean_thickness: float | None = None
        self.compute = Compute(model.network, device, progress.warning)

    def prepare(self, stack: ExitStack) -> None:
        """Decide on blocks, check memory and disk, find the guide, and open the stores.

        Args:
            stack: Closes what is read up to the end of the run.
        """
        scene, settings, network = self.scene, self.settings, self.model.network
        bands = choose_model_bands(scene.frame, settings.bands)
        guidance = find_guidance(settings, network, self.whole_scene, self.device, run, stack)
        if guidance is not None:
            self.guide = guidance.about
            self.inputs |= {each: each.fingerprint() for each in guidance.inputs}
        self.plan = self._draw_plan()
        check_disk(self.plan, self.workspace.folder, settings)
        files = [file for each in self.inputs for file in each.files]
        for sentence in check_outputs(self.outputs, files, self.workspace):
            self.progress.warning(sentence)
        self.progress.log(describe(self.plan))
        identity = self._identity(self.plan)
        reason = self.workspace.prepare(identity)
        if reason is not None:
            self.progress.warning(reason)
        self.workspace.claim(settings.outputs[1:])
        self.job = Job(
            scene=scene,
            model_bands=bands,
            radiometry=Radiometry.for_scene(self.whole_scene, bands),
            compute=self.compute,
            grid=block_grid(scene.frame, self.plan.block_size, network),
            strength=settings.strength,
        )
        if guidance is not None:
            guide = guidance.make(self.job, self.workspace, self.progress)
            self.job = replace(self.job, guide=guide)
            self._guided_until = guidance.until
        self._key = digest(identity)
        self._open_stores()

    def _open_stores(self) -> None:
        frame, size, layer = self.scene.frame, self.plan.block_size, haze_layer(self.job)
        shape = (frame.count, frame.height, frame.width)
        self.results = self._store("result", shape, frame.dtype, size)
        self.haze: ResultStore | None = None
        # What was painted shows its haze only when sums over all of it are known.
        if self.settings.thickness is not None or self._paints:
            cells = layer.cells(frame.window)
            shape = (layer.channels, cells.height, cells.width)
            self.haze = self._store("haze", shape, layer.dtype, size // layer.cell)

    @property
    def _paints(self) -> bool:
        return self.model.network.paints

    def restore(self) -> None:
        """Run both passes and the context between them."""
        with ExitStack() as stack:
            self.journal = Journal(self.workspace.folder / JOURNAL)
            stack.callback(self.journal.close)
            restorer = Restorer(self.job, self.results, self.haze, self.journal)
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
                left_out = left_out_bands(self.scene.frame, self.job.model_bands)
                if left_out is not None:
                    self.progress.warning(left_out)
                stack.callback(context.close)
            release_freed_memory()
            done = self.resumed
            for _ in restorer.run(missing, context):
                done += 1
                self._advance(
                    CONTEXT_UNTIL, RESTORE_UNTIL, done / len(self.job.grid), "Removing haze"
                )
            if restorer.has_gaps:
                self.progress.warning(
                    "The network's estimate was not finite in places; pixels there are unchanged."
                )

    def finalise(self) -> None:
        """Write the output files, each whole or not at all, the destination last.

        Raises:
            InputError: The source or the mask was changed while it was read (INPUT_CHANGED).
            OutputError: An output cannot be written, or does not read back as it should.
        """
        for scene, fingerprint in self.inputs.items():
            if scene.fingerprint() != fingerprint:
                raise InputError(
                    f"{scene.path} was changed during the run.",
                    hint="Run again; the run starts over, since blocks of both states would not "
                    "fit.",
                    code="INPUT_CHANGED",
                )
        release_freed_memory()
        with ExitStack() as stack:
            self._write_outputs(self._layers(stack))
        self.progress.update(1.0, "Done")

    def _layers(self, stack: ExitStack) -> list[Read]:
        """Return where the pixels of the outputs are read."""
        if self.haze is None:
            return [self.results.read]
        if not self._paints:
            return [self.results.read, self.haze.read]
        folder = self.workspace.folder
        fitted = stack.enter_context(FittedHaze(self.job, self.haze, self.results, folder))
        self._mean_thickness = fitted.mean_thickness
        return [fitted.clear, fitted.thickness]

    def _write_outputs(self, layers: list[Read]) -> None:
        written = list(zip(layers, self.outputs, strict=False))
        for number, (read, output) in enumerate(reversed(written)):
            write_output(
                output.format,
                read,
                output.frame,
                self.scene.stored_mask if output.frame.mask == "internal" else None,
                output.path,
                provenance=self._provenance(),
                creation_options=output.creation_options,
                progress=partial(self._finalise_progress, number, len(written)),
                work_folder=self.workspace.folder_for(output.path),
                overwrite=self.settings.overwrite or os.path.abspath(output.path) in self._own,
            )

    def report(self, seconds: float) -> Report:
        """Sum up the run."""
        frame, plan = self.scene.frame, self.plan
        valid = sum(record.valid for record in self.journal)
        thickness = self._mean_thickness
        if thickness is None:
            thickness = sum(record.thickness for record in self.journal) / max(valid, 1)
        return Report(
            output=self.settings.destination,
            thickness=self.settings.thickness,
            width=frame.width,
            height=frame.height,
            model=self.model.card.name,
            model_sha256=self.model.card.sha256,
            device=self.device.description,
            backend=plan.backend,
            context=plan.context,
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

    def _draw_plan(self) -> Plan:
        """Plan the run; with the block size of an interrupted one if it was the same job."""
        plan = draw_plan(self.scene.frame, self.model, self.device, self.settings)
        stored = self.workspace.read_identity() or {}
        others = {k: v for k, v in self._identity(plan).items() if k != "block_size"}
        size = stored.get("block_size")
        if self.settings.block_size is None and others.items() <= stored.items():
            # With less memory than the interrupted run had, it starts over.
            with suppress(ResourceError):
                settings = replace(self.settings, block_size=size)
                return draw_plan(self.scene.frame, self.model, self.device, settings)
        return plan

    def _identity(self, plan: Plan) -> dict[str, Any]:
        return run_identity(
            self.fingerprint,
            self.scene.frame,
            self.model.card,
            self.device,
            plan,
            self.settings,
            self.guide,
        )

    def _store(self, name: str, shape: tuple[int, int, int], dtype: str, chunk: int) -> ResultStore:
        store = ResultStore.open(
            self.workspace.folder / name,
            shape=shape,
            dtype=dtype,
            chunk=chunk,
            settings_hash=self._key,
        )
        if store.restarted_because is not None:
            self.progress.warning(f"Stored results are not used: {store.restarted_because}.")
        return store

    def _context(self) -> SceneContext | None:
        """Find out what blocks must know of the whole; None where no pixel is valid."""
        network, folder = self.compute.network, self.workspace.folder
        if isinstance(network, TokenNetwork):
            return self._token_context(network)
        context = self.compute.as_a_whole(lambda: look_at_overview(self.job, folder))
        self._advance(0.0, CONTEXT_UNTIL, 1.0, "Looking at the scene")
        return context

    def _token_context(self, network: TokenNetwork) -> SceneContext | None:
        """Run pass A and the context step."""
        grid, compute = self.job.grid, self.compute
        rows, cols, budget = grid.cell_rows, grid.cell_cols, network.context_budget
        tokens = self._store(
            "tokens",
            (network.token_width + 1, rows, cols),
            "float32",
            grid.size // grid.cell,
        )
        for block in encode_blocks(self.job, tokens):
            self._advance(0.0, ENCODE_UNTIL, (block.index + 1) / len(grid), "Looking at the scene")
        release_freed_memory()

        backend = choose_backend(self.settings.context, rows, cols, budget)

        def context() -> SceneContext | None:
            device, folder = compute.device.torch, self.workspace.folder
            step = ContextStep(network, device, grid, tokens, folder, backend)
            return step.run(
                lambda share: self._advance(ENCODE_UNTIL, CONTEXT_UNTIL, share, "Global context")
            )

        return compute.as_a_whole(context)

    def _advance(self, start: float, stop: float, share: float, text: str) -> None:
        done = start + (stop - start) * share
        self.progress.update(self._guided_until + (1.0 - self._guided_until) * done, text)

    def _finalise_progress(self, number: int, count: int, share: float) -> None:
        self._advance(RESTORE_UNTIL, 1.0, (number + share) / count, "Writing the output")

    def _provenance(self) -> dict[str, str]:
        statistics = stored_statistics(self.workspace.folder)
        return provenance(
            self.settings, self.plan, self.model.card, self.fingerprint, statistics, self.guide
        )
