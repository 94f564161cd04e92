# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats a result can be written in: which, whether it will do, and the writing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from dehaze_core.engine.output.aside import temporary_folder
from dehaze_core.engine.output.finalise import write_cog, write_gtiff
from dehaze_core.engine.output.read_back import Read
from dehaze_core.engine.output.zarr_output import write_zarr
from dehaze_core.errors import OutputError, SettingsError
from dehaze_core.scene.frame import Frame
from dehaze_core.scene.zarr_source import is_zarr

OutputFormat = Literal["cog", "gtiff", "zarr"]

_SUFFIX = ".zarr"
# A corner that has an overview, as the whole has, and few pixels.
_TRIAL_LENGTH, _TRIAL_BREADTH = 520, 16

_WRITERS: dict[OutputFormat, Callable[..., tuple[str, ...]]] = {
    "cog": write_cog,
    "gtiff": write_gtiff,
    "zarr": write_zarr,
}


def output_format(destination: Path, requested: OutputFormat | None = None) -> OutputFormat:
    """Return the format of an output: as requested, else zarr for `.zarr` and COG for the rest.

    Raises:
        SettingsError: The format is unknown or contradicts the path (SETTINGS_FORMAT).
    """
    is_folder = destination.suffix.lower() == _SUFFIX
    if requested is None:
        return "zarr" if is_folder else "cog"
    if requested not in get_args(OutputFormat) or (is_folder and requested != "zarr"):
        raise SettingsError(
            f"The format {requested} was given for {destination}, expected "
            f"{'zarr' if is_folder else ' or '.join(get_args(OutputFormat))}.",
            hint="Leave the format out to have it chosen by the path.",
            code="SETTINGS_FORMAT",
        )
    return requested


def check_output(
    format: OutputFormat,
    frame: Frame,
    destination: Path,
    *,
    creation_options: Sequence[str] = (),
    work_folder: Path | None = None,
    inputs: Sequence[Path] = (),
) -> tuple[str, ...]:
    """Find out before the work what writing a frame will come to, by writing one corner of it.

    Args:
        format: The output's format.
        frame: What the output will carry.
        destination: The output's path; it is not touched.
        creation_options: "KEY=VALUE" texts.
        work_folder: Folder for temporary files; beside the destination if None.
        inputs: Files and folders that the source consists of.

    Returns:
        What the format will not hold, one sentence each: the same that `write_output` returns.

    Raises:
        OutputError: The output would overwrite the input (OUTPUT_INPUT) or something that is no
            raster (OUTPUT_EXISTS), or the format, or the compression asked for, can't hold such a
            raster (OUTPUT_DTYPE, OUTPUT_FRAME, OUTPUT_WRITE).
        SettingsError: A creation option is unknown or loses the missing pixels.
    """
    refuse_input(destination, inputs)
    _refuse_folder(format, destination)
    corner = _corner(frame)
    pixels = np.zeros((corner.count, corner.height, corner.width), corner.dtype)
    mask = np.ones((corner.height, corner.width), bool) if corner.mask == "internal" else None
    with temporary_folder(destination, work_folder) as folder:
        # By this name `clean` knows the folder, should the process be killed.
        trial = folder / "result.trial"
        trial.mkdir()
        try:
            return write_output(
                format,
                lambda window: pixels[(slice(None), *window.slices)],
                corner,
                None if mask is None else lambda window: mask[window.slices],
                trial / destination.name,
                provenance={},
                creation_options=creation_options,
                progress=lambda share: None,
                work_folder=trial,
            )
        except OutputError as error:
            # What a compression cannot hold GDAL says at once, or with threads only when read back.
            is_refused = error.code == "OUTPUT_WRITE" and bool(creation_options)
            if error.code != "OUTPUT_VERIFY" and not is_refused:
                raise
            asked = f" with {', '.join(creation_options)}" if creation_options else ""
            raise OutputError(
                f"A small trial output{asked} cannot be written, or does not read back as it was. "
                f"{error.message}",
                hint=("Leave out the creation options, or choose" if asked else "Choose")
                + " a zarr output (a path that ends in .zarr), which holds every frame.",
                code="OUTPUT_FRAME",
            ) from error


def write_output(  # noqa: PLR0913 - the whole recipe of one output
    format: OutputFormat,
    store_read: Read,
    frame: Frame,
    mask_read: Read | None,
    destination: Path,
    *,
    provenance: Mapping[str, str],
    creation_options: Sequence[str] = (),
    progress: Callable[[float], None],
    work_folder: Path | None = None,
    overwrite: bool = True,
) -> tuple[str, ...]:
    """Write an output in one of the formats; see `finalise.write_cog` for the arguments.

    Returns:
        What the format could not hold or the source did not yield, one sentence each.
    """
    if (frame.mask == "internal") != (mask_read is not None):
        raise ValueError("mask_read goes with frames whose mask is internal, and only with them")
    lost = _WRITERS[format](
        store_read,
        frame,
        mask_read,
        destination,
        provenance=provenance,
        creation_options=creation_options,
        progress=progress,
        work_folder=work_folder,
        overwrite=overwrite,
    )
    return lost + tuple(f"Some of the input is left behind: {text}." for text in frame.left_behind)


def _corner(frame: Frame) -> Frame:
    if frame.width >= frame.height:
        width, height = min(frame.width, _TRIAL_LENGTH), min(frame.height, _TRIAL_BREADTH)
    else:
        width, height = min(frame.width, _TRIAL_BREADTH), min(frame.height, _TRIAL_LENGTH)
    return replace(frame, width=width, height=height)


def refuse_input(destination: Path, inputs: Sequence[Path]) -> None:
    """Make sure that an output does not overwrite what the input consists of.

    Raises:
        OutputError: It would (OUTPUT_INPUT).
    """
    output = destination.resolve()
    for path in inputs:
        source = path.resolve()
        if output == source or output in source.parents or source in output.parents:
            raise OutputError(
                f"The output {destination} would overwrite {path}, which the input consists of.",
                hint="Choose another output; inputs are never overwritten.",
                code="OUTPUT_INPUT",
            )


def _refuse_folder(format: OutputFormat, destination: Path) -> None:
    if destination.is_dir() and not (format == "zarr" and is_zarr(str(destination))):
        raise OutputError(
            f"{destination} is a folder; it is not replaced by a raster.",
            hint="Choose another name.",
            code="OUTPUT_EXISTS",
        )
    if format == "zarr" and destination.is_file():
        raise OutputError(
            f"{destination} is a file; it is not replaced by a zarr folder.",
            hint="Choose another name.",
            code="OUTPUT_EXISTS",
        )
