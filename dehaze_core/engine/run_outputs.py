# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers that a run writes: where each goes, and what it carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dehaze_core.engine.output.formats import OutputFormat, check_output, output_format
from dehaze_core.engine.settings import RunSettings
from dehaze_core.engine.workspace import Workspace
from dehaze_core.scene import Frame

THICKNESS_LAYER = "haze optical thickness at 550 nm"


@dataclass(frozen=True, slots=True)
class RunOutput:
    """Where a layer of the result goes, and what it carries."""

    path: Path
    format: OutputFormat
    frame: Frame
    creation_options: tuple[str, ...] = ()


def run_outputs(settings: RunSettings, frame: Frame) -> list[RunOutput]:
    """Return the layers of a result in the order of the settings' outputs.

    Args:
        settings: What was asked for.
        frame: Frame of the scene.
    """
    path = Path(settings.destination)
    options = settings.creation_options
    outputs = [RunOutput(path, output_format(path, settings.format), frame, options)]
    if settings.thickness is not None:
        path = Path(settings.thickness)
        layer = frame.layer(THICKNESS_LAYER)
        outputs.append(RunOutput(path, output_format(path), layer))
    return outputs


def check_outputs(
    outputs: Sequence[RunOutput], inputs: Sequence[Path], workspace: Workspace
) -> list[str]:
    """Find out what the formats cannot hold; return a sentence for each thing that is lost.

    Args:
        outputs: The layers.
        inputs: Files that the run reads.
        workspace: State of the run.

    Raises:
        OutputError: A layer cannot be written.
    """
    return [
        sentence
        for output in outputs
        for sentence in check_output(
            output.format,
            output.frame,
            output.path,
            creation_options=output.creation_options,
            work_folder=workspace.folder_for(output.path),
            inputs=inputs,
        )
    ]
