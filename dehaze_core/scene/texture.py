# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasters of real haze, such as a cirrus band, read as textures of thickness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dehaze_core.errors import InputError
from dehaze_core.haze.textures import as_texture
from dehaze_core.scene.scene import open_scene

MOST_SIDE_PX = 2048
LEAST_SIDE_PX = 8


def read_texture(path: str) -> NDArray[np.float32]:
    """Read a thickness texture from any raster: the mean of its bands, stretched to [0, 1].

    Returns:
        (h, w), 0 where there is no data; the raster is scaled down to `MOST_SIDE_PX` first, and
        pairs of pixels are averaged.

    Raises:
        InputError: It cannot be read, or it shows no differences (INPUT_TEXTURE).
    """
    with open_scene(path) as scene:
        frame = scene.frame
        pixels, valid = scene.overview(MOST_SIDE_PX, frame.color_bands or (0,))
    if min(valid.shape) < LEAST_SIDE_PX:
        raise _unusable(
            path,
            f"has {frame.width} x {frame.height} px, "
            f"expected {LEAST_SIDE_PX} x {LEAST_SIDE_PX} or more",
        )
    values = pixels.astype(np.float32).mean(axis=0)
    # Zero is no haze, and not the absence of data, unless the file says so.
    if frame.mask != "none":
        values = np.where(valid, values, np.float32(np.nan))
    try:
        return as_texture(values)
    except ValueError as error:
        raise _unusable(path, "holds one value only, expected a picture of haze") from error


def _unusable(path: str, what: str) -> InputError:
    return InputError(
        f"The texture {path} {what}.",
        hint="Choose a raster that shows haze or thin cloud, such as a cirrus band.",
        code="INPUT_TEXTURE",
    )
