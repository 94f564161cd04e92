# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's picture: before, after and the haze thickness in between, whole scene and a detail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window

OVERVIEW_SIDE = 1600  # px
DETAIL_SHARE = 0.18  # of the scene's width
FRAME_COLOUR = "#ffcc00"
COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

Stretch = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class View:
    """One window of a raster as it will be shown, at most `OVERVIEW_SIDE` px a side."""

    window: Window
    shape: tuple[int, int]

    @classmethod
    def of(cls, window: Window) -> View:
        """Fit a window."""
        factor = min(1.0, OVERVIEW_SIDE / max(window.width, window.height))
        return cls(
            window, (max(1, round(window.height * factor)), max(1, round(window.width * factor)))
        )


def draw(before: Path, after: Path, thickness: Path, target: Path, title: str) -> None:
    """Write the picture of one run.

    Args:
        before: The hazy raster.
        after: The dehazed raster, on the same grid.
        thickness: The haze thickness, one band, on the same grid.
        target: PNG to write.
        title: First line of the picture.
    """
    with rasterio.open(before) as raster:
        scene = View.of(Window(0, 0, raster.width, raster.height))
    haze = read_thickness(thickness, scene)
    detail = View.of(find_detail(after, haze, scene))
    stretch = find_stretch(before, scene)
    is_wide = scene.shape[1] > 1.3 * scene.shape[0]
    figure = Figure(figsize=_figure_size(scene.shape, is_wide), layout="constrained")
    axes = figure.subplots(*((3, 2) if is_wide else (2, 3)))
    grid = axes if is_wide else axes.T
    for column, (path, name) in enumerate(((before, "before"), (after, "after"))):
        show(grid[0][column], read_picture(path, scene, stretch), f"{name}, whole scene")
        show(grid[1][column], read_picture(path, detail, stretch), f"{name}, detail")
        _outline(grid[0][column], detail, scene)
    bar_source = show(grid[2][0], haze, "haze thickness, whole scene", limit=_limit(haze))
    show(
        grid[2][1], read_thickness(thickness, detail), "haze thickness, detail", limit=_limit(haze)
    )
    _outline(grid[2][0], detail, scene)
    figure.colorbar(
        bar_source,
        ax=list(grid[2]),
        location="bottom" if is_wide else "right",
        label="optical thickness of the haze at 550 nm (no unit)",
        extend="max",
        shrink=0.6,
        aspect=40,
    )
    figure.suptitle(title, fontsize=17)
    figure.savefig(target, dpi=120, facecolor="white")


def read_picture(path: Path, view: View, stretch: Stretch) -> NDArray[np.float64]:
    """Return red, green, blue and opacity of a window, `(rows, columns, 4)` in [0, 1]."""
    low, high = stretch
    with rasterio.open(path) as raster:
        pixels = _read(raster, view, display_bands(raster)).astype(np.float64)
        valid = _valid(raster, view)
    scaled = np.clip((pixels - low) / np.maximum(high - low, 1e-12), 0, 1)
    scaled = np.where(valid, np.nan_to_num(scaled), 0)
    return np.moveaxis(np.concatenate([scaled, valid[None].astype(np.float64)]), 0, -1)


def read_thickness(path: Path, view: View) -> np.ma.MaskedArray:
    """Return the thickness of a window; pixels without data are masked."""
    with rasterio.open(path) as raster:
        values = _read(raster, view, [1])[0]
        return np.ma.masked_array(values, ~_valid(raster, view) | ~np.isfinite(values))


def display_bands(raster: rasterio.DatasetReader) -> list[int]:
    """Return the bands (from 1) shown as red, green and blue; one band is shown as grey."""
    if set(COLOURS) <= set(raster.colorinterp):
        return [raster.colorinterp.index(colour) + 1 for colour in COLOURS]
    return [1, 2, 3] if raster.count >= 3 else [1, 1, 1]


def find_stretch(path: Path, view: View) -> Stretch:
    """Return black and white point of each shown band: 0 and 255, or the 1st and 99th percent."""
    with rasterio.open(path) as raster:
        bands = display_bands(raster)
        if raster.dtypes[bands[0] - 1] == "uint8":
            return np.zeros((3, 1, 1)), np.full((3, 1, 1), 255.0)
        pixels = _read(raster, view, bands)[:, _valid(raster, view)]
    if not pixels.size:
        return np.zeros((3, 1, 1)), np.ones((3, 1, 1))
    low, high = np.nanpercentile(pixels, (1, 99), axis=1)
    return low[:, None, None], high[:, None, None]


def find_detail(after: Path, haze: np.ma.MaskedArray, scene: View) -> Window:
    """Return the window, in px of the raster, where most structure was found under most haze."""
    width = min(scene.window.width, max(64, round(scene.window.width * DETAIL_SHARE)))
    height = min(scene.window.height, max(64, round(width * scene.shape[0] / scene.shape[1])))
    picture = read_picture(after, scene, find_stretch(after, scene))
    grey = picture[..., :3].mean(axis=-1)
    # What is still white shows little: cloud, or snow that was taken for haze.
    worth = _local_contrast(grey) * (1 - grey) * haze.filled(0) * picture[..., 3]
    factor = scene.shape[1] / scene.window.width
    places = [
        Window(left, top, width, height)
        for top in range(0, scene.window.height - height + 1, max(1, height // 3))
        for left in range(0, scene.window.width - width + 1, max(1, width // 3))
    ]
    return max(places, key=lambda place: _part(worth, place, factor).mean())


def _local_contrast(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the steps to the next pixels, limited so that texture outweighs single edges."""
    steps = np.abs(np.diff(grey, axis=0, append=0)) + np.abs(np.diff(grey, axis=1, append=0))
    return np.minimum(steps, 0.1)


def _part(image: NDArray[np.float64], place: Window, factor: float) -> NDArray[np.float64]:
    top, left = int(place.row_off * factor), int(place.col_off * factor)
    rows, columns = int(place.height * factor) + 1, int(place.width * factor) + 1
    return image[top : top + rows, left : left + columns]


def show(
    axes: Axes, image: NDArray[np.float64], title: str, limit: float | None = None
) -> AxesImage:
    """Put one image with a title on the axes."""
    axes.set_title(title, fontsize=13)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#dddddd")
    return axes.imshow(image, vmin=0, vmax=limit, cmap="magma", interpolation="lanczos")


def _read(raster: rasterio.DatasetReader, view: View, bands: list[int]) -> NDArray[np.generic]:
    return raster.read(
        bands,
        window=view.window,
        out_shape=(len(bands), *view.shape),
        resampling=Resampling.average,
    )


def _valid(raster: rasterio.DatasetReader, view: View) -> NDArray[np.bool_]:
    mask = raster.dataset_mask(
        window=view.window, out_shape=view.shape, resampling=Resampling.nearest
    )
    return mask > 0


def _limit(haze: np.ma.MaskedArray) -> float:
    values = haze.compressed()
    return max(float(np.percentile(values, 99.5)), 0.05) if values.size else 1.0


def _figure_size(shape: tuple[int, int], is_wide: bool) -> tuple[float, float]:
    rows, columns = shape
    if is_wide:
        return 16.0, max(9.0, 3 * 7.8 * rows / columns + 2.4)
    return 16.0, max(9.0, 2 * 5.0 * rows / columns + 1.2)


def _outline(axes: Axes, detail: View, scene: View) -> None:
    factor = scene.shape[1] / scene.window.width
    window = detail.window
    axes.add_patch(
        Rectangle(
            (window.col_off * factor, window.row_off * factor),
            window.width * factor,
            window.height * factor,
            fill=False,
            edgecolor=FRAME_COLOUR,
            linewidth=2,
        )
    )
