# SPDX-License-Identifier: GPL-3.0-or-later
"""Fog that lies in valleys: its thickness falls with the height of the ground."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from dehaze_core.errors import InputError
from dehaze_core.grid import Window
from dehaze_core.scene import Frame, open_scene
from dehaze_core.scene.gdal_source import GDAL_ERRORS, quiet_open
from dehaze_core.scene.source import read_failure

_LOW_END = 2.0
_SAMPLE_SIDE = 512
_EXACT = 1e-9
"""GDAL's faster approximation depends on the window that is read; rasterio takes no zero here."""
_EXPONENTS = (-20.0, 80.0)
"""Heights below and above the base beyond which nothing changes any more, in units of the depth."""


class Terrain:
    """Heights on the pixel grid of a scene, and the fog they let through; a context manager.

    Only one thread may read at a time.

    Attributes:
        fingerprint: Hash of the DEM.
        base: Height at which the fog has its full thickness.
        depth: Height over which it thins to 1/e.
        covered: Share of the scene for which there are heights.

    Args:
        path: DEM, anything GDAL opens.
        frame: Frame of the scene.
        base: None for the low end (2nd percentile) of the heights in the scene.
        depth: In the DEM's unit.

    Raises:
        InputError: The DEM cannot be read, it or the scene is not georeferenced (DEM_GEOREFERENCE),
            or they do not overlap (DEM_OVERLAP).
    """

    def __init__(self, path: str, frame: Frame, base: float | None, depth: float) -> None:
        self._path = path
        with open_scene(path) as dem:
            _check_georeference(path, dem.frame, frame)
            self.fingerprint = dem.fingerprint()
        with ExitStack() as stack, self._reading(frame.window):
            self._warped = stack.enter_context(
                WarpedVRT(
                    stack.enter_context(quiet_open(path)),
                    crs=CRS.from_wkt(frame.crs_wkt),
                    transform=frame.affine,
                    width=frame.width,
                    height=frame.height,
                    resampling=Resampling.bilinear,
                    tolerance=_EXACT,
                    nodata=np.nan,
                    dtype="float32",
                )
            )
            known, self.covered = self._known_heights(frame)
            self._open = stack.pop_all()
        self.base = float(np.percentile(known, _LOW_END)) if base is None else base
        self.depth = depth

    def __enter__(self) -> Terrain:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the DEM."""
        self._open.close()

    def factor(self, window: Window) -> NDArray[np.float32]:
        """Return exp(-(z - base) / depth) in a window of the scene, (h, w).

        Where the height is not known the ground counts as low: gaps of a DEM are mostly water.

        Raises:
            InputError: The DEM is damaged (INPUT_CORRUPT).
        """
        place = RasterioWindow(window.col, window.row, window.width, window.height)
        with self._reading(window):
            heights = self._warped.read(1, window=place)
        above = np.nan_to_num((heights.astype(np.float64) - self.base) / self.depth, nan=0.0)
        factor: NDArray[np.float32] = np.exp(-np.clip(above, *_EXPONENTS)).astype(np.float32)
        return factor

    def _known_heights(self, frame: Frame) -> tuple[NDArray[np.float32], float]:
        """Return heights from all over the scene, and the share of it that has any."""
        shape = (min(frame.height, _SAMPLE_SIDE), min(frame.width, _SAMPLE_SIDE))
        heights = self._warped.read(1, out_shape=shape)
        known = heights[np.isfinite(heights)]
        if not known.size:
            raise InputError(
                f"The DEM {self._path} has no heights where the raster is, expected the two to "
                "overlap.",
                hint="Choose a DEM of the same region; the CRS may differ.",
                code="DEM_OVERLAP",
            )
        return known, known.size / heights.size

    @contextmanager
    def _reading(self, window: Window) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except GDAL_ERRORS as error:
            raise read_failure(self._path, window, error) from error


def _check_georeference(path: str, dem: Frame, scene: Frame) -> None:
    for name, frame in ((f"The DEM {path}", dem), ("The clear raster", scene)):
        if frame.crs_wkt is None or not frame.is_georeferenced:
            raise InputError(
                f"{name} has no CRS or no geotransform; both are needed to lay heights under it.",
                hint="Georeference it, or choose another kind of haze.",
                code="DEM_GEOREFERENCE",
            )
