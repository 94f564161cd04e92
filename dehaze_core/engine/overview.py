# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network with global poolings learns of the whole raster: one look at an overview.

The statistics are frozen from then on, so that every block is told the same, whichever the blocks
are. They are kept beside the stores of the run: who goes on with it must not look again at a raster
that may have been given overviews meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from dehaze_core.engine.in_memory import seen_whole
from dehaze_core.engine.job import Job
from dehaze_core.engine.sealed import read_sealed, write_sealed
from dehaze_core.engine.tokens.context import SceneContext
from dehaze_core.models.streaming import OverviewNetwork, SceneStatistics

_FILE = "overview.json"


def look_at_overview(job: Job, folder: Path) -> SceneContext | None:
    """Return the statistics of a raster, those of an interrupted run where it left some.

    A raster whose overview has no valid pixel has no statistics: the result is None.

    Args:
        job: The run; its network is an `OverviewNetwork`.
        folder: Where the statistics are kept.
    """
    values = stored_statistics(folder)
    if values is None:
        values = _look(job)
        if values is None:
            return None
        write_sealed(folder / _FILE, {"values": values})
    return SceneContext(None, SceneStatistics(torch.tensor([values])))


def stored_statistics(folder: Path) -> list[float] | None:
    """Return the statistics that `look_at_overview` has left in a folder, or None."""
    record = read_sealed(folder / _FILE)
    return None if record is None else list(record["values"])


def _look(job: Job) -> list[float] | None:
    compute = job.compute
    network = cast(OverviewNetwork, compute.network)
    pixels, valid = job.scene.overview(network.overview_px, job.model_bands)
    if not valid.any():
        return None
    display = job.radiometry.display(torch.from_numpy(pixels)).expand(3, -1, -1)
    guide = None if job.guide is None else job.guide.overview(display)
    rgb, mask, weight = (
        values.to(compute.device.torch)
        for values in seen_whole(display, torch.from_numpy(valid).float(), network.unit_px, guide)
    )
    with torch.inference_mode():
        statistics = compute.finite(
            lambda: network.look(rgb, mask, weight),
            lambda found: bool(found.values.isfinite().all()),
        )
    return cast(list[float], statistics.values[0].float().cpu().tolist())
