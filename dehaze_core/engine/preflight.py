# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at before the first block: reasons to refuse a run while nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from dehaze_core.engine.disk import bytes_on_disk, free_bytes
from dehaze_core.engine.forecast import MIB
from dehaze_core.engine.plan import Plan
from dehaze_core.engine.settings import RunSettings
from dehaze_core.engine.workspace import claimed_layers
from dehaze_core.errors import OutputError, ResourceError
from dehaze_core.haze.bands import band_haze
from dehaze_core.scene import Frame


class OutputSettings(Protocol):
    """What settings of any task say about their outputs."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the paths to write, the destination first: it is written last."""
        ...

    @property
    def overwrite(self) -> bool:
        """Tell whether existing outputs are replaced."""
        ...


def check_folders(settings: OutputSettings) -> None:
    """Check that the outputs can be created where they are wanted.

    What an interrupted run has written before its destination does not stand in its own way.

    Raises:
        OutputError: A folder does not exist (OUTPUT_FOLDER), or there is an output of this name
            that must not be replaced (OUTPUT_EXISTS).
    """
    own = claimed_layers(Path(settings.outputs[0]))
    for output in settings.outputs:
        path = Path(output)
        if not path.parent.is_dir():
            raise OutputError(
                f"The folder {path.parent} of the output does not exist.",
                hint="Create it, or choose another output.",
                code="OUTPUT_FOLDER",
            )
        may_replace = settings.overwrite or os.path.abspath(path) in own
        # Not Path.exists: it raises where a name is too long to exist.
        if os.path.exists(path) and not may_replace:
            raise OutputError(
                f"The output {path} exists already.",
                hint="Choose another name, or allow overwriting.",
                code="OUTPUT_EXISTS",
            )


def check_disk(plan: Plan, folder: Path, settings: RunSettings) -> None:
    """Check that every stage of a run fits on the disk.

    Args:
        plan: The forecast.
        folder: The run's own folder; what an interrupted run has left there need not be free.
        settings: For the output's name.

    Raises:
        ResourceError: It does not (DISK).
    """
    check_space(plan.disk_stages_mib, folder, settings.destination)


def check_space(stages: Mapping[str, int], folder: Path, destination: str) -> None:
    """Check that every stage of a task fits on the disk.

    Args:
        stages: Disk space taken at the end of each stage, MiB.
        folder: The task's own folder; what an interrupted one has left there need not be free.
        destination: The output, for the message.

    Raises:
        ResourceError: One does not (DISK).
    """
    held = sum(bytes_on_disk(path.lstat()) for path in folder.rglob("*") if path.is_file())
    usable = (free_bytes(folder) + held) // MIB
    needed = max(stages.values())
    if usable < needed:
        numbers = "; ".join(f"{stage} {mib}" for stage, mib in stages.items())
        raise ResourceError(
            f"The run needs {needed} MiB of disk beside {destination}, {usable} MiB can be used. "
            f"MiB at the end of each stage: {numbers}.",
            hint="Free space, or choose an output on another disk.",
            code="DISK",
        )


def left_out_bands(frame: Frame, model_bands: tuple[int, ...]) -> str | None:
    """Return a sentence about colour bands that cannot be corrected, or None if all can be.

    Args:
        frame: Frame of the source.
        model_bands: 0-based bands the network looks at.
    """
    corrected = {band.index for band in band_haze(model_bands, frame.color_interp, alpha=0.0)}
    left = [str(band + 1) for band in frame.color_bands if band not in corrected]
    if not left:
        return None
    return (
        f"Bands {', '.join(left)} are copied unchanged: their wavelength is not known. "
        "Set their colour interpretation (for example nir) to have them corrected."
    )


def describe(plan: Plan) -> str:
    """Return a plan in words, for the log."""
    cell = plan.context_cell
    context = plan.context if cell == 1 else f"{plan.context}, cells of {cell} tokens"
    device = f", {plan.device_mib} MiB on the device" if plan.device_mib else ""
    guide = "" if plan.guide is None else f"guide {plan.guide}; "
    return (
        f"Plan: {plan.width} x {plan.height} px, {plan.bands} bands {plan.dtype}; "
        f"{plan.blocks} blocks of {plan.block_size} px with a halo of {plan.halo} px; "
        f"context {context}; {guide}about {plan.memory_mib} MiB of memory{device} and "
        f"{plan.disk_mib} MiB of disk."
    )
