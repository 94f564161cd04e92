# SPDX-License-Identifier: GPL-3.0-or-later
"""Back to the stored type, without ever making a valid pixel look like a missing one."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dehaze_core.scene.frame import Frame
from dehaze_core.scene.validity import comparable_nodata

# torch does arithmetic on these; wider and unsigned ones go through numpy.
_TORCH_TYPES = {"uint8": torch.uint8, "int8": torch.int8, "int16": torch.int16}


def quantise(dn: Tensor, dtype: str, nodata: float | None) -> npt.NDArray[np.generic]:
    """Return numbers of the stored type, rounded half to even and clipped to its range.

    A number that would land on `nodata` is moved by one step to the side it came from (inwards at
    the ends of the range). NaN becomes the lowest number in integer types and stays in floats.

    Args:
        dn: Any shape, float32, numbers of valid pixels.
        dtype: NumPy name of the stored type.
        nodata: Nodata value, or None. One outside the type's range can't be hit and is ignored.

    Returns:
        The same shape, `dtype`.
    """
    hidden = comparable_nodata(nodata, dtype)
    if np.dtype(dtype).kind == "f":
        return _as_float(dn, dtype, hidden)
    if np.dtype(dtype).itemsize > 2:
        return _as_wide_integer(dn, dtype, hidden)
    limits = np.iinfo(dtype)
    low, high = float(limits.min), float(limits.max)
    if hidden == low:
        low += 1
    elif hidden == high:
        high -= 1
    steps = dn.round().clamp_(low, high).nan_to_num_(nan=low)
    if hidden is not None and low < hidden < high:
        steps = torch.where(steps == hidden, _beside(dn, hidden), steps)
    if dtype in _TORCH_TYPES:
        return np.asarray(steps.to(_TORCH_TYPES[dtype]).cpu().numpy())
    return np.asarray(steps.to(torch.int32).cpu().numpy().astype(dtype))


def taken_value(frame: Frame, band: int, first: int) -> float | None:
    """Return the number that says "no data" and that no valid pixel of a band may become.

    Where nothing is declared, pixels that are zero in all bands count as missing: it is enough to
    keep the first band from zero.

    Args:
        frame: Frame of the raster.
        band: 0-based band.
        first: 0-based band that is the first of those to be written.
    """
    declared = frame.nodata[band]
    return 0.0 if declared is None and frame.mask == "none" and band == first else declared


def _beside(dn: Tensor, hidden: float) -> Tensor:
    return torch.where(dn < hidden, hidden - 1, hidden + 1)


def _as_float(dn: Tensor, dtype: str, hidden: float | None) -> npt.NDArray[np.generic]:
    limits = np.finfo(dtype)
    # A half-precision raster must not get infinities for numbers that are merely large.
    values = np.clip(dn.detach().cpu().numpy(), limits.min, limits.max).astype(dtype)
    if hidden is None or math.isnan(hidden):
        return np.asarray(values)
    step = values.dtype.type(hidden)
    towards = values.dtype.type(-np.inf if hidden > 0 else np.inf)
    values[values == step] = np.nextafter(step, towards)
    return np.asarray(values)


def _as_wide_integer(dn: Tensor, dtype: str, hidden: float | None) -> npt.NDArray[np.generic]:
    limits = np.iinfo(dtype)
    exact = dn.detach().cpu().numpy().astype(np.float64)
    # The largest 64-bit integers have no float64 of their own; stay below them.
    top = float(limits.max)
    top = top if int(top) <= limits.max else float(np.nextafter(top, 0))
    steps = np.nan_to_num(np.clip(np.rint(exact), limits.min, top), nan=float(limits.min))
    values = steps.astype(dtype)
    if hidden is not None:
        inwards = np.where(exact < hidden, -1, 1)
        inwards = np.where(hidden == limits.min, 1, np.where(hidden == limits.max, -1, inwards))
        values = np.where(values == int(hidden), values + inwards.astype(dtype), values)
    return np.asarray(values.astype(dtype))
