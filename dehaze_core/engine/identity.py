# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a run the same run, and what its outputs tell of how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import rasterio
import torch

from dehaze_core import __version__
from dehaze_core.engine.device import Device
from dehaze_core.engine.plan import Plan
from dehaze_core.engine.settings import RunSettings
from dehaze_core.engine.workspace import digest
from dehaze_core.models import ModelCard
from dehaze_core.scene import Frame


def run_identity(
    fingerprint: str,
    frame: Frame,
    card: ModelCard,
    device: Device,
    plan: Plan,
    settings: RunSettings,
    guide: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Return what must be the same for a run to go on with the stored results of another.

    Args:
        fingerprint: Hash of the source.
        frame: Frame of the output.
        card: Card of the model.
        device: Where the run computes.
        plan: Its plan.
        settings: What was asked for.
        guide: What guides the network, see `Guidance.about`; None for one without guides.
    """
    identity = {
        "input": fingerprint,
        "frame": repr((frame.nodata, frame.mask, frame.color_interp, frame.scales, frame.offsets)),
        "model": card.sha256,
        "network": digest(card.config),
        "strength": settings.strength,
        "bands": list(plan.model_bands),
        "context": plan.context,
        "thickness_wanted": settings.thickness is not None,
        "block_size": plan.block_size,
        "precision": str(device.autocast),
        "backend": plan.backend,
        "version": __version__,
        "torch": torch.__version__,
    }
    return identity if guide is None else {**identity, "guide": dict(guide)}


def provenance(
    settings: RunSettings,
    plan: Plan,
    card: ModelCard,
    fingerprint: str,
    statistics: Sequence[float] | None,
    guide: Mapping[str, str] | None,
) -> dict[str, str]:
    """Return the tags of an output, from which the run can be repeated.

    Args:
        settings: What was asked for.
        plan: How it was done.
        card: Card of the model.
        fingerprint: Hash of the source.
        statistics: What every block was told of the whole raster, for a network that looked at an
            overview.
        guide: As for `run_identity`.
    """
    tags = {
        "DEHAZE_VERSION": __version__,
        "DEHAZE_LIBRARIES": f"torch {torch.__version__}, GDAL {rasterio.__gdal_version__}",
        "DEHAZE_MODEL": card.name,
        "DEHAZE_MODEL_SHA256": card.sha256,
        "DEHAZE_BACKEND": plan.backend,
        "DEHAZE_CONTEXT": plan.context,
        "DEHAZE_PARAMETERS": json.dumps(settings.as_dict(), sort_keys=True),
        "DEHAZE_SOURCE": fingerprint,
    }
    if statistics is not None:
        tags["DEHAZE_STATISTICS"] = json.dumps(statistics)
    if guide is not None:
        tags["DEHAZE_GUIDE"] = json.dumps(dict(guide), sort_keys=True)
    return tags
