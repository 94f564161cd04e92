# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame contract on real files of many makers, a small part of each."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio

from dehaze_core.errors import DehazeError
from dehaze_core.scene import Frame, open_scene
from tests.frame.carrying import SAID_AS
from tests.frame.reading import differences, read_raster

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "io_cases"
SIDE = 48
REFUSED = {
    "rasterio/corrupt.tif": "INPUT_CORRUPT",
    "rio-cogeo/image_colormap.tif": "INPUT_PALETTE",
    "rio-tiler/cog_cmap.tif": "INPUT_PALETTE",
    "solaris_spacenet/sar_hh.tif": "INPUT_COMPLEX",
}
# What a GeoTIFF has no place for; a warning says so.
LOSES = {
    "rasterio/RGB.byte.gcp.vrt": ["gcps"],
    "rasterio/white-gemini-iv.vrt": ["colours", "gcps"],
}


def names() -> list[str]:
    manifest = FOLDER / "MANIFEST.csv"
    if not manifest.exists():
        return []
    with manifest.open(encoding="utf-8", newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


def extent_of_middle(frame: Frame) -> tuple[float, float, float, float]:
    """Return the bounding box, in the raster's coordinates, of some pixels in its middle."""
    half = min(SIDE, frame.width) / 2, min(SIDE, frame.height) / 2
    middle = frame.width // 2, frame.height // 2
    corners = [
        frame.affine * (middle[0] + x * half[0], middle[1] + y * half[1])
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


@pytest.mark.skipif(not names(), reason="the folder shared/data/io_cases is not here")
@pytest.mark.parametrize("name", names() or ["none"])
def test_shared_file_keeps_its_frame_or_is_refused_with_a_code(
    tmp_path: Path, dehaze: Callable[..., list[str]], name: str
) -> None:
    source, output = str(FOLDER / name), tmp_path / "out.tif"
    if name in REFUSED:
        with pytest.raises(DehazeError) as caught:
            dehaze(source, output, block_size=256)
        assert caught.value.code == REFUSED[name]
        assert not output.exists()
        return
    with open_scene(source) as scene:
        extent = extent_of_middle(scene.frame)
        window = scene.window_of_extent(extent)

    warnings = " ".join(dehaze(source, output, extent=extent))

    rows_cols = ((window.row, window.row_stop), (window.col, window.col_stop))
    with rasterio.Env(GDAL_PAM_ENABLED="NO"):  # nothing may be written beside shared files
        expected = read_raster(source, rows_cols)
    lost = differences(expected, read_raster(str(output)))
    assert lost == LOSES.get(name, [])
    assert all(SAID_AS[trait] in warnings for trait in lost)
