# SPDX-License-Identifier: GPL-3.0-or-later
"""From a network's answer for a block to clear values of its bands, strip by strip.

There are two kinds of answers: haze maps, from which the scattering model computes clear pixels,
and painted pixels, from which the haze is fitted afterwards (`dehaze_core.engine.fitted_haze`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dehaze_core.engine.job import Job, Mask, Pixels
from dehaze_core.grid import BlockGrid, Window
from dehaze_core.haze.bands import BandHaze, band_haze
from dehaze_core.haze.fitting import cell_sums, sum_width
from dehaze_core.haze.layers import correct, full_resolution
from dehaze_core.models.streaming import (
    HAZE_PX,
    TOKEN_PX,
    HazeMaps,
    PaintedImage,
    SceneHaze,
    SceneValues,
)
from dehaze_core.scene.srgb import srgb_decode


@dataclass(frozen=True, slots=True)
class HazeLayer:
    """What pass B keeps of the haze beside the clear pixels.

    Attributes:
        channels: Values for each cell.
        dtype: NumPy name of their type.
        cell: Side of a cell in px.
        empty: Value of cells without a valid pixel.
    """

    channels: int
    dtype: str
    cell: int
    empty: float

    def cells(self, window: Window) -> Window:
        """Return a window of pixels that begins at a cell in units of cells, rounded outwards."""
        return window.in_cells(self.cell)


THICKNESS = HazeLayer(1, "float32", 1, np.nan)
"""Optical thickness at 550 nm of every pixel."""


def haze_layer(job: Job) -> HazeLayer:
    """Return what pass B keeps of the haze: its thickness, or sums from which it is fitted."""
    if job.compute.network.paints:
        return HazeLayer(sum_width(len(job.model_bands)), "float64", TOKEN_PX, 0.0)
    return THICKNESS


@dataclass(frozen=True, slots=True)
class Hazy:
    """What pass B is given of a block's outer window.

    Attributes:
        pixels: (B, h, w) stored values of all bands.
        valid: (h, w).
        conditions: (h/32, w/32, K) of its tokens.
        scene: What is known of the whole scene.
    """

    pixels: Pixels
    valid: Mask
    conditions: NDArray[np.float32]
    scene: SceneValues

    def cut(self, window: Window, grid: BlockGrid) -> Hazy:
        """Return a part of it: `window` is relative to this one and made of whole cells."""
        pixels, valid = self.pixels[(slice(None), *window.slices)], self.valid[window.slices]
        return Hazy(pixels, valid, self.conditions[grid.cells(window).slices], self.scene)


@dataclass(frozen=True, slots=True)
class ClearStrip:
    """Some rows of a block without haze.

    Attributes:
        bands: 0-based bands of the raster and their values (h, w), float32, not rounded, computed
            one after the other as they are asked for. Bands that are missing stay as they are.
        haze: (C, h', w') values of the haze layer.
        thickness: Summed optical thickness of valid pixels; 0 where it is not known yet.
    """

    bands: Iterator[tuple[int, Tensor]]
    haze: NDArray[np.generic]
    thickness: float


class Correction(Protocol):
    """Clear values of a block."""

    def strip(self, rows: slice, columns: slice) -> ClearStrip:
        """Correct some rows of the block; they begin at a cell of the haze layer."""
        ...


def correction_of(
    job: Job, hazy: Hazy, rgb: Tensor, answer: HazeMaps | PaintedImage, scene: SceneValues
) -> Correction:
    """Return the correction that a network's answer asks for.

    Args:
        job: The run.
        hazy: What the network was asked about.
        rgb: (1, 3, H, W) what it saw.
        answer: What it said; where that is not a number, pixels stay as they are.
        scene: What is known of the whole scene: its haze, where the answer is haze maps.
    """
    if isinstance(answer, PaintedImage):
        return PaintedCorrection(job, hazy, answer.without_gaps(rgb))
    maps = answer if answer.is_finite() else answer.without_gaps()
    return HazeCorrection(job, hazy, rgb, maps, cast(SceneHaze, scene))


class HazeCorrection:
    """Takes out the haze of haze maps, from every band of known wavelength.

    Args:
        job: The run.
        hazy: The block.
        rgb: (1, 3, H, W) what the network saw of it.
        maps: The haze it found.
        scene: Haze of the whole scene.
    """

    def __init__(self, job: Job, hazy: Hazy, rgb: Tensor, maps: HazeMaps, scene: SceneHaze) -> None:
        self.job = job
        self.hazy = hazy
        self.rgb = rgb
        self.maps = maps
        interpretation = job.scene.frame.color_interp
        self.bands = band_haze(job.model_bands, interpretation, float(scene.alpha))

    def strip(self, rows: slice, columns: slice) -> ClearStrip:
        """Correct some rows of the block."""
        tau, airlight = _strip_haze(self.maps, self.rgb, rows, columns)
        bands = (
            (
                band.index,
                without_haze(
                    self.job, self.hazy.pixels[band.index, rows, columns], tau, airlight, band
                ),
            )
            for band in self.bands
        )
        mask = self.hazy.valid[rows, columns]
        layer = tau.cpu().numpy()
        total = float(layer.sum(where=mask, dtype=np.float64))
        return ClearStrip(bands, np.where(mask, layer, np.float32(np.nan))[None], total)


class PaintedCorrection:
    """Puts painted pixels in the place of the model bands.

    Args:
        job: The run.
        hazy: The block.
        painted: What the network has painted in its place.
    """

    def __init__(self, job: Job, hazy: Hazy, painted: PaintedImage) -> None:
        self.job = job
        self.hazy = hazy
        clear = painted.clear[0].float().clamp(0.0, 1.0)
        # A panchromatic band was shown three times.
        self.clear = clear if len(job.model_bands) == len(clear) else clear.mean(0, keepdim=True)

    def strip(self, rows: slice, columns: slice) -> ClearStrip:
        """Correct some rows of the block."""
        job, device = self.job, self.clear.device
        clear = self.clear[:, rows, columns]
        stored = self.hazy.pixels[list(job.model_bands), rows, columns]
        hazy = job.radiometry.to_linear(torch.from_numpy(stored).to(device))
        bands = (
            (band, _stored_values(job, stored[j], painted_light(clear[j], hazy[j], job.strength)))
            for j, band in enumerate(job.model_bands)
        )
        valid = torch.from_numpy(self.hazy.valid[rows, columns]).to(device)
        sums = cell_sums(hazy.clamp(0.0, 1.0), srgb_decode(clear), valid, TOKEN_PX)
        return ClearStrip(bands, sums.cpu().numpy(), 0.0)


def painted_light(painted: Tensor, hazy: Tensor, strength: float) -> Tensor:
    """Mix painted pixels with those they were painted from.

    Args:
        painted: Display-encoded; what is beyond [0, 1] is cut off.
        hazy: The same shape, linear light.
        strength: Share of the change that is wanted: 0 gives `hazy`, more than 1 exaggerates.

    Returns:
        Linear light, not clipped. The part of `hazy` beyond [0, 1] was not shown to the network,
        and is kept.
    """
    beyond = hazy - hazy.clamp(0.0, 1.0)
    clear = srgb_decode(painted.clamp(0.0, 1.0)) + beyond
    mixed = torch.lerp(hazy, clear, strength)
    # Less than no light comes from exaggeration only.
    return torch.maximum(mixed, hazy.clamp_max(0.0))


def without_haze(job: Job, stored: Pixels, tau: Tensor, airlight: Tensor, band: BandHaze) -> Tensor:
    """Return stored values of one band without haze, float32, not rounded.

    Args:
        job: The run.
        stored: (h, w) stored values.
        tau: (h, w) optical thickness at 550 nm.
        airlight: (3, h, w) airlight of the model bands in linear light.
        band: How the haze carries over to this band.
    """
    hazy = job.radiometry.to_linear(torch.from_numpy(stored).to(tau.device))
    clear = correct(hazy, tau, airlight[band.airlight_band], band.ratio, job.strength)
    # Haze only adds light: what would fall below zero is noise or a misjudged airlight.
    return _stored_values(job, stored, torch.maximum(clear, hazy.clamp_max(0.0)))


def _stored_values(job: Job, stored: Pixels, light: Tensor) -> Tensor:
    values = job.radiometry.from_linear(light)
    if stored.dtype.kind != "f":
        return values
    # Floats near the end of their range overflow on the way: they stay what they are.
    return torch.where(values.isfinite(), values, torch.from_numpy(stored).to(values))


def _strip_haze(maps: HazeMaps, rgb: Tensor, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """Return thickness (h, w) and airlight (3, h, w) of some rows of a block at full resolution.

    The maps are cut out with one cell to spare on every side, which is all that the interpolation
    looks at, so that strips do not show.
    """
    window = Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
    coarse = window.in_cells(HAZE_PX).padded(1).clipped(*maps.thickness.shape[-2:])
    fine = coarse.scaled(HAZE_PX)
    cells = (..., *coarse.slices)
    pixels = rgb[:, : maps.airlight.shape[1]]  # without the guide of a network that has one
    tau, airlight = full_resolution(
        maps.thickness[cells],
        maps.airlight[cells],
        maps.edge_slope[cells],
        pixels[(..., *fine.slices)].mean(dim=1, keepdim=True),
    )
    inner = (0, ..., *window.within(fine).slices)
    return tau[inner][0], airlight[inner]
