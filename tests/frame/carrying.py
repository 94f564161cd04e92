# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a raster of the zoo through an output format, and see what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dehaze_core.engine.output.formats import OutputFormat, check_output, write_output
from dehaze_core.errors import DehazeError
from dehaze_core.scene import open_scene
from tests.frame.rasters import Case
from tests.frame.reading import Reading, differences, read_raster, read_zarr

FILES: dict[OutputFormat, str] = {"cog": "out.tif", "gtiff": "out.tif", "zarr": "out.zarr"}

# A word that a warning about a lost trait must hold.
SAID_AS = {
    "colours": "colour interpretation",
    "gcps": "control points",
    "units": "units",
}


@dataclass(frozen=True)
class Outcome:
    """How a raster fared.

    Attributes:
        refused: Code of the error, or nothing.
        lost: Traits in which the output differs.
        warnings: What was said.
    """

    refused: str
    lost: tuple[str, ...]
    warnings: tuple[str, ...]


def carry(case: Case, format_name: OutputFormat, folder: Path) -> Outcome:
    """Write a raster's own pixels in a format, without a network, and compare."""
    source, twin = built(case, folder)
    output = folder / FILES[format_name]
    try:
        with open_scene(source) as scene:
            expected = check_output(
                format_name, scene.frame, output, work_folder=folder, inputs=scene.files
            )
            warnings = write_output(
                format_name,
                lambda window: scene.read(window)[0],
                scene.frame,
                scene.stored_mask if scene.frame.mask == "internal" else None,
                output,
                provenance={"DEHAZE_MODEL": "none"},
                progress=lambda share: None,
                work_folder=folder,
            )
    except DehazeError as error:
        return Outcome(error.code, (), ())
    if warnings != expected:
        raise AssertionError(f"foretold {expected}, said {warnings}")
    return Outcome("", tuple(differences(read(twin), read(str(output)))), warnings)


def built(case: Case, folder: Path) -> tuple[str, str]:
    """Make a raster; return its path and that of the one that shows what it carries."""
    made = case.build(folder)
    return made if isinstance(made, tuple) else (made, made)


def read(path: str) -> Reading:
    """Read with the reader that fits the path."""
    return read_zarr(path) if path.endswith(".zarr") else read_raster(path)
