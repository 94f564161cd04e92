# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells when it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did.

    Attributes:
        output: The file written.
        thickness: The haze-thickness file written, or None.
        width: Columns, px.
        height: Rows, px.
        model: Name of the model.
        model_sha256: Digest of its weights.
        device: Where it ran.
        backend: What computed the pixels: `torch`, or `onnxruntime` and its version.
        context: How its tokens looked at each other: `exact`, `bounded`, `hyper`; or `overview`.
        block_size: Side of a block, px.
        blocks: Number of blocks.
        resumed_blocks: How many were finished by an earlier run.
        seconds: Wall time.
        mpx_per_second: Megapixels per second from file to file.
        mean_thickness: Mean optical thickness at 550 nm over valid pixels.
        mean_transmission: exp(-mean_thickness).
        valid_fraction: Share of valid pixels.
        peak_memory_mib: Peak resident memory of the process.
    """

    output: str
    thickness: str | None
    width: int
    height: int
    model: str
    model_sha256: str
    device: str
    backend: str
    context: str
    block_size: int
    blocks: int
    resumed_blocks: int
    seconds: float
    mpx_per_second: float
    mean_thickness: float
    mean_transmission: float
    valid_fraction: float
    peak_memory_mib: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        return asdict(self)
