# SPDX-License-Identifier: GPL-3.0-or-later
"""Training data: repeatable, split by site, and true to the physics."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from dehaze_core.errors import InputError
from dehaze_core.haze.layers import correct
from dehaze_core.scene.srgb import srgb_decode, srgb_encode
from dehaze_core.training.augment import (
    as_pale_ground,
    with_flat_ground,
    without_residual_haze,
)
from dehaze_core.training.batches import HazyBatches, StepSampler
from dehaze_core.training.imagery import ImagePool, load_images, load_textures
from dehaze_core.training.rasters import ClearRaster


@pytest.fixture
def pool() -> ImagePool:
    rng = np.random.default_rng(0)
    small = [rng.integers(20, 200, (256, 256, 3), dtype=np.uint8) for _ in range(4)]
    large = [rng.integers(20, 200, (700, 600, 3), dtype=np.uint8)]
    return ImagePool({"a": small, "b": large})


def test_the_same_step_gives_the_same_batch(pool: ImagePool) -> None:
    first, second = HazyBatches(pool, [], seed=3)[7], HazyBatches(pool, [], seed=3)[7]

    assert torch.equal(first.hazy, second.hazy)
    assert torch.equal(first.thickness, second.thickness)
    assert not torch.equal(first.hazy[0], HazyBatches(pool, [], seed=4)[7].hazy[0])


def test_batches_hold_about_the_same_number_of_pixels(pool: ImagePool) -> None:
    batches = HazyBatches(pool, [], seed=1)

    sizes = {batches[step].hazy[:, 0].numel() for step in range(14)}

    assert sizes <= {8 * 256**2, 2 * 512**2, 1024**2}
    assert len(sizes) > 1


@pytest.mark.parametrize("level", ["L1", "L2", "L3"])
def test_the_truth_of_a_sample_restores_it(pool: ImagePool, level: str) -> None:
    batches = HazyBatches(pool, [], seed=1)
    for seed in range(4):
        sample = batches.sample(np.random.default_rng(seed), 256, level)
        tau = torch.nn.functional.interpolate(sample.thickness, scale_factor=4, mode="bilinear")
        air = torch.nn.functional.interpolate(sample.airlight, scale_factor=4, mode="bilinear")

        linear = correct(srgb_decode(sample.hazy.float() / 255), tau, air, 1.0)

        error = srgb_encode(linear.clamp(0, 1)) - sample.clear.float() / 255
        assert float(error.abs().median()) < 0.02


def test_level_zero_is_clear(pool: ImagePool) -> None:
    sample = HazyBatches(pool, [], seed=1).sample(np.random.default_rng(1), 256, "L0")

    assert not sample.thickness.any()
    assert float((sample.hazy.float() - sample.clear.float()).abs().mean()) < 2


@pytest.mark.parametrize("size", [1024, 608])
def test_large_crops_come_from_large_images_or_collages_without_gaps(size: int) -> None:
    rng = np.random.default_rng(0)
    small, large = (
        rng.integers(100, 140, (*shape, 3), dtype=np.uint8) for shape in ((256, 256), (700, 600))
    )
    pool = ImagePool({"a": [small], "b": [large]})

    for seed in range(6):
        crop = pool.crop(np.random.default_rng(seed), size)
        assert crop.shape == (size, size, 3)
        # Bicubic interpolation may leave the range a little.
        assert 80 < crop.min() <= crop.max() < 160


def test_images_too_small_to_cut_from_are_passed_over_however_often() -> None:
    # A picture of many pixels, and so drawn nearly always, that takes no memory.
    narrow = np.broadcast_to(np.zeros(3, np.uint8), (100, 10**9, 3))
    pool = ImagePool({"a": [narrow], "b": [np.full((171, 171, 3), 50, np.uint8)]})

    assert all(pool.crop(np.random.default_rng(seed), 256).min() == 50 for seed in range(3))


def test_a_pool_of_small_images_is_refused() -> None:
    with pytest.raises(InputError, match="170 px, expected 171 px") as caught:
        ImagePool({"a": [np.zeros((170, 300, 3), np.uint8)]})
    assert caught.value.code == "INPUT_SIZE"


def test_sampler_goes_on_where_it_is_told_to() -> None:
    assert list(islice(StepSampler(5), 3)) == [5, 6, 7]


def test_sites_are_never_split(tmp_path: Path) -> None:
    rows = []
    for site in range(12):
        for number in range(3):
            name = f"s{site}_{number}.png"
            Image.fromarray(np.full((171, 171, 3), site, np.uint8)).save(tmp_path / name)
            rows.append({"path": name, "site": f"site {site}"})
    with (tmp_path / "MANIFEST.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, ["path", "site"])
        writer.writeheader()
        writer.writerows(rows)

    train, validation = load_images(tmp_path, held_out=0.2)

    assert not set(train.sites) & set(validation.sites)
    assert len(train) + len(validation) == 36
    assert 0.2 * 36 <= len(validation) < 0.4 * 36


def site_of_one_picture(folder: Path, name: str, side: int = 200) -> None:
    (folder / name).mkdir()
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(folder / name / "clear.png")


def test_whole_sites_are_held_out_however_few_there_are(tmp_path: Path) -> None:
    for name in ("north", "south"):
        site_of_one_picture(tmp_path, name)

    train, validation = load_images(tmp_path)

    assert {*train.sites, *validation.sites} == {"north", "south"}
    assert len(train) == len(validation) == 1


def test_images_of_one_site_are_refused(tmp_path: Path) -> None:
    site_of_one_picture(tmp_path, "north")

    with pytest.raises(InputError, match=r"'north'.*MANIFEST\.csv") as caught:
        load_images(tmp_path)
    assert caught.value.code == "INPUT_SITES"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(64), None])
def test_a_damaged_picture_is_named(tmp_path: Path, content: bytes | None) -> None:
    for name in ("north", "south"):
        site_of_one_picture(tmp_path, name)
    path = tmp_path / "south" / "clear.png"
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)

    with pytest.raises(InputError, match=r"south.clear\.png") as caught:
        load_images(tmp_path)
    assert caught.value.code == "INPUT_CORRUPT"


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rasters_are_read_in_windows_without_nodata(
    make_raster: Callable[..., Path], dtype: str
) -> None:
    top = 250 if dtype == "uint8" else 9000
    data = np.random.default_rng(5).integers(1, top, (4, 700, 600)).astype(dtype)
    data[:, :, :150] = 0
    path = make_raster(data=data, nodata=0)
    site_of_one_picture(path.parent, "elsewhere")

    pools = load_images(path.parent)

    (pool,) = (pool for pool in pools if path.parent.name in pool.sites)
    (raster,) = pool.sites[path.parent.name]
    assert raster.shape == (700, 600, 3)
    for seed in range(6):
        crop = pool.crop(np.random.default_rng(seed), 256)
        assert crop.shape == (256, 256, 3)
        assert np.median(crop) > 60
        assert (crop == 0).all(axis=2).mean() < 0.01


def test_rasters_are_open_only_while_they_are_read(make_raster: Callable[..., Path]) -> None:
    raster = ClearRaster(make_raster(height=300, width=300))

    pixels, window = raster.window(np.random.default_rng(1), 256)

    assert str(raster.path) not in [file.path for file in psutil.Process().open_files()]
    again, same = raster.window(np.random.default_rng(1), 256)
    assert np.array_equal(pixels, again)
    assert (window.height, window.width) == (256, 256)
    assert same == window


def test_a_raster_of_nodata_is_refused(make_raster: Callable[..., Path]) -> None:
    path = make_raster(data=np.zeros((3, 300, 300), np.uint8), nodata=0)
    site_of_one_picture(path.parent, "elsewhere")

    with pytest.raises(InputError) as caught:
        load_images(path.parent)
    assert caught.value.code == "INPUT_NODATA"


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_images(tmp_path)
    assert caught.value.code == "INPUT_EMPTY"


def test_textures_are_stretched_to_unit_range(tmp_path: Path) -> None:
    values = np.linspace(5000, 9000, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "b9.png")

    (texture,) = load_textures(tmp_path)

    assert texture.shape == (32, 32)
    assert texture.min() == 0.0
    assert texture.max() == 1.0


def test_zero_in_a_texture_is_no_haze_unless_the_file_says_otherwise(
    tmp_path: Path, make_raster: Callable[..., Path]
) -> None:
    values = np.linspace(100, 200, 64 * 64).reshape(1, 64, 64).astype(np.uint8)
    values[:, :32] = 0
    (tmp_path / "textures").mkdir()
    plain = make_raster("textures/plain.tif", data=values)
    make_raster("textures/tagged.tif", data=values, nodata=0)

    first, second = load_textures(plain.parent)

    assert first[16:].min() > 0.6
    assert second[16:].min() < 0.1


@pytest.mark.parametrize("constant", [True, False])
def test_an_unusable_texture_is_named(tmp_path: Path, constant: bool) -> None:
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(tmp_path / "b9.png")
    if not constant:
        (tmp_path / "b9.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    with pytest.raises(InputError, match=r"b9\.png") as caught:
        load_textures(tmp_path)
    assert caught.value.code == ("INPUT_TEXTURE" if constant else "INPUT_UNREADABLE")


def test_a_residual_veil_is_taken_off_clear_pictures() -> None:
    rng = np.random.default_rng(0)
    ground = rng.uniform(0.0, 0.5, (3, 64, 64)).astype(np.float32)

    drawn = [without_residual_haze(rng, ground * 0.98 + 0.02) for _ in range(20)]

    darkest = np.array([np.percentile(picture, 0.5) for picture in drawn])
    assert (darkest < 0.004).sum() > 5
    assert darkest.max() < 0.025


def test_bright_ground_is_not_taken_for_a_veil() -> None:
    bright = np.full((3, 64, 64), 0.6, np.float32)

    assert without_residual_haze(np.random.default_rng(1), bright).min() > 0.58


def test_pale_ground_is_warm_and_in_range() -> None:
    picture = np.random.default_rng(2).uniform(0.0, 1.0, (3, 64, 64)).astype(np.float32)

    red, green, blue = (
        np.mean([as_pale_ground(np.random.default_rng(s), picture)[band] for s in range(9)])
        for band in range(3)
    )

    assert 0 < blue < green < red


def test_flat_ground_covers_a_part_and_is_nearly_uniform() -> None:
    picture = np.random.default_rng(3).uniform(0.0, 1.0, (3, 128, 128)).astype(np.float32)

    drawn = [with_flat_ground(np.random.default_rng(seed), picture) for seed in range(12)]

    changed = [(result != picture).any(axis=0).mean() for result in drawn]
    assert 0.2 < np.mean(changed) < 0.95
    assert all(result.min() >= 0.0 and result.max() <= 1.0 for result in drawn)
