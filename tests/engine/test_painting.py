# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that paint pixels run on any raster, and still leave haze layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from dehaze_core.engine.in_memory import restore_array
from dehaze_core.haze.bands import BAND_WAVELENGTHS
from dehaze_core.haze.physics import REFERENCE_WAVELENGTH, RGB_WAVELENGTHS
from dehaze_core.models import load_model, save_model
from dehaze_core.models.streaming import PaintedImage, StreamedNetwork
from dehaze_core.scene.srgb import encode_uint8
from tests.engine.painters import AIRLIGHT, ALPHA, THICKNESS, KnownHaze, tiny_dehazexl, whole
from tests.engine.test_resume import Interrupter, Interruption, read, start

MakeRaster = Callable[..., Path]
Use = Callable[[StreamedNetwork], None]


def dehaze(source: Path, out: Path, **settings: object) -> NDArray[np.generic]:
    start(source, out, **settings)
    return read(out)


def scene_of(shape: tuple[int, int], bands: tuple[str, ...], seed: int = 4) -> NDArray[np.float32]:
    """Return a clear picture in linear light with as many bands as names."""
    generator = np.random.default_rng(seed)
    return generator.uniform(0.02, 0.4, (len(bands), *shape)).astype(np.float32)


def under_known_haze(clear: NDArray[np.float32], bands: tuple[str, ...]) -> NDArray[np.float32]:
    ratio = [(BAND_WAVELENGTHS[name] / REFERENCE_WAVELENGTH) ** -ALPHA for name in bands]
    t = np.exp(-THICKNESS * np.array(ratio, np.float32))[:, None, None]
    hazy: NDArray[np.float32] = (clear * t + AIRLIGHT * (1 - t)).astype(np.float32)
    return hazy


def colour(path: Path, bands: tuple[str, ...]) -> None:
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = [rasterio.enums.ColorInterp[name] for name in bands]
        # Light itself, so that the scale of the scene is not guessed.
        raster.scales, raster.offsets = [0.999] * len(bands), [0.0] * len(bands)


@pytest.mark.parametrize(("overlap", "blocks"), [(False, (256, 512, 1000)), (True, (256,))])
def test_streamed_equals_whole(
    make_raster: MakeRaster,
    tmp_path: Path,
    hazy: NDArray[np.float32],
    use: Use,
    overlap: bool,
    blocks: tuple[int, ...],
) -> None:
    source = make_raster(data=hazy)
    network = tiny_dehazexl(overlap=overlap)
    use(network)
    expected = whole(source, network)

    for block in blocks:
        streamed = dehaze(source, tmp_path / f"{block}.tif", block_size=block)
        assert np.abs(streamed - expected).max() <= 1e-5
    assert np.abs(expected - hazy).max() > 0.05


def test_a_larger_8_bit_raster_is_painted_as_in_one_piece(
    make_raster: MakeRaster, tmp_path: Path, use: Use
) -> None:
    picture = np.random.default_rng(5).integers(1, 255, (3, 700, 1300), np.uint8)
    source = make_raster(data=picture)
    network = tiny_dehazexl()
    use(network)

    streamed = dehaze(source, tmp_path / "out.tif", block_size=512)

    expected = np.clip(np.round(whole(source, network)), 0, 255)
    assert np.abs(streamed.astype(float) - expected).max() <= 1


def test_a_picture_is_painted_as_a_raster_is(
    make_raster: MakeRaster, tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.random.default_rng(6).integers(1, 255, (3, 280, 300), np.uint8)
    source = make_raster(data=picture)
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))
    save_model(tiny_dehazexl(), "painted-as-a-raster", tmp_path, {})
    use(load_model("painted-as-a-raster").network)

    whole = restore_array(picture.transpose(1, 2, 0), "painted-as-a-raster")

    streamed = dehaze(source, tmp_path / "out.tif").astype(int)
    assert np.abs(streamed - whole.transpose(2, 0, 1)).max() <= 1


def test_haze_is_fitted_to_what_was_painted(
    make_raster: MakeRaster, tmp_path: Path, use: Use
) -> None:
    bands = ("red", "green", "blue", "nir")
    clear = scene_of((300, 420), bands)
    source = make_raster(data=under_known_haze(clear, bands))
    colour(source, bands)
    use(KnownHaze())

    report = start(source, tmp_path / "out.tif", thickness=str(tmp_path / "haze.tif"))

    assert read(tmp_path / "haze.tif") == pytest.approx(THICKNESS, abs=0.02)
    assert report.mean_thickness == pytest.approx(THICKNESS, abs=0.01)
    # The network was shown no near infrared.
    assert np.abs(read(tmp_path / "out.tif") - clear).max() < 0.02


def test_block_size_changes_no_haze_layer(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32], use: Use
) -> None:
    source = make_raster(data=np.concatenate((hazy, hazy[:1])))
    colour(source, ("red", "green", "blue", "nir"))
    results = []
    for block in (256, 1024):
        use(tiny_dehazexl())
        layer = tmp_path / f"haze{block}.tif"
        pixels = dehaze(source, tmp_path / f"{block}.tif", block_size=block, thickness=str(layer))
        results.append(np.concatenate((pixels, read(layer))))

    assert np.abs(results[0] - results[1]).max() <= 1e-4
    assert results[0][4].max() > 0.01


def test_one_band_is_the_mean_of_three_painted(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32], use: Use
) -> None:
    grey = encode_uint8(hazy)[:1, :260, :300]
    source = make_raster("pan.tif", data=grey)
    three = make_raster("three.tif", data=grey.repeat(3, axis=0))
    network = tiny_dehazexl()
    use(network)

    result = dehaze(source, tmp_path / "out.tif", thickness=str(tmp_path / "haze.tif"))

    assert result.shape == grey.shape
    # The mean of display values.
    expected = whole(three, network).clip(0, 255).mean(axis=0)
    assert np.abs(result[0] - expected).max() <= 1
    assert np.isfinite(read(tmp_path / "haze.tif")).all()


def test_nodata_of_16_bit_stays_and_never_appears_elsewhere(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32], use: Use
) -> None:
    data = np.clip(hazy[:, :300, :420] * 9000, 1, None).astype(np.uint16)
    missing = np.add.outer(np.arange(300), np.arange(420)) < 200
    data[:, missing] = 0
    source = make_raster(data=data, nodata=0)
    use(tiny_dehazexl())

    result = dehaze(source, tmp_path / "out.tif", thickness=str(tmp_path / "haze.tif"))

    assert np.array_equal(result == 0, np.broadcast_to(missing, data.shape))
    assert (result[:, ~missing] != data[:, ~missing]).mean() > 0.5
    assert np.array_equal(np.isnan(read(tmp_path / "haze.tif")[0]), missing)


def test_light_beyond_display_white_is_kept(
    make_raster: MakeRaster, tmp_path: Path, use: Use
) -> None:
    bands = ("red", "green", "blue")
    clear = scene_of((256, 256), bands)
    hazy = under_known_haze(clear, bands)
    hazy[:, 100, 100] = 1.4
    source = make_raster(data=hazy)
    colour(source, bands)
    use(KnownHaze())

    assert (dehaze(source, tmp_path / "out.tif")[:, 100, 100] > 1.3).all()


def test_strength_zero_returns_the_input(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32], use: Use
) -> None:
    picture = encode_uint8(hazy)[:, :128, :300]
    source = make_raster(data=picture)
    use(tiny_dehazexl())

    assert np.array_equal(dehaze(source, tmp_path / "out.tif", strength=0.0), picture)


@pytest.mark.parametrize("fraction", [0.33, 0.6, 0.9])
def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    make_raster: MakeRaster,
    tmp_path: Path,
    hazy: NDArray[np.float32],
    use: Use,
    fraction: float,
) -> None:
    source = make_raster(data=encode_uint8(np.concatenate((hazy, hazy[:1])))[:, :, :520])
    colour(source, ("red", "green", "blue", "nir"))
    use(tiny_dehazexl())
    out, layer = tmp_path / "out.tif", tmp_path / "haze.tif"
    unbroken = start(source, tmp_path / "unbroken.tif", thickness=str(tmp_path / "layer.tif"))

    with pytest.raises(Interruption):
        start(source, out, Interrupter(fraction), thickness=str(layer))
    assert not out.exists()
    report = start(source, out, thickness=str(layer))

    assert np.array_equal(read(out), read(tmp_path / "unbroken.tif"))
    assert np.array_equal(read(layer), read(tmp_path / "layer.tif"))
    assert (report.resumed_blocks > 0) == (fraction > 0.5)
    assert report.mean_thickness == unbroken.mean_thickness
    assert not list(tmp_path.glob(".*"))


def test_another_context_is_another_run(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32], use: Use
) -> None:
    source = make_raster(data=encode_uint8(hazy)[:, :256, :520])
    use(tiny_dehazexl())
    out = tmp_path / "out.tif"
    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.8))

    report = start(source, out, context="hyper")

    assert report.context == "hyper"
    assert report.resumed_blocks == 0
    with rasterio.open(out) as raster:
        assert raster.tags()["DEHAZE_CONTEXT"] == "hyper"


def test_the_same_weights_in_another_network_are_another_run(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32], use: Use
) -> None:
    source = make_raster(data=encode_uint8(hazy)[:, :256, :520])
    use(tiny_dehazexl())
    with pytest.raises(Interruption):
        start(source, tmp_path / "out.tif", Interrupter(0.8))

    use(tiny_dehazexl(overlap=True))
    report = start(source, tmp_path / "out.tif")

    assert report.resumed_blocks == 0


def test_pixels_the_network_fails_at_stay_as_they_are(
    make_raster: MakeRaster,
    tmp_path: Path,
    hazy: NDArray[np.float32],
    use: Use,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = encode_uint8(hazy)[:, :256, :300]
    source = make_raster(data=picture)
    estimate = KnownHaze.estimate

    def with_gap(self: KnownHaze, *args: torch.Tensor) -> PaintedImage:
        clear = estimate(self, *args).clear.clone()  # type: ignore[arg-type]
        clear[:, 1, 40:50, 60:70] = torch.nan
        return PaintedImage(clear)

    monkeypatch.setattr(KnownHaze, "estimate", with_gap)
    use(KnownHaze())

    result = dehaze(source, tmp_path / "out.tif", block_size=512)

    assert np.array_equal(result[:, 40:50, 60:70], picture[:, 40:50, 60:70])
    assert (result[:, :30] != picture[:, :30]).mean() > 0.5


def test_wavelengths_of_painted_bands_are_those_of_the_fit() -> None:
    named = tuple(BAND_WAVELENGTHS[name] for name in ("red", "green", "blue"))

    assert named == RGB_WAVELENGTHS
