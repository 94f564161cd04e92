# SPDX-License-Identifier: GPL-3.0-or-later
"""The haze behind painted pixels: fitted once pass B is done, applied when outputs are written.

Pass B leaves sums over the pixels of every token's cell. From these follow the haze of each cell
and of the scene as a whole, strip by strip, and from a grid of cells that of any pixel: no seam,
and no further pass of the network. The haze gives the thickness layer, and corrects bands that the
network has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.engine.corrections import without_haze
from dehaze_core.engine.job import Job, Pixels
from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.tokens.token_file import TokenFile
from dehaze_core.grid import Window
from dehaze_core.haze.bands import BandHaze, band_haze
from dehaze_core.haze.fitting import (
    REACH,
    Statistics,
    airlight_terms,
    angstrom_exponent,
    fit_haze,
    reference_thickness,
    scene_airlight,
    spread_sums,
)
from dehaze_core.models.streaming import TOKEN_PX
from dehaze_core.scene.quantise import quantise, taken_value

_STRIP_CELLS = 65_536


@dataclass(frozen=True, slots=True)
class _SceneFit:
    """Values of the whole scene: Angstrom exponent and mean optical thickness at 550 nm."""

    alpha: float
    mean_thickness: float


class FittedHaze:
    """Haze layers of a painted result. A context manager; on leaving, its scratch file is deleted.

    Attributes:
        alpha: Angstrom exponent of the scene.
        mean_thickness: Mean optical thickness at 550 nm over valid pixels.

    Args:
        job: The run.
        sums: (1 + 4 K, r, c) store with the sums of all cells.
        results: Store of the clear pixels; bands that were not painted are the input's.
        folder: Where a grid of cells may be kept meanwhile.
    """

    def __init__(self, job: Job, sums: ResultStore, results: ResultStore, folder: Path) -> None:
        self._job = job
        self._sums = sums
        self._results = results
        self._bands = len(job.model_bands)
        self._path = folder / "haze.f32"
        _, self._rows, self._cols = sums.shape
        # Thickness and airlight of the model bands.
        self._cells = TokenFile(self._path, self._rows, self._cols, 2 * self._bands)
        fit = self._fit()
        self.alpha, self.mean_thickness = fit.alpha, fit.mean_thickness
        self._further = self._further_bands()

    def __enter__(self) -> FittedHaze:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Delete the scratch file."""
        self._cells.close()
        self._path.unlink(missing_ok=True)

    def thickness(self, window: Window) -> NDArray[np.float32]:
        """Return the optical thickness at 550 nm of a window, (1, h, w); NaN where invalid."""
        _, valid = self._job.scene.read(window, self._job.model_bands[:1])
        tau, _ = self._at(window)
        return np.where(valid, tau.numpy(), np.float32(np.nan))[None]

    def clear(self, window: Window) -> Pixels:
        """Return the clear pixels (B, h, w) of a window, with bands the network has not seen."""
        pixels = self._results.read(window)
        if not self._further:
            return pixels
        job = self._job
        _, valid = job.scene.read(window, job.model_bands[:1])
        tau, airlight = self._at(window)
        for band in self._further:
            clear = without_haze(job, pixels[band.index], tau, airlight, band)
            nodata = taken_value(job.scene.frame, band.index, job.model_bands[0])
            np.copyto(pixels[band.index], quantise(clear, pixels.dtype.name, nodata), where=valid)
        return pixels

    def _further_bands(self) -> list[BandHaze]:
        job = self._job
        bands = band_haze(job.model_bands, job.scene.frame.color_interp, self.alpha)
        return [band for band in bands if band.index not in job.model_bands]

    def _fit(self) -> _SceneFit:
        terms = torch.zeros(2, self._bands, dtype=torch.float64)
        for _, _, cells in self._strips():
            terms += airlight_terms(cells)
        airlight = scene_airlight(terms)
        total = torch.zeros(self._bands, dtype=torch.float64)
        count = 0.0
        for row, pixels, cells in self._strips():
            thickness, local = fit_haze(cells, airlight)
            total += (thickness * pixels).sum(dim=(1, 2))
            count += float(pixels.sum())
            haze = torch.cat((thickness, local)).permute(1, 2, 0).float()
            self._cells.write_rows(row, haze.numpy())
        alpha = angstrom_exponent(total)
        return _SceneFit(alpha, float(reference_thickness(total, alpha)) / max(count, 1.0))

    def _strips(self) -> Iterator[tuple[int, Tensor, Statistics]]:
        """Yield strips of cells: first row, number of pixels (r, c), smoothed statistics."""
        step = max(_STRIP_CELLS // self._cols, 1)
        for row in range(0, self._rows, step):
            stop = min(row + step, self._rows)
            top, bottom = max(row - REACH, 0), min(stop + REACH, self._rows)
            sums = torch.from_numpy(self._sums.read(Window(top, 0, bottom - top, self._cols)))
            inner = slice(row - top, stop - top)
            yield row, sums[0, inner], Statistics.of(spread_sums(sums)[:, inner])

    def _at(self, window: Window) -> tuple[Tensor, Tensor]:
        """Return thickness at 550 nm (h, w) and airlight (3, h, w) of every pixel of a window.

        Cells are read with one to spare on every side, which is all that the interpolation looks
        at, so that windows do not show.
        """
        coarse = window.in_cells(TOKEN_PX).padded(1).clipped(self._rows, self._cols)
        cells = torch.from_numpy(self._cells.read(coarse))
        tau = reference_thickness(cells[..., : self._bands].permute(2, 0, 1), self.alpha)
        airlight = cells[..., self._bands :].permute(2, 0, 1).expand(3, -1, -1)
        haze = torch.cat((tau[None], airlight))[None]
        fine = F.interpolate(haze, scale_factor=TOKEN_PX, mode="bilinear", align_corners=False)
        inner = window.within(coarse.scaled(TOKEN_PX)).slices
        return fine[0, 0][inner], fine[0, 1:][(slice(None), *inner)]
