# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an image is from its reference: PSNR, SSIM, CIEDE2000, spectral angle, RMS change.

Images are `(bands, rows, columns)` arrays of one shape. `valid`, a boolean `(rows, columns)` array,
limits every number to valid pixels: equal nodata on both sides is no agreement, and unequal nodata
no error. The data range is always stated by the caller and never guessed from the dtype, because a
16-bit product rarely fills its 16 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from dehaze_core.errors import InputError, SettingsError

Image = NDArray[Any]
Mask = NDArray[np.bool_]

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_SIDE = 2 * SSIM_RADIUS + 1

# The metrics need up to twenty float64 planes; in strips a large scene costs what a chip does.
_STRIP_ROWS = 256


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """Squared error of one part of an image; parts add up to the whole exactly.

    The mean of the PSNR of tiles is not the PSNR of the image (Jensen), so tiles are pooled here.
    """

    squared_error: float = 0.0
    samples: int = 0

    @classmethod
    def between(cls, image: Image, reference: Image, valid: Mask | None = None) -> ErrorSums:
        """Sum the squared differences of two `(bands, rows, columns)` arrays in float64."""
        _check_pair(image, reference, valid)
        total, samples = 0.0, 0
        for rows in _strips(image.shape[1]):
            error = np.asarray(image[:, rows], np.float64) - np.asarray(
                reference[:, rows], np.float64
            )
            if valid is not None:
                error = error[:, valid[rows]]
            total += float(np.sum(np.square(error)))
            samples += error.size
        return cls(total, samples)

    def __add__(self, other: ErrorSums) -> ErrorSums:
        """Pool two parts."""
        return ErrorSums(self.squared_error + other.squared_error, self.samples + other.samples)

    @property
    def rms(self) -> float:
        """Root of the mean squared difference, in the unit of the images; NaN without samples."""
        return math.sqrt(self.squared_error / self.samples) if self.samples else math.nan

    def psnr(self, data_range: float) -> float:
        """Peak signal-to-noise ratio in dB; infinite for identical images, NaN without samples."""
        _check_range(data_range)
        return 20 * math.log10(data_range / self.rms) if self.rms else math.inf


def psnr(image: Image, reference: Image, *, data_range: float, valid: Mask | None = None) -> float:
    """Return the PSNR in dB over all valid pixels and bands together.

    Args:
        image: `(bands, rows, columns)`, any real dtype.
        reference: The same shape and unit.
        data_range: Full span of the data (255 for 8-bit pictures, 1 for reflectance).
        valid: `(rows, columns)`; pixels that count.
    """
    return ErrorSums.between(image, reference, valid).psnr(data_range)


def rms_change(before: Image, after: Image, *, valid: Mask | None = None) -> float:
    """Return the RMS difference over valid pixels and bands, in the unit of the images (DN)."""
    return ErrorSums.between(after, before, valid).rms


def ssim(image: Image, reference: Image, *, data_range: float, valid: Mask | None = None) -> float:
    """Return the mean structural similarity (Wang et al. 2004) over bands and windows.

    Gaussian 11 x 11 window with sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance. Windows
    that leave the image or touch an invalid pixel are dropped; NaN when none is left.

    Raises:
        InputError: The images are smaller than one window.
    """
    _check_pair(image, reference, valid)
    _check_range(data_range)
    _check_window(image)
    total, windows = 0.0, 0
    for rows in _strips(image.shape[1], overlap=2 * SSIM_RADIUS):
        mask = None if valid is None else valid[rows]
        inside = _similarity(image[:, rows], reference[:, rows], data_range, mask)
        total += float(inside.sum())
        windows += inside.size
    return total / windows if windows else math.nan


def ciede2000(image: Image, reference: Image, *, valid: Mask | None = None) -> float:
    """Return the mean CIEDE2000 colour difference of two display pictures.

    Args:
        image: `(3, rows, columns)` red, green, blue, sRGB-encoded: uint8, or float in [0, 1].
        reference: The same, stretched for display in the same way.
        valid: `(rows, columns)`; pixels that count.

    Raises:
        InputError: Not three bands.
    """
    _check_pair(image, reference, valid)
    if image.shape[0] != 3:
        raise InputError(
            f"CIEDE2000 compares three bands (red, green, blue), found {image.shape[0]}.",
            hint="Pass the display bands only.",
        )
    total, pixels = 0.0, 0
    for rows in _strips(image.shape[1]):
        first = rgb2lab(image[:, rows], channel_axis=0)
        second = rgb2lab(reference[:, rows], channel_axis=0)
        difference = deltaE_ciede2000(second, first, channel_axis=0)
        if valid is not None:
            difference = difference[valid[rows]]
        total += float(difference.sum())
        pixels += difference.size
    return total / pixels if pixels else math.nan


def spectral_angle(image: Image, reference: Image, *, valid: Mask | None = None) -> float:
    """Return the mean angle between the band vectors of two images, in degrees (Kruse et al. 1993).

    The angle sees the colour and not the brightness: it is 0 where one pixel is a multiple of the
    other. A zero vector has no direction, so pixels that are zero in either image are left out; NaN
    when none is left.

    Args:
        image: `(bands, rows, columns)`, any real dtype, zero where there is no light.
        reference: The same shape and unit.
        valid: `(rows, columns)`; pixels that count.
    """
    _check_pair(image, reference, valid)
    total, pixels = 0.0, 0
    for rows in _strips(image.shape[1]):
        first, second = (np.asarray(part[:, rows], np.float64) for part in (image, reference))
        lengths = np.sqrt(np.square(first).sum(axis=0) * np.square(second).sum(axis=0))
        usable = lengths > 0 if valid is None else (lengths > 0) & valid[rows]
        cosine = (first * second).sum(axis=0)[usable] / lengths[usable]
        total += float(np.arccos(np.clip(cosine, -1.0, 1.0)).sum())
        pixels += cosine.size
    return math.degrees(total / pixels) if pixels else math.nan


def whole_windows(shape: tuple[int, ...], valid: Mask | None, side: int) -> Mask:
    """Mark the pixels of a `(rows, columns)` image around which a whole, wholly valid window lies.

    Args:
        shape: Rows and columns.
        valid: Pixels that count; all if None.
        side: Side of the window in px, odd.
    """
    everywhere = np.ones(shape, bool) if valid is None else valid
    # Outside the image counts as invalid (border_value 0); two lines are quicker than a square.
    rows: Mask = binary_erosion(everywhere, np.ones((side, 1), bool))
    whole: Mask = binary_erosion(rows, np.ones((1, side), bool))
    return whole


def _strips(height: int, overlap: int = 0) -> Iterator[slice]:
    """Yield strips of rows; each begins `overlap` rows before the end of the one above.

    Strips that overlap by a window less one row hold every window of the image exactly once.
    """
    for top in range(0, height - overlap, _STRIP_ROWS):
        yield slice(top, min(top + _STRIP_ROWS + overlap, height))


def _similarity(
    image: Image, reference: Image, data_range: float, valid: Mask | None
) -> NDArray[np.float64]:
    """Return the SSIM of every whole and wholly valid window, bands in rows."""
    # Whatever lies under invalid pixels stays inside the windows that are dropped below.
    _, similarity = structural_similarity(
        np.asarray(image, np.float64),
        np.asarray(reference, np.float64),
        data_range=data_range,
        channel_axis=0,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    inside: NDArray[np.float64] = similarity[:, whole_windows(image.shape[1:], valid, SSIM_SIDE)]
    return inside


def _check_pair(image: Image, reference: Image, valid: Mask | None) -> None:
    if image.ndim != 3 or image.shape != reference.shape:
        raise InputError(
            f"The images to compare have the shapes {image.shape} and {reference.shape}; expected "
            "one shape (bands, rows, columns).",
            hint="Compare on the grid of the reference, without resampling.",
        )
    if valid is not None and valid.shape != image.shape[1:]:
        raise InputError(
            f"The validity mask is {valid.shape}, the images are {image.shape[1:]} pixels."
        )


def _check_range(data_range: float) -> None:
    if not (math.isfinite(data_range) and data_range > 0):
        raise SettingsError(f"The data range must be a positive number, found {data_range}.")


def _check_window(image: Image) -> None:
    if min(image.shape[1:]) < SSIM_SIDE:
        raise InputError(
            f"SSIM needs images of at least {SSIM_SIDE} x {SSIM_SIDE} pixels, found "
            f"{image.shape[1:]}."
        )
