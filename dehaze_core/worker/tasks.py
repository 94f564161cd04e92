# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker can be asked to do; every task imports what it needs when it starts."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dehaze_core import __version__
from dehaze_core.errors import SettingsError

if TYPE_CHECKING:
    from dehaze_core.engine.progress import Progress
    from dehaze_core.engine.settings import RunSettings

Settings = TypeVar("Settings")
Values = dict[str, Any]
Task = Callable[[Mapping[str, Any], "Progress"], Values]

INFO_PACKAGES = ("torch", "rasterio", "xarray", "rioxarray", "dask", "zarr", "numpy", "safetensors")


def run(parameters: Mapping[str, Any], progress: Progress) -> Values:
    """Dehaze a raster.

    Args:
        parameters: Fields of `RunSettings`.
        progress: Told about the way.

    Returns:
        The report of the run.

    Raises:
        DehazeError: The job cannot be done.
    """
    from dehaze_core import engine

    return engine.run(settings_from(parameters), progress).as_dict()


def plan(parameters: Mapping[str, Any], progress: Progress) -> Values:
    """Return what a run with these parameters would do, without doing it."""
    from dehaze_core import engine

    return engine.make_plan(settings_from(parameters)).as_dict()


def models(parameters: Mapping[str, Any], progress: Progress) -> Values:
    """Return the cards of all models as `{"models": [...]}`."""
    from dehaze_core.models import list_models

    return {"models": [card.as_dict() for card in list_models()]}


def info(parameters: Mapping[str, Any], progress: Progress) -> Values:
    """Return versions of the engine and of what it stands on, and the devices it sees."""
    import rasterio
    import torch

    devices = [{"name": "cpu", "description": platform.processor() or platform.machine()}]
    for index in range(torch.cuda.device_count()):
        devices.append({"name": f"cuda:{index}", "description": torch.cuda.get_device_name(index)})
    return {
        "dehaze": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "gdal": rasterio.__gdal_version__,
        "packages": {name: importlib.metadata.version(name) for name in INFO_PACKAGES},
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "devices": devices,
    }


def synthesize(parameters: Mapping[str, Any], progress: Progress) -> Values:
    """Put haze on a clear raster.

    Args:
        parameters: Fields of `SynthesisSettings`.
        progress: Told about the way.

    Returns:
        The report of the synthesis.

    Raises:
        DehazeError: The job cannot be done.
    """
    from dehaze_core import synthesis

    settings = built(synthesis.SynthesisSettings, parameters)
    return synthesis.synthesize(settings, progress).as_dict()


def segment(parameters: Mapping[str, Any], progress: Progress) -> Values:
    """Segment a raster.

    Args:
        parameters: Fields of `SegmentSettings`.
        progress: Told about the way.

    Returns:
        The report of the segmentation.

    Raises:
        DehazeError: The job cannot be done.
    """
    from dehaze_core.engine.segments import segment as segmentation

    settings = built(segmentation.SegmentSettings, parameters)
    return segmentation.segment(settings, progress).as_dict()


TASKS: dict[str, Task] = {
    "run": run,
    "plan": plan,
    "models": models,
    "info": info,
    "synthesize": synthesize,
    "segment": segment,
}


def settings_from(parameters: Mapping[str, Any]) -> RunSettings:
    """Build run settings from JSON values.

    Raises:
        SettingsError: A name is unknown, a required one is missing, or a value is out of range.
    """
    from dehaze_core.engine.settings import RunSettings

    return built(RunSettings, parameters)


def built(kind: type[Settings], parameters: Mapping[str, Any]) -> Settings:
    """Build settings of a kind, a frozen dataclass, from JSON values.

    Raises:
        SettingsError: A name is unknown, a required one is missing, or a value is out of range.
    """
    known = {entry.name for entry in fields(cast("Any", kind))}
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise SettingsError(
            f"Unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}."
        )
    missing = sorted({"source", "destination"} - set(parameters))
    if missing:
        raise SettingsError(f"The settings {', '.join(missing)} are missing.")
    # JSON has no tuples, and frozen settings want them.
    values: Values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in parameters.items()
    }
    try:
        return kind(**values)
    except SettingsError:
        raise
    except (TypeError, ValueError) as error:
        # A text where a number belongs, a list for a path, a path with a zero byte.
        raise SettingsError(f"A setting has a value of the wrong kind: {error}.") from error
