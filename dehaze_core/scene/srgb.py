# SPDX-License-Identifier: GPL-3.0-or-later
"""The transfer function of IEC 61966-2-1 (sRGB) on whole blocks.

Both branches meet, so that the sum of the linear branch, held constant from there upwards, and the
power branch, held constant from there downwards, is the function itself. That needs neither a
comparison nor a selection and runs almost twice as fast. The meeting point is that of the
standard's coefficients; the standard prints it rounded.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_SLOPE = 12.92
_SHIFT = 0.055
_POWER = 2.4
_LINEAR_JOIN = 0.0031306684425005883
_ENCODED_JOIN = _SLOPE * _LINEAR_JOIN


def srgb_encode(linear: Tensor, *, peak: float = 1.0, in_place: bool = False) -> Tensor:
    """Return display-encoded values of linear light.

    Args:
        linear: Any shape, float32; 1 is white. The branches go on below 0 and above 1.
        peak: Encoded value of white: 1, or 255 for 8-bit numbers (not rounded).
        in_place: Overwrite `linear`.

    Returns:
        The same shape, float32.
    """
    bent = linear.clamp(min=_LINEAR_JOIN).pow_(1 / _POWER)
    low = linear.clamp_(max=_LINEAR_JOIN) if in_place else linear.clamp(max=_LINEAR_JOIN)
    low.mul_(_SLOPE * peak).add_(bent, alpha=(1 + _SHIFT) * peak)
    return low.sub_((_ENCODED_JOIN + _SHIFT) * peak)


def srgb_decode(encoded: Tensor, *, peak: float = 1.0, in_place: bool = False) -> Tensor:
    """Return linear light of display-encoded values.

    Args:
        encoded: Any shape, float32; `peak` is white.
        peak: Encoded value of white: 1, or 255 for 8-bit numbers.
        in_place: Overwrite `encoded`.

    Returns:
        The same shape, float32; white is 1.
    """
    bent = encoded.clamp(min=_ENCODED_JOIN * peak).add_(_SHIFT * peak)
    bent.mul_(1 / ((1 + _SHIFT) * peak)).pow_(_POWER)
    join = _ENCODED_JOIN * peak
    low = encoded.clamp_(max=join) if in_place else encoded.clamp(max=join)
    return low.mul_(1 / (_SLOPE * peak)).add_(bent).sub_(_LINEAR_JOIN)


def decode_table() -> Tensor:
    """Return the linear light of the 256 8-bit numbers, (256,) float32, exact to float32."""
    encoded = np.arange(256, dtype=np.float64) / 255
    bent = ((encoded + _SHIFT) / (1 + _SHIFT)) ** _POWER
    table = np.where(encoded <= _ENCODED_JOIN, encoded / _SLOPE, bent)
    return torch.from_numpy(table.astype(np.float32))


@lru_cache(maxsize=1)
def _encode_table() -> npt.NDArray[np.uint8]:
    linear = torch.arange(2**16, dtype=torch.float64) / (2**16 - 1)
    return srgb_encode(linear, peak=255.0).round().to(torch.uint8).numpy()


def encode_uint8(linear: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return 8-bit display values of linear light, rounded and clipped, by a table of 16 bits.

    Args:
        linear: Any shape, [0, 1].
    """
    scaled = linear * (2**16 - 1)
    scaled += 0.5
    index = np.clip(scaled, 0, 2**16 - 1, out=scaled).astype(np.uint16)
    encoded: npt.NDArray[np.uint8] = _encode_table()[index]
    return encoded
