# SPDX-License-Identifier: GPL-3.0-or-later
"""A raster as a scene: its frame, its pixels on demand, and which of them are valid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

import xarray as xr

from dehaze_core.grid.window import Window
from dehaze_core.scene.extent import Extent, window_of_extent
from dehaze_core.scene.fingerprint import digest
from dehaze_core.scene.frame import Frame
from dehaze_core.scene.gdal_source import GdalSource
from dehaze_core.scene.labels import labelled
from dehaze_core.scene.lazy import lazy_pixels, lazy_validity
from dehaze_core.scene.source import Source
from dehaze_core.scene.validity import Mask, Pixels
from dehaze_core.scene.zarr_source import ZarrSource, is_zarr


def open_scene(path: str) -> Scene:
    """Open a raster as a scene; no pixel is read yet.

    Args:
        path: Anything GDAL reads (file, virtual raster, `/vsizip/...`, URL), or a zarr folder.

    Raises:
        InputError: There is no such raster, or it is of a kind that cannot be dehazed; codes
            INPUT_MISSING, INPUT_UNREADABLE, INPUT_CONTAINER, INPUT_EMPTY, INPUT_COMPLEX,
            INPUT_DTYPE, INPUT_PALETTE, INPUT_BANDS.
    """
    source = ZarrSource(path) if is_zarr(path) else GdalSource(path)
    return Scene(source, source.frame)


class Scene:
    """A raster, or a rectangular part of one, read lazily.

    All reads may be called from several threads at once. Use it as a context manager, or call
    `close`, to let go of file handles.

    Attributes:
        path: Where the pixels come from.
        frame: Georeference, sample format and metadata of this scene.
    """

    def __init__(self, source: Source, frame: Frame, place: Window | None = None) -> None:
        self.path = source.path
        self.frame = frame
        self._source = source
        self._place = place or frame.window

    def __enter__(self) -> Scene:
        """Return the scene itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file handles."""
        self.close()

    def close(self) -> None:
        """Close the file handles; a later read, also of a crop of this scene, opens them again."""
        self._source.close()

    def __repr__(self) -> str:
        """Name the path and the shape."""
        frame = self.frame
        return f"<Scene {self.path} {frame.count} x {frame.height} x {frame.width} {frame.dtype}>"

    @cached_property
    def data(self) -> xr.DataArray:
        """All pixels, (band, y, x) in the stored type, lazily through dask."""
        return labelled(lazy_pixels(self._source, self._place, self.frame), self.frame)

    @cached_property
    def valid(self) -> xr.DataArray:
        """Which pixels are observations, (y, x) bool, lazily through dask."""
        return labelled(lazy_validity(self._source, self._place, self.frame), self.frame)

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the local files and folders that the pixels come from, members included."""
        return self._source.files

    @property
    def has_overviews(self) -> bool:
        """Tell whether the file holds smaller versions, so that `overview` is cheap."""
        return self._source.has_overviews

    def read(self, window: Window, bands: Sequence[int] | None = None) -> tuple[Pixels, Mask]:
        """Read the pixels of a window.

        Args:
            window: Place in this scene, wholly inside it.
            bands: 0-based band numbers; all bands if None.

        Returns:
            Stored values (B, h, w) in the scene's data type, and validity (h, w) bool. Validity
            considers all bands, whichever are asked for.

        Raises:
            InputError: The file is damaged or gone (INPUT_CORRUPT, INPUT_MISSING).
            ValueError: The window leaves the scene or a band does not exist.
        """
        return self._source.read(self._inside(window), self._existing(bands))

    def stored_mask(self, window: Window) -> Mask:
        """Read the mask that the file itself stores, (h, w) bool; all True where it stores none.

        An output carries this one; `valid` may be stricter, for instance where values are NaN.
        """
        return self._source.stored_mask(self._inside(window))

    def overview(self, max_side: int, bands: Sequence[int] | None = None) -> tuple[Pixels, Mask]:
        """Read the whole scene scaled down so that no side exceeds `max_side` px.

        Returns:
            Values (B, h, w) in the scene's data type, and validity (h, w) bool.
        """
        frame = self.frame
        shrink = max(frame.height, frame.width) / max_side
        if shrink <= 1:
            return self.read(frame.window, bands)
        shape = (max(int(frame.height / shrink), 1), max(int(frame.width / shrink), 1))
        return self._source.read_small(self._place, shape, self._existing(bands))

    def crop(self, window: Window) -> Scene:
        """Return the part of the scene inside `window`; it shares the file handles."""
        place = self._inside(window)
        return Scene(self._source, self.frame.crop(window), place)

    def window_of_extent(self, extent: Extent) -> Window:
        """Return the window of whole pixels that covers an extent (xmin, ymin, xmax, ymax).

        Raises:
            InputError: The extent does not overlap the scene (INPUT_EXTENT).
        """
        return window_of_extent(self.frame, extent)

    def fingerprint(self) -> str:
        """Return a hash that changes when the source or the part of it in use changes.

        It sees path, size, modification time and samples of the content, not every byte.
        """
        return digest([self.path, str(self._place), *self._source.fingerprint_parts()])

    def _inside(self, window: Window) -> Window:
        if window.clipped(self.frame.height, self.frame.width) != window or not (
            window.height and window.width
        ):
            raise ValueError(f"{window} is not inside the scene of {self.frame.window}")
        return window.shifted(self._place.row, self._place.col)

    def _existing(self, bands: Sequence[int] | None) -> Sequence[int]:
        if bands is None:
            return range(self.frame.count)
        if not bands or not all(0 <= band < self.frame.count for band in bands):
            raise ValueError(f"bands {tuple(bands)} of a scene of {self.frame.count} bands")
        return bands
