# SPDX-License-Identifier: GPL-3.0-or-later
"""What a synthesis tells when it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What a synthesis did.

    Attributes:
        output: The hazy raster.
        thickness_output: The raster of optical thickness, or None.
        airlight_output: The raster of airlight, or None.
        truth_output: The JSON file with the truth, or None.
        width: Columns, px.
        height: Rows, px.
        kind: Class of haze.
        level: Level of haze; None where a thickness was given.
        median_thickness: Median optical thickness at 550 nm over the scene, without the effect of
            terrain.
        mean_thickness: Mean optical thickness over valid pixels.
        valid_fraction: Share of valid pixels.
        blocks: Number of blocks.
        resumed_blocks: How many were finished by an earlier run.
        seconds: Wall time.
        mpx_per_second: Megapixels per second from file to file.
        peak_memory_mib: Peak resident memory of the process.
    """

    output: str
    thickness_output: str | None
    airlight_output: str | None
    truth_output: str | None
    width: int
    height: int
    kind: str
    level: str | None
    median_thickness: float
    mean_thickness: float
    valid_fraction: float
    blocks: int
    resumed_blocks: int
    seconds: float
    mpx_per_second: float
    peak_memory_mib: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        return asdict(self)
