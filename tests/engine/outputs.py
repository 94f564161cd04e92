# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames, pixels and calls with which the tests of the output file work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS

from dehaze_core.engine.output.formats import write_output
from dehaze_core.engine.output.tiff_frame import differences
from dehaze_core.scene import Frame, open_scene

UTM = CRS.from_epsg(32633).to_wkt(version="WKT2_2019")
LOCAL = (
    'ENGCRS["site",EDATUM["pole by the gate"],CS[Cartesian,2],AXIS["(E)",east,ORDER[1]],'
    'AXIS["(N)",north,ORDER[2]],LENGTHUNIT["metre",1]]'
)
PLACE = (10.0, 0.0, 5e5, 0.0, -10.0, 5e6)


def frame_of(**changes: Any) -> Frame:
    options = {"width": 70, "height": 60, "count": 3, "dtype": "uint8", "crs_wkt": UTM, **changes}
    options.setdefault("transform", PLACE)
    return Frame(**options)


def pixels_of(frame: Frame, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(1, 100, (frame.count, frame.height, frame.width))
    return values.astype(frame.dtype)


def write(
    path: Path,
    frame: Frame,
    pixels: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    *,
    format_name: str = "cog",
    **options: Any,
) -> tuple[str, ...]:
    data = pixels_of(frame) if pixels is None else pixels
    options = {"provenance": {}, "progress": lambda share: None, **options}
    return write_output(
        format_name,  # type: ignore[arg-type]
        lambda window: data[(slice(None), *window.slices)],
        frame,
        None if mask is None else lambda window: mask[window.slices],
        path,
        **options,
    )


def write_folder(path: Path, *content: Any, **options: Any) -> tuple[str, ...]:
    """Write a zarr group; arguments as those of `write`."""
    return write(path, *content, format_name="zarr", **options)


def assert_carries(path: Path, frame: Frame) -> None:
    with open_scene(str(path)) as scene:
        assert differences(frame, scene.frame) == ([], [])
