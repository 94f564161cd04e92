# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything known about synthetic haze, as JSON: enough to take it off again, and to repeat it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from dehaze_core import __version__
from dehaze_core.engine.disk import write_failure
from dehaze_core.engine.output.aside import put_file, temporary_folder
from dehaze_core.haze.bands import BandHaze
from dehaze_core.haze.fields import HazeFields
from dehaze_core.scene import Radiometry
from dehaze_core.synthesis.settings import SynthesisSettings
from dehaze_core.synthesis.terrain import Terrain

FORMAT = 2
"""Raised whenever the meaning of an entry changes."""

EQUATION = (
    "I = J t + A (1 - t), t = exp(-ratio * thickness), in linear light; "
    "linear light of a stored value v is (v - offset) / scale, decoded if the encoding is srgb"
)

_PLACES = ("source", "destination", "dem", "thickness_output", "airlight_output", "truth_output")
_WAYS = ("block_size", "overwrite")


def truth_of(
    settings: SynthesisSettings,
    fields: HazeFields,
    bands: list[BandHaze],
    radiometry: Radiometry,
    terrain: Terrain | None,
    fingerprint: str,
) -> dict[str, Any]:
    """Return what decides the pixels of a hazy raster, JSON-able.

    Args:
        settings: What was asked for.
        fields: The haze that was drawn.
        bands: The hazed bands, in the order of the airlight raster.
        radiometry: Stored values to linear light.
        terrain: Heights, or None.
        fingerprint: Of the clear raster.
    """
    return {
        "format": FORMAT,
        "equation": EQUATION,
        "source": {"path": settings.source, "fingerprint": fingerprint},
        "kind": settings.kind,
        "level": settings.haze_level,
        "seed": settings.seed,
        "recipe": _json_ready(asdict(replace(fields.recipe, texture=None))),
        "texture": None
        if fields.recipe.texture is None
        else {"path": settings.texture, "sha256": _digest(fields.recipe.texture)},
        "origin": {"row": fields.row, "col": fields.col},
        "bands": [
            {"band": band.index + 1, "ratio": band.ratio, "airlight_band": number + 1}
            for number, band in enumerate(bands)
        ],
        "radiometry": asdict(radiometry),
        "adjacency": settings.adjacency,
        "terrain": None
        if terrain is None
        else {
            "dem": settings.dem,
            "fingerprint": terrain.fingerprint,
            "base": terrain.base,
            "depth": terrain.depth,
        },
        "unrounded": settings.unrounded,
        "versions": {
            "dehaze": __version__,
            "gdal": rasterio.__gdal_version__,
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
    }


def request_of(settings: SynthesisSettings, texture: NDArray[np.float32] | None) -> dict[str, Any]:
    """Return what was asked for, JSON-able: all settings that show in the hazy file.

    Where files lie is left out; a texture is known by its content.

    Args:
        settings: What was asked for.
        texture: The texture as read, or None.
    """
    values = settings.as_dict()
    for name in (*_PLACES, *_WAYS):
        del values[name]
    values["texture"] = None if texture is None else _digest(texture)
    return _json_ready(values)


def write_truth(path: Path, truth: dict[str, Any]) -> None:
    """Write a truth; the file appears whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(path, json.dumps(truth, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    with temporary_folder(path, None) as folder:
        made = folder / "text"
        try:
            made.write_text(text, encoding="utf-8")
            put_file(made, path)
        except OSError as error:
            raise write_failure(path, len(text), error) from error


def _digest(texture: NDArray[np.float32]) -> str:
    return hashlib.sha256(texture.tobytes()).hexdigest()


def _json_ready(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }
