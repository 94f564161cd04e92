# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a segmentation: rasters of codes and labels, and polygons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from dehaze_core.engine.output.formats import check_output, refuse_input, write_output
from dehaze_core.engine.segments.polygons import require_vectors, write_polygons
from dehaze_core.engine.segments.settings import SegmentSettings
from dehaze_core.scene import Frame
from dehaze_core.scene.frame import Tags
from dehaze_core.segmentation.picture import Segments

CODE_LAYER, LABEL_LAYER = "segment code", "segment label"
"""Names of the bands."""

# Means of labels would be labels of other segments.
_OPTIONS = ("OVERVIEW_RESAMPLING=NEAREST",)


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What the files hold.

    Attributes:
        codes: Grey codes, uint8 (h, w).
        segments: The segments, labels (h, w).
        provenance: Tags that tell how they were made.
    """

    codes: NDArray[np.uint8]
    segments: Segments
    provenance: Mapping[str, str]


class SegmentFile(Protocol):
    """One file to write."""

    @property
    def path(self) -> Path: ...  # noqa: D102 - where it will be

    def check(self, shape: tuple[int, int], inputs: Sequence[Path]) -> tuple[str, ...]:
        """Find out what writing will come to; return what will be lost, one sentence each.

        Args:
            shape: Rows and columns of codes and labels, about.
            inputs: Files that the source consists of.

        Raises:
            OutputError: It cannot be written.
        """
        ...

    def write(self, path: Path, content: Content) -> None:
        """Write it to another path on the same disk, verified.

        Raises:
            OutputError: It cannot be written.
        """
        ...


def segment_files(settings: SegmentSettings, frame: Frame) -> list[SegmentFile]:
    """Return the files that a segmentation writes, in the order of the settings' outputs.

    Args:
        settings: What was asked for.
        frame: Frame of the scene.
    """
    files: list[SegmentFile] = [
        _Raster(Path(settings.destination), frame, "uint8", CODE_LAYER, lambda held: held.codes)
    ]
    if settings.labels is not None:
        path = Path(settings.labels)
        files.append(_Raster(path, frame, "int32", LABEL_LAYER, lambda held: held.segments.labels))
    if settings.polygons is not None:
        files.append(_Polygons(Path(settings.polygons), frame))
    return files


def mask_frame(frame: Frame, shape: tuple[int, int], dtype: str, description: str) -> Frame:
    """Return the frame of a mask that covers exactly the same ground with other pixels.

    Georeference of every kind goes along: geotransform with rotation, control points, RPCs. A plain
    picture has none and gets none.

    Args:
        frame: Frame of the scene.
        shape: Rows and columns of the mask.
        dtype: NumPy name of its type; 0 stands for no segment.
        description: Name of its band.
    """
    height, width = shape
    down, across = frame.height / height, frame.width / width
    transform = frame.transform
    if frame.is_georeferenced:
        transform = tuple(frame.affine * Affine.scale(across, down))[:6]
    return Frame(
        width=width,
        height=height,
        count=1,
        dtype=dtype,
        crs_wkt=frame.crs_wkt,
        transform=transform,
        nodata=(0.0,),
        mask="nodata",
        descriptions=(description,),
        color_interp=("gray",),
        gcps=tuple(g._replace(row=g.row / down, col=g.col / across) for g in frame.gcps),
        gcp_crs_wkt=frame.gcp_crs_wkt,
        rpcs=_shrunk_rpcs(frame.rpcs, down, across),
    )


@dataclass(frozen=True, slots=True)
class _Raster:
    """A GeoTIFF of codes or labels."""

    path: Path
    scene: Frame
    dtype: str
    description: str
    values: Callable[[Content], NDArray[Any]]

    def check(self, shape: tuple[int, int], inputs: Sequence[Path]) -> tuple[str, ...]:
        frame = mask_frame(self.scene, shape, self.dtype, self.description)
        return check_output("cog", frame, self.path, creation_options=_OPTIONS, inputs=inputs)

    def write(self, path: Path, content: Content) -> None:
        values = self.values(content)
        write_output(
            "cog",
            lambda window: values[window.slices][None],
            mask_frame(self.scene, values.shape, self.dtype, self.description),
            None,
            path,
            provenance=content.provenance,
            creation_options=_OPTIONS,
            progress=lambda share: None,
        )


@dataclass(frozen=True, slots=True)
class _Polygons:
    """A GeoPackage of segments."""

    path: Path
    scene: Frame

    def check(self, shape: tuple[int, int], inputs: Sequence[Path]) -> tuple[str, ...]:
        require_vectors()
        refuse_input(self.path, inputs)
        if self.scene.is_georeferenced:
            return ()
        return (
            "The raster has no geotransform; the polygons are in its pixels, rows downwards from "
            "0, as negative numbers.",
        )

    def write(self, path: Path, content: Content) -> None:
        frame = mask_frame(self.scene, content.codes.shape, "uint8", CODE_LAYER)
        if not self.scene.is_georeferenced:
            # As QGIS shows pictures without georeference.
            down, across = self.scene.height / frame.height, self.scene.width / frame.width
            frame = replace(frame, crs_wkt=None, transform=(across, 0.0, 0.0, 0.0, -down, 0.0))
        write_polygons(path, content.codes, content.segments, frame, content.provenance)


def _shrunk_rpcs(rpcs: Tags | None, down: float, across: float) -> Tags | None:
    """Return coefficients for pixels that are larger; offsets count from the first one's centre."""
    if rpcs is None:
        return None
    moved = dict(rpcs)
    for axis, factor in (("LINE", down), ("SAMP", across)):
        for name in (f"{axis}_OFF", f"{axis}_SCALE"):
            if name in moved:
                half = 0.5 if name.endswith("OFF") else 0.0
                moved[name] = repr((float(moved[name].split()[0]) + half) / factor - half)
    return moved
