# SPDX-License-Identifier: GPL-3.0-or-later
"""Full-reference metrics against scikit-image, and how such numbers usually go wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dehaze_core.errors import InputError, SettingsError
from dehaze_core.metrics import ErrorSums, ciede2000, psnr, rms_change, spectral_angle, ssim


def pair(height: int = 70, width: int = 100, bands: int = 3, seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    clear = rng.integers(0, 256, (bands, height, width)).astype(np.uint8)
    noisy = np.clip(clear + rng.normal(0, 20, clear.shape), 0, 255).astype(np.uint8)
    return noisy, clear


def skimage_ssim(image: np.ndarray, reference: np.ndarray) -> float:
    return structural_similarity(
        image.astype(float),
        reference.astype(float),
        data_range=255,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def test_psnr_equals_scikit_image() -> None:
    noisy, clear = pair()

    assert psnr(noisy, clear, data_range=255) == pytest.approx(
        peak_signal_noise_ratio(clear, noisy, data_range=255), abs=1e-9
    )


def test_ssim_equals_scikit_image() -> None:
    noisy, clear = pair()

    assert ssim(noisy, clear, data_range=255) == pytest.approx(skimage_ssim(noisy, clear), abs=1e-9)


def test_numbers_of_a_valid_rectangle_equal_those_of_its_crop() -> None:
    noisy, clear = pair()
    valid = np.zeros(clear.shape[1:], bool)
    valid[10:50, 20:90] = True
    crop = (slice(None), slice(10, 50), slice(20, 90))

    for metric in (psnr, ssim):
        assert metric(noisy, clear, data_range=255, valid=valid) == pytest.approx(
            metric(noisy[crop], clear[crop], data_range=255), abs=1e-9
        )
    assert ciede2000(noisy, clear, valid=valid) == pytest.approx(
        ciede2000(noisy[crop], clear[crop])
    )
    assert rms_change(noisy, clear, valid=valid) == pytest.approx(
        rms_change(noisy[crop], clear[crop])
    )


def test_equal_nodata_does_not_inflate_psnr() -> None:
    noisy, clear = pair()
    valid = np.ones(clear.shape[1:], bool)
    valid[: clear.shape[1] // 2] = False
    noisy[:, ~valid] = clear[:, ~valid] = 0

    masked = psnr(noisy, clear, data_range=255, valid=valid)

    assert psnr(noisy, clear, data_range=255) == pytest.approx(masked + 10 * math.log10(2))


def test_what_lies_under_invalid_pixels_has_no_influence() -> None:
    noisy, clear = (image.astype(np.float32) for image in pair())
    valid = np.ones(clear.shape[1:], bool)
    valid[30:34, 40:44] = False
    spoiled = noisy.copy()
    spoiled[:, ~valid] = np.nan

    for metric in (psnr, ssim):
        expected = metric(noisy, clear, data_range=255, valid=valid)
        assert metric(spoiled, clear, data_range=255, valid=valid) == expected


def test_ssim_drops_every_window_that_touches_an_invalid_pixel() -> None:
    noisy, clear = pair()
    valid = np.ones(clear.shape[1:], bool)
    valid[:, 50] = False
    left, right = (
        (slice(None), slice(None), slice(0, 50)),
        (slice(None), slice(None), slice(51, None)),
    )
    windows = [50 - 10, 49 - 10]

    expected = np.average(
        [skimage_ssim(noisy[part], clear[part]) for part in (left, right)], weights=windows
    )

    assert ssim(noisy, clear, data_range=255, valid=valid) == pytest.approx(expected, abs=1e-9)


def test_ssim_without_any_whole_window_is_not_a_number() -> None:
    noisy, clear = pair()
    valid = np.zeros(clear.shape[1:], bool)
    valid[:10] = True

    assert math.isnan(ssim(noisy, clear, data_range=255, valid=valid))


def test_psnr_without_valid_pixels_is_not_a_number() -> None:
    noisy, clear = pair()

    assert math.isnan(psnr(noisy, clear, data_range=255, valid=np.zeros(clear.shape[1:], bool)))


def test_identical_images_have_infinite_psnr() -> None:
    _, clear = pair()

    assert psnr(clear, clear, data_range=255) == math.inf
    assert ssim(clear, clear, data_range=255) == pytest.approx(1)
    assert ciede2000(clear, clear) == pytest.approx(0)


def test_data_range_counts_and_is_never_guessed() -> None:
    noisy, clear = pair()
    as_16_bit = [image.astype(np.uint16) * 39 for image in (noisy, clear)]

    assert psnr(*as_16_bit, data_range=255 * 39) == pytest.approx(
        psnr(noisy, clear, data_range=255)
    )
    assert psnr(*as_16_bit, data_range=65_535) > psnr(*as_16_bit, data_range=255 * 39) + 16


@pytest.mark.parametrize("data_range", [0, -1, math.nan, math.inf])
def test_a_data_range_that_is_no_positive_number_is_refused(data_range: float) -> None:
    noisy, clear = pair()

    with pytest.raises(SettingsError, match="data range"):
        psnr(noisy, clear, data_range=data_range)


def test_values_beyond_the_range_are_not_clipped_before_scoring() -> None:
    reference = np.full((1, 20, 20), 1.0)

    assert psnr(reference + 0.5, reference, data_range=1) == pytest.approx(20 * math.log10(2))


def test_unsigned_images_do_not_wrap_around() -> None:
    dark, bright = np.zeros((1, 12, 12), np.uint8), np.full((1, 12, 12), 200, np.uint8)

    assert rms_change(bright, dark) == rms_change(dark, bright) == 200


def test_pooled_tiles_give_the_psnr_of_the_whole_and_their_mean_does_not() -> None:
    noisy, clear = pair(height=70, width=101)
    noisy[:, :30] = clear[:, :30] // 2
    tiles = [
        (slice(None), slice(top, top + 33), slice(left, left + 33))
        for top in range(0, 70, 33)
        for left in range(0, 101, 33)
    ]
    parts = [ErrorSums.between(noisy[tile], clear[tile]) for tile in tiles]

    whole = psnr(noisy, clear, data_range=255)

    assert sum(parts, ErrorSums()).psnr(255) == pytest.approx(whole, abs=1e-9)
    assert abs(np.mean([part.psnr(255) for part in parts]) - whole) > 0.5


def test_rounding_to_8_bits_alone_costs_59_db() -> None:
    values = np.random.default_rng(0).uniform(0, 255, (3, 200, 200))

    assert psnr(np.rint(values), values, data_range=255) == pytest.approx(58.9, abs=0.1)


def test_images_of_different_shape_are_refused() -> None:
    noisy, clear = pair()

    with pytest.raises(InputError, match="shapes"):
        psnr(noisy[:, 1:], clear, data_range=255)
    with pytest.raises(InputError, match="mask"):
        psnr(noisy, clear, data_range=255, valid=np.ones((3, 3), bool))


def test_ssim_of_an_image_smaller_than_its_window_is_refused() -> None:
    noisy, clear = pair(height=10)

    with pytest.raises(InputError, match="11 x 11"):
        ssim(noisy, clear, data_range=255)


def test_ciede2000_of_known_colours() -> None:
    # White against black is 100 by construction; red against green is published as 86.6.
    black, white = np.zeros((3, 4, 4), np.uint8), np.full((3, 4, 4), 255, np.uint8)
    red, green = black.copy(), black.copy()
    red[0], green[1] = 255, 255

    assert ciede2000(white, black) == pytest.approx(100, abs=0.01)
    assert ciede2000(red, green) == pytest.approx(86.6, abs=0.1)


@pytest.mark.parametrize("height", [255, 256, 257, 265, 266, 267, 600])
def test_strips_do_not_change_the_numbers(height: int) -> None:
    noisy, clear = pair(height=height, width=20, bands=1)

    assert ssim(noisy, clear, data_range=255) == pytest.approx(skimage_ssim(noisy, clear), abs=1e-9)
    assert psnr(noisy, clear, data_range=255) == pytest.approx(
        peak_signal_noise_ratio(clear, noisy, data_range=255), abs=1e-9
    )


def test_ciede2000_does_not_depend_on_where_its_strips_end() -> None:
    noisy, clear = pair(height=600, width=20)

    halves = [
        ciede2000(noisy[:, rows], clear[:, rows]) for rows in (slice(0, 300), slice(300, 600))
    ]

    assert ciede2000(noisy, clear) == pytest.approx(np.mean(halves))


def test_ciede2000_needs_exactly_red_green_and_blue() -> None:
    noisy, clear = pair(bands=4)

    with pytest.raises(InputError, match="three bands"):
        ciede2000(noisy, clear)


def test_spectral_angle_of_known_vectors() -> None:
    red, yellow = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
    red[0], yellow[:2] = 1, 1

    assert spectral_angle(red, yellow) == pytest.approx(45)
    assert spectral_angle(red, 7 * red) == pytest.approx(0, abs=1e-5)


def test_spectral_angle_leaves_out_zero_vectors_and_invalid_pixels() -> None:
    first, second = np.ones((3, 2, 3)), np.ones((3, 2, 3))
    first[:, 0, 0] = 0  # no direction on one side
    second[:, 0, 1] = 0
    second[:2, 0, 2] = 0  # 54.7 degrees, but invalid
    second[0, 1, 0] = 0  # the one that counts, among three
    valid = np.ones((2, 3), bool)
    valid[0, 2] = False

    expected = math.degrees(math.acos(2 / math.sqrt(6))) / 3

    assert spectral_angle(first, second, valid=valid) == pytest.approx(expected, abs=1e-5)
    assert math.isnan(spectral_angle(np.zeros((3, 2, 2)), np.ones((3, 2, 2))))


def test_spectral_angle_of_bytes_does_not_overflow() -> None:
    noisy, clear = pair(height=300)

    assert spectral_angle(noisy, clear) == pytest.approx(
        spectral_angle(noisy.astype(float), clear.astype(float))
    )
