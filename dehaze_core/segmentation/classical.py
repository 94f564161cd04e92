# SPDX-License-Identifier: GPL-3.0-or-later
"""Classical segmentation of scikit-image: every pixel belongs to a segment, none to an object.

It needs no weights and seconds instead of minutes. SLIC (Achanta et al., *SLIC Superpixels Compared
to State-of-the-art Superpixel Methods*, IEEE TPAMI 2012) makes segments of similar size,
Felzenszwalb and Huttenlocher (*Efficient Graph-Based Image Segmentation*, IJCV 2004) segments that
are large where the picture is even.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from dehaze_core.segmentation.regions import Region
from dehaze_core.segmentation.segmenter import ClassicalName

_SIDE = 2048
_SLIC_PX = 48
_SLIC = {"compactness": 10.0, "sigma": 1.0}
_FELZENSZWALB = {"scale": 200.0, "sigma": 0.8, "min_size": 256}


class ClassicalSegmenter:
    """SLIC or Felzenszwalb, by name.

    Args:
        name: "slic" or "felzenszwalb".
    """

    side = _SIDE

    def __init__(self, name: ClassicalName) -> None:
        self.name = name
        chosen = {"px": _SLIC_PX, **_SLIC} if name == "slic" else _FELZENSZWALB
        parameters = " ".join(f"{key}={value:g}" for key, value in chosen.items())
        self.identity = f"{name} scikit-image={version('scikit-image')} {parameters}"

    def __call__(self, picture: NDArray[np.uint8]) -> list[Region]:
        """Return the segments of a picture (H, W, 3), large ones first; all have the score 1."""
        labels = _slic(picture) if self.name == "slic" else _felzenszwalb(picture)
        return sorted(_regions(labels), key=lambda region: (-region.area, region.row, region.col))


def _slic(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return segments of about `_SLIC_PX` px across, 1 to n, (H, W)."""
    from skimage.segmentation import slic

    height, width = picture.shape[:2]
    count = max(round(height * width / _SLIC_PX**2), 1)
    labels: NDArray[np.int64] = slic(picture, n_segments=count, start_label=1, **_SLIC)
    return labels


def _felzenszwalb(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return segments of at least 256 px, 1 to n, (H, W)."""
    from skimage.segmentation import felzenszwalb

    labels: NDArray[np.int64] = felzenszwalb(picture, **_FELZENSZWALB) + 1
    return labels


def _regions(labels: NDArray[np.int64]) -> list[Region]:
    from scipy.ndimage import find_objects

    return [
        Region.from_mask(labels[place] == label, row=place[0].start, col=place[1].start)
        for label, place in enumerate(find_objects(labels), start=1)
        if place is not None
    ]
