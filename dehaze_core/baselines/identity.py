# SPDX-License-Identifier: GPL-3.0-or-later
"""Doing nothing: the numbers of the hazy picture itself, by the same way as everybody's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def restore(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture as it is."""
    return picture
