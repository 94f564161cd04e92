# SPDX-License-Identifier: GPL-3.0-or-later
"""One window of a clear raster to the same window with haze, exact whatever the window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dehaze_core.grid import Block
from dehaze_core.haze.adjacency import adjacency_halo, blurred_ground
from dehaze_core.haze.bands import BandHaze
from dehaze_core.haze.fields import HazeFields
from dehaze_core.haze.physics import add_haze
from dehaze_core.scene import Radiometry, Scene, quantise
from dehaze_core.synthesis.terrain import Terrain

Image = NDArray[np.float32]
Linear = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClearBlock:
    """What is read of a block.

    Attributes:
        pixels: (B, H, W) stored values of the outer window.
        valid: (H, W) of the same.
        fog: (h, w) factor of the thickness in the core, or None.
    """

    pixels: NDArray[np.generic]
    valid: Mask
    fog: Image | None


@dataclass(frozen=True, slots=True)
class HazyBlock:
    """The core of a block with haze.

    Attributes:
        pixels: (B, h, w) stored values.
        thickness: (h, w) optical thickness at 550 nm, NaN where invalid.
        airlight: (N, h, w) airlight of the N hazed bands in linear light, NaN where invalid.
        valid: (h, w).
    """

    pixels: NDArray[np.generic]
    thickness: Image
    airlight: Image
    valid: Mask


class HazePainter:
    """Puts haze on the blocks of a scene.

    Args:
        scene: The clear raster.
        radiometry: Stored values to linear light and back.
        fields: The haze.
        bands: The bands that get haze.
        terrain: Heights for valley fog, or None.
        adjacency: Blur of the ground under haze of thickness 1, px.
        dtype: Type of the stored values to return: the scene's, or a float type for values that are
            not rounded.
    """

    def __init__(
        self,
        scene: Scene,
        radiometry: Radiometry,
        fields: HazeFields,
        bands: list[BandHaze],
        terrain: Terrain | None,
        adjacency: float,
        dtype: str,
    ) -> None:
        self._scene = scene
        self._radiometry = radiometry
        self._fields = fields
        self._bands = bands
        self._terrain = terrain
        self._adjacency = adjacency
        self._dtype = dtype

    @property
    def halo(self) -> int:
        """How many px around a block are looked at."""
        return adjacency_halo(self._adjacency)

    def load(self, block: Block) -> ClearBlock:
        """Read what is needed for a block; one thread at a time."""
        pixels, valid = self._scene.read(block.outer)
        fog = None if self._terrain is None else self._terrain.factor(block.core)
        return ClearBlock(pixels, valid, fog)

    def paint(self, block: Block, clear: ClearBlock) -> HazyBlock:
        """Return the core of a block with haze. Pixels without data or haze stay as they are."""
        core = block.inset.slices
        valid = clear.valid[core]
        thickness = self._fields.thickness(block.core)
        if clear.fog is not None:
            thickness = thickness * clear.fog
        airlight = self._fields.airlight(block.core)
        pixels = clear.pixels[(slice(None), *core)].astype(self._dtype)
        touched = valid & (thickness > 0.0) if self._is_noiseless else valid
        if touched.any():
            for band in self._bands:
                light = self._hazed(block, clear, band, thickness, airlight[band.airlight_band])
                self._put(pixels[band.index], light, touched, band)
        shown = airlight[[band.airlight_band for band in self._bands]]
        return HazyBlock(
            pixels,
            np.where(valid, thickness, np.float32(np.nan)),
            np.where(valid, shown, np.float32(np.nan)),
            valid,
        )

    @property
    def _is_noiseless(self) -> bool:
        return not any(self._fields.recipe.noise)

    def _hazed(
        self, block: Block, clear: ClearBlock, band: BandHaze, thickness: Image, airlight: Image
    ) -> Linear:
        """Return one band (h, w) in linear light with haze and noise, not rounded.

        In double precision: vectorised and scalar arithmetic differ in the last bit of a float32,
        and which pixels get which depends on the window.
        """
        stored = torch.from_numpy(np.ascontiguousarray(clear.pixels[band.index]))
        ground = self._radiometry.to_linear(stored).numpy().astype(np.float64)
        tau = thickness.astype(np.float64)
        if self._adjacency > 0.0:
            ground = blurred_ground(ground, clear.valid, tau, self._adjacency, block.inset)
        else:
            ground = np.ascontiguousarray(ground[block.inset.slices])
        hazy = add_haze(
            torch.from_numpy(ground),
            torch.from_numpy(np.exp(-band.ratio * tau)),
            torch.from_numpy(airlight.astype(np.float64)),
        ).numpy()
        return hazy if self._is_noiseless else self._with_noise(hazy, block, band)

    def _with_noise(self, light: Linear, block: Block, band: BandHaze) -> Linear:
        shot, read = self._fields.recipe.noise
        sigma = np.sqrt(shot * np.clip(light, 0.0, None) + read**2)
        noisy: Linear = light + sigma * self._fields.sensor_noise(block.core, band.index)
        return noisy

    def _put(
        self, target: NDArray[np.generic], light: Linear, touched: Mask, band: BandHaze
    ) -> None:
        values = self._radiometry.from_linear(torch.from_numpy(light)).float()
        touched = touched & values.isfinite().numpy()
        nodata = self._scene.frame.nodata[band.index]
        np.copyto(target, quantise(values, self._dtype, nodata), where=touched)
