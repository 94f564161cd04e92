# SPDX-License-Identifier: GPL-3.0-or-later
"""All faults, in the order of the table, and those that have tests elsewhere."""

from __future__ import annotations

from functools import partial

from tests.faults import awkward, cancels, disks, flips, intruders, kills, places, sizes, sources
from tests.faults.rig import Fault

kill_zarr = partial(kills.kill_in_finalise, name="out.zarr")

FAULTS = (
    Fault("SIGKILL at a random moment, then resume", kills.kill_and_resume, 2, 200),
    Fault("SIGKILL while finalising", kills.kill_in_finalise, 4, 100),
    Fault("SIGKILL while finalising a zarr folder", kill_zarr, 2, 60),
    Fault("disk full", disks.full_disk, 6, 48),
    Fault("limit on file size", disks.file_size_limit, 6, 48),
    Fault("bit flips in stored state", flips.bit_flips, 20, 500),
    Fault("damaged or lost records", flips.damaged_records, 4, 80),
    Fault("cut or lost chunks", flips.lost_chunks, 2, 40),
    Fault("bit flips in the source", sources.bit_flips, 5, 500),
    Fault("truncated source", sources.truncation, 5, 40),
    Fault("missing part of a virtual raster", sources.missing_part, 4, 40),
    Fault("input changed before resuming", sources.changed_before_resuming, 4, 32),
    Fault("input changed while running", sources.changed_while_running, 2, 20),
    Fault("two runs on one output", places.two_runs, 2, 32),
    Fault("output is the input", places.output_is_input, 8, 32),
    Fault("read-only folder", disks.read_only_folder, 1, 10),
    Fault("unusual and too long names", places.names, 22, 88),
    Fault("deep folders", places.deep_folders, 5, 20),
    Fault("awkward rasters of many makers", awkward.shared_rasters, 6, 69),
    Fault("hostile sizes", sizes.hostile_sizes, 15, 42),
    Fault("cancelled again and again in one process", cancels.cancel_again_and_again, 5, 100),
)

TESTED_ELSEWHERE = (
    Fault("malicious or malformed model file", intruders.hostile_checkpoints, 30, 30),
    Fault("mutated header of a raster", intruders.mutated_headers, 200, 10_000),
)
