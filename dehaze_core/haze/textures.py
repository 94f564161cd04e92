# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of real haze, such as a cirrus band, made into textures of thickness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DARK, _BRIGHT = 0.5, 99.8


def as_texture(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a thickness texture in [0, 1]: pairs of pixels averaged, stretched by percentiles.

    Args:
        values: (h, w), at least 4 x 4, NaN where there is no data.

    Returns:
        (h // 2, w // 2), 0 where there is no data.

    Raises:
        ValueError: All values are the same, or there are none.
    """
    # Sensor striping is not haze: average it away.
    even = values[: values.shape[0] // 2 * 2, : values.shape[1] // 2 * 2]
    pairs = even.reshape(even.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3))
    known = pairs[np.isfinite(pairs)]
    low, high = np.percentile(known, (_DARK, _BRIGHT)) if known.size else (0.0, 0.0)
    if not high > low:
        raise ValueError("a texture needs different values")
    stretched = np.clip((pairs - low) / (high - low), 0.0, 1.0)
    texture: NDArray[np.float32] = np.nan_to_num(stretched, nan=0.0).astype(np.float32)
    return texture
