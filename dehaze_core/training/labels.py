# SPDX-License-Identifier: GPL-3.0-or-later
"""Label pictures beside training pictures: their segments, as `dehaze segment-set` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dehaze_core.errors import InputError

Labels = NDArray[np.integer[Any]]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, px."""

_HINT = "Make the masks with `dehaze segment-set`, from the same folder of pictures."


def read_labels(path: Path, shape: tuple[int, ...]) -> Labels:
    """Read the segments of a picture, 0 for none.

    Args:
        path: A PNG with one channel of 8 or 16 bits.
        shape: Rows and columns of the picture. The labels may have fewer, in proportion.

    Returns:
        uint8 or uint16, (h, w).

    Raises:
        InputError: There is no such file (MASK_MISSING), it is no label picture (MASK_UNREADABLE),
            or it is of a picture of another shape (MASK_SHAPE).
    """
    try:
        with Image.open(path) as image:
            labels = np.asarray(image)
    except FileNotFoundError as error:
        raise InputError(
            f"There is no mask {path}, expected one for every picture.",
            hint=_HINT,
            code="MASK_MISSING",
        ) from error
    # What Pillow raises depends on the format and on where it is damaged.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"The mask {path} cannot be read: {error}.", hint=_HINT, code="MASK_UNREADABLE"
        ) from error
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16, np.int32):
        raise InputError(
            f"The mask {path} has shape {labels.shape} and type {labels.dtype}, expected one "
            "channel of 8 or 16 bits.",
            hint=_HINT,
            code="MASK_UNREADABLE",
        )
    height, width = shape[:2]
    # Both sides of a smaller one are rounded to whole pixels.
    if abs(labels.shape[0] * width - labels.shape[1] * height) > height + width:
        raise InputError(
            f"The mask {path} has {labels.shape[1]} x {labels.shape[0]} px, its picture "
            f"{width} x {height} px, expected the same proportions.",
            hint=_HINT,
            code="MASK_SHAPE",
        )
    return labels.astype(np.uint16)


def cut_labels(labels: Labels, shape: tuple[int, ...], box: Box, size: int) -> NDArray[np.int32]:
    """Return the labels of a part of a picture, brought to `size` px by the nearest neighbour.

    Args:
        labels: Of the whole picture, (h, w).
        shape: Rows and columns of the picture.
        box: The part, px of the picture.
        size: Rows and columns of the result.
    """
    left, top, right, bottom = box
    middles = (np.arange(size) + 0.5) / size
    rows = (top + middles * (bottom - top)) * (labels.shape[0] / shape[0])
    cols = (left + middles * (right - left)) * (labels.shape[1] / shape[1])
    part = labels[rows.astype(np.intp)[:, None], cols.astype(np.intp)]
    return np.asarray(part, np.int32)
