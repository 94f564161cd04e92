# SPDX-License-Identifier: GPL-3.0-or-later
"""What the zoo's rasters are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

HEIGHT, WIDTH = 40, 48
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_400_000)
UTM = "EPSG:32633"

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One inhabitant of the zoo.

    Attributes:
        trait: What it shows, e.g. "CRS".
        name: Which kind of it.
        build: Makes the raster in a folder and returns its path; where another raster shows the
            frame that an output must have (a zarr group made from a GeoTIFF), that one second.
        refused: The code with which the raster must be refused, or nothing.
        tiff_refused: The code with which a GeoTIFF output of it must be refused, or nothing.
        tiff_loses: Traits that a GeoTIFF can't hold, to be said in a warning; zarr loses none.
        says: A part of a warning that every output of it must give.
        driver: The GDAL driver that must be there to make it, or nothing.
    """

    trait: str
    name: str
    build: Callable[[Path], str | tuple[str, str]]
    refused: str = ""
    tiff_refused: str = ""
    tiff_loses: tuple[str, ...] = ()
    says: str = ""
    driver: str = ""

    @property
    def id(self) -> str:
        """Return a name that is unique in the zoo."""
        return f"{self.trait}: {self.name}"

    @property
    def can_be_built(self) -> bool:
        """Tell whether the libraries here can make it."""
        with rasterio.Env() as environment:
            return not self.driver or self.driver in environment.drivers()


def pixels(
    count: int = 3, dtype: str = "uint8", height: int = HEIGHT, width: int = WIDTH
) -> Pixels:
    """Return seeded pixels as of a hazy scene: bright, of little contrast, never zero."""
    generator = np.random.default_rng(11)
    light = generator.uniform(0.62, 0.8, (count, height, width))
    light += 0.05 * np.sin(np.arange(width) / 9.0)
    if np.dtype(dtype).kind == "f":
        return light.astype(dtype)
    top = {"uint8": 255, "int8": 127}.get(dtype, 5000)
    return (light * top).astype(dtype)


def wedge(data: Pixels, value: Any) -> Pixels:
    """Return pixels with a corner of missing ones."""
    filled = data.copy()
    rows, cols = np.indices(data.shape[1:])
    filled[:, rows + cols < 20] = value
    return filled


def valid_outside_wedge() -> NDArray[np.bool_]:
    rows, cols = np.indices((HEIGHT, WIDTH))
    return np.asarray(rows + cols >= 20)


def write(
    path: Path,
    data: Pixels | None = None,
    *,
    mask: NDArray[Any] | None = None,
    edit: Callable[[Any], None] | None = None,
    internal_mask: bool = True,
    **profile: Any,
) -> str:
    """Write a raster with rasterio; `edit` may set anything on it before the pixels come."""
    data = pixels() if data is None else data
    options = {"driver": "GTiff", "crs": UTM, "transform": NORTH_UP, **profile}
    options = {key: value for key, value in options.items() if value is not None}
    count, height, width = data.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal_mask),
        rasterio.open(
            path, "w", count=count, height=height, width=width, dtype=data.dtype, **options
        ) as raster,
    ):
        if edit is not None:
            edit(raster)
        raster.write(data)
        if mask is not None:
            raster.write_mask(mask)
    return str(path)


def geotiff(
    data: Pixels | Callable[[], Pixels] | None = None, **options: Any
) -> Callable[[Path], str]:
    """Return a builder of a GeoTIFF; pixels made by a function are made when it is called."""

    def build(folder: Path) -> str:
        return write(folder / "scene.tif", data() if callable(data) else data, **options)

    return build


def tagged(
    domains: Mapping[str, Mapping[str, str]] | None = None,
    bands: Mapping[int, Mapping[str, str]] | None = None,
    **tags: str,
) -> Callable[[Any], None]:
    """Return an edit that adds tags to the default domain, to other domains and to bands."""

    def edit(raster: Any) -> None:
        raster.update_tags(**tags)
        for domain, items in (domains or {}).items():
            raster.update_tags(ns=domain, **items)
        for band, items in (bands or {}).items():
            raster.update_tags(band, **items)

    return edit


def setting(**attributes: Any) -> Callable[[Any], None]:
    """Return an edit that sets attributes of the open dataset."""

    def edit(raster: Any) -> None:
        for name, value in attributes.items():
            setattr(raster, name, value)

    return edit
