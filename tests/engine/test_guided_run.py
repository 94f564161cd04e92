# SPDX-License-Identifier: GPL-3.0-or-later
"""Guided runs: the mask of every block is that of the raster, whatever guides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.transform import from_origin

from dehaze_core.engine import RunSettings, make_plan, plan, runner
from dehaze_core.engine.device import choose_device
from dehaze_core.engine.in_memory import restore_array
from dehaze_core.engine.preflight import describe
from dehaze_core.engine.segments import guidance
from dehaze_core.engine.segments.mask_cache import MaskCache
from dehaze_core.engine.segments.picture_guide import segment_codes
from dehaze_core.errors import DehazeError, InputError, SettingsError
from dehaze_core.models import Model, load_model
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.scene import Radiometry, open_scene
from dehaze_core.scene.srgb import srgb_decode
from tests.engine.guided import bright_scene, restored, tiny_guided, tiny_guided_student
from tests.engine.painters import as_model, tiny_student
from tests.engine.segmenters import ByColour, fields
from tests.engine.test_resume import Interrupter, Interruption, Listener, read, start

MakeRaster = Callable[..., Path]
Use = Callable[[StreamedNetwork], None]

HEIGHT, WIDTH = 100, 160
CELL = 30
"""Side of a mask's pixel, in pixels of the raster."""

FIELDS = np.maximum(fields(HEIGHT, WIDTH), 90)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Let the next runs use a network for the model `guided`; other names mean what they do."""

    def use(network: StreamedNetwork) -> None:
        def load(name: str) -> Model:
            return as_model(network) if name == "guided" else load_model(name)

        monkeypatch.setattr(runner, "load_model", load)
        monkeypatch.setattr(plan, "load_model", load)

    return use


@pytest.fixture
def segmenter(monkeypatch: pytest.MonkeyPatch) -> ByColour:
    """Let every segmenter find segments by colour."""
    found = ByColour()
    monkeypatch.setattr(guidance, "find_segmenter", lambda name, device: found)
    return found


@pytest.fixture
def source(make_raster: MakeRaster) -> Path:
    """A bright float raster of 100 x 160 px."""
    picture = torch.from_numpy(bright_scene(HEIGHT, WIDTH)).float() / 255
    return make_raster(data=srgb_decode(picture).numpy())


@pytest.fixture
def flat(make_raster: MakeRaster) -> Path:
    """A bright 8-bit raster of three fields."""
    return make_raster("flat.tif", data=FIELDS)


def mask_codes(seed: int = 3) -> NDArray[np.uint8]:
    """Return random codes, (1, 3, 5), that lie over the raster but for its right and lower end."""
    return np.random.default_rng(seed).integers(1, 256, (1, 3, 5)).astype(np.uint8)


def spread(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the guide that `mask_codes` are for every pixel of the raster."""
    guide = np.zeros((HEIGHT, WIDTH), np.float32)
    over = codes[0].repeat(CELL, axis=0).repeat(CELL, axis=1)
    guide[: over.shape[0], : over.shape[1]] = over / np.float32(255)
    return guide


@pytest.fixture
def mask(make_raster: MakeRaster) -> Path:
    place = from_origin(500_000, 5_400_000, 10 * CELL, 10 * CELL)
    return make_raster("mask.tif", data=mask_codes(), transform=place)


def guided(source: Path, out: Path, *progress: object, **settings: object) -> NDArray[np.generic]:
    start(source, out, *progress, model="guided", **settings)  # type: ignore[arg-type]
    return read(out)


@pytest.mark.parametrize("make", [tiny_guided, tiny_guided_student])
def test_streamed_equals_whole_whatever_the_blocks(
    source: Path,
    mask: Path,
    tmp_path: Path,
    use: Use,
    make: Callable[[], StreamedNetwork],
) -> None:
    network = make()
    use(network)
    expected = restored(source, network, spread(mask_codes()))

    for block in (64, 96, 1000):
        found = guided(source, tmp_path / f"{block}.tif", mask=str(mask), block_size=block)
        assert np.abs(found - expected).max() <= 1e-5

    without = restored(source, network, np.zeros((HEIGHT, WIDTH)))
    other = restored(source, network, spread(mask_codes(seed=4)))
    assert np.abs(expected - without).max() > 0.01
    assert np.abs(expected - other).max() > 0.01


def test_8_bit_equals_the_picture_restored_in_one_piece(
    make_raster: MakeRaster, mask: Path, tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, picture = tiny_guided(), bright_scene(HEIGHT, WIDTH)
    use(network)
    monkeypatch.setattr("dehaze_core.engine.in_memory._network", lambda name: network)
    codes = (spread(mask_codes()) * 255).round().astype(np.uint8)

    found = guided(make_raster(data=picture), tmp_path / "out.tif", mask=str(mask), block_size=64)

    image = picture.transpose(1, 2, 0)
    expected = restore_array(image, "guided", guide=codes).transpose(2, 0, 1).astype(int)
    assert np.abs(found - expected).max() <= 1
    empty = restore_array(image, "guided").transpose(2, 0, 1)
    assert np.abs(empty - expected).max() > 3


def test_a_mask_says_nothing_of_pixels_without_data(
    make_raster: MakeRaster, mask: Path, tmp_path: Path, use: Use
) -> None:
    valid = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) > 100
    source = make_raster(data=bright_scene(HEIGHT, WIDTH), valid=valid)
    use(tiny_guided())
    spoiled = mask_codes()
    spoiled[0, 0, 0] ^= 255  # wholly without data
    place = from_origin(500_000, 5_400_000, 10 * CELL, 10 * CELL)
    other = make_raster("other.tif", data=spoiled, transform=place)

    results = [guided(source, tmp_path / f"{m.stem}_out.tif", mask=str(m)) for m in (mask, other)]

    assert np.array_equal(*results)


def test_gray_guides_as_the_mean_of_the_bands(source: Path, tmp_path: Path, use: Use) -> None:
    network = tiny_guided()
    use(network)

    found = guided(source, tmp_path / "out.tif", structure="haze_gray", block_size=96)

    with open_scene(str(source)) as scene:
        radiometry = Radiometry.for_scene(scene, (0, 1, 2))
    gray = radiometry.display(torch.from_numpy(read(source))).mean(0).numpy()
    assert np.abs(found - restored(source, network, gray)).max() <= 1e-5


def test_an_interrupted_run_goes_on_and_another_mask_starts_over(
    source: Path, mask: Path, tmp_path: Path, use: Use
) -> None:
    use(tiny_guided())
    unbroken = guided(source, tmp_path / "unbroken.tif", mask=str(mask), block_size=64)
    out, listener = tmp_path / "out.tif", Listener()
    settings = {"model": "guided", "mask": str(mask), "block_size": 64}

    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.6), **settings)
    assert start(source, out, **settings).resumed_blocks > 0
    assert np.array_equal(read(out), unbroken)

    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.6), **settings)
    with rasterio.open(mask, "r+") as raster:
        raster.write(mask_codes(seed=9))
    report = start(source, out, listener, **settings)

    assert report.resumed_blocks == 0
    assert any("differs in guide" in warning for warning in listener.warnings)
    assert not np.array_equal(read(out), unbroken)


def test_a_mask_that_changes_during_the_run_is_noticed(
    source: Path, mask: Path, tmp_path: Path, use: Use
) -> None:
    class Changes(Listener):
        def update(self, fraction: float, text: str) -> None:
            if text == "Removing haze":
                with rasterio.open(mask, "r+") as raster:
                    raster.write(mask_codes(seed=9))

    use(tiny_guided())

    with pytest.raises(InputError, match=r"mask\.tif was changed") as refused:
        guided(source, tmp_path / "out.tif", Changes(), mask=str(mask))

    assert refused.value.code == "INPUT_CHANGED"
    assert not (tmp_path / "out.tif").exists()


def test_segments_of_the_raster_guide_where_no_mask_is_given(
    flat: Path, make_raster: MakeRaster, tmp_path: Path, use: Use, segmenter: ByColour
) -> None:
    use(tiny_guided())

    found = guided(flat, tmp_path / "out.tif", segmenter="slic", block_size=64)

    codes = segment_codes(FIELDS.transpose(1, 2, 0), ByColour())
    mask = make_raster("mask.tif", data=codes[None])
    assert len(np.unique(codes)) == 3
    assert np.array_equal(found, guided(flat, tmp_path / "given.tif", mask=str(mask)))
    assert len(segmenter.pictures) == 1


def test_a_resumed_run_keeps_its_segments(
    flat: Path, tmp_path: Path, use: Use, segmenter: ByColour
) -> None:
    use(tiny_guided())
    unbroken = guided(flat, tmp_path / "unbroken.tif", block_size=64)
    segmenter.pictures.clear()
    settings = {"model": "guided", "block_size": 64}
    MaskCache.of_user().clear()
    with pytest.raises(Interruption):
        start(flat, tmp_path / "out.tif", Interrupter(0.7), **settings)
    MaskCache.of_user().clear()

    report = start(flat, tmp_path / "out.tif", **settings)

    assert report.resumed_blocks > 0
    assert len(segmenter.pictures) == 1
    assert np.array_equal(read(tmp_path / "out.tif"), unbroken)


def test_dehazed_segments_are_those_of_the_picture_without_haze(
    make_raster: MakeRaster, tmp_path: Path, use: Use, segmenter: ByColour
) -> None:
    valid = np.ones((HEIGHT, WIDTH), np.bool_)
    valid[:20] = False
    source = make_raster(data=FIELDS, valid=valid)
    use(tiny_guided())

    guided(source, tmp_path / "out.tif", structure="dehaze_mask", block_size=96)

    start(source, tmp_path / "first.tif", model="dehazexl-lite")
    (seen,) = segmenter.pictures
    first = read(tmp_path / "first.tif")
    assert np.array_equal(seen.transpose(2, 0, 1)[:, valid], first[:, valid])
    assert not np.array_equal(first[:, valid], FIELDS[:, valid])
    assert not list(tmp_path.glob(".*"))


def test_progress_never_goes_back(
    flat: Path, tmp_path: Path, use: Use, segmenter: ByColour
) -> None:
    class Watcher(Listener):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[float, str]] = []

        def update(self, fraction: float, text: str) -> None:
            self.seen.append((fraction, text))

    watcher = Watcher()
    use(tiny_guided())

    guided(flat, tmp_path / "out.tif", watcher, structure="dehaze_mask", block_size=96)

    fractions = [fraction for fraction, _ in watcher.seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {"Finding segments", "Removing haze before segmenting"} <= {t for _, t in watcher.seen}


def test_the_output_tells_what_guided_it(
    flat: Path, mask: Path, tmp_path: Path, use: Use, segmenter: ByColour
) -> None:
    use(tiny_guided())
    told = []
    for name, settings in (
        ("given", {"mask": str(mask)}),
        ("found", {"segmenter": "slic", "coding": "paper_sum_clip"}),
        ("gray", {"structure": "haze_gray"}),
    ):
        guided(flat, tmp_path / f"{name}.tif", **settings)
        with rasterio.open(tmp_path / f"{name}.tif") as raster:
            told.append(json.loads(raster.tags()["DEHAZE_GUIDE"]))
    use(tiny_student())
    guided(flat, tmp_path / "unguided.tif")
    with rasterio.open(tmp_path / "unguided.tif") as raster:
        assert "DEHAZE_GUIDE" not in raster.tags()

    given, found, gray = told
    assert (given["structure"], given["mask"]) == ("haze_mask", str(mask))
    assert len(given["fingerprint"]) == 64
    assert found["segmenter"] == segmenter.identity
    assert found["coding"] == "paper_sum_clip"
    assert gray == {"structure": "haze_gray"}


def test_a_mask_for_a_model_without_a_guide_is_refused(
    source: Path, mask: Path, tmp_path: Path, use: Use
) -> None:
    use(tiny_student())
    settings = RunSettings(
        source=str(source), destination=str(tmp_path / "out.tif"), model="guided", mask=str(mask)
    )

    for attempt in (lambda: guided(source, tmp_path / "out.tif", mask=str(mask)),
                    lambda: make_plan(settings)):  # fmt: skip
        with pytest.raises(SettingsError, match="not guided") as refused:
            attempt()
        assert refused.value.code == "MASK_MODEL"
    assert not list(tmp_path.glob("*out*"))


def test_run_and_plan_refuse_a_mask_of_another_place(
    source: Path, make_raster: MakeRaster, tmp_path: Path, use: Use
) -> None:
    mask = make_raster("mask.tif", data=mask_codes(), crs="EPSG:3857")
    use(tiny_guided())
    settings = RunSettings(
        source=str(source), destination=str(tmp_path / "out.tif"), model="guided", mask=str(mask)
    )

    for attempt in (lambda: guided(source, tmp_path / "out.tif", mask=str(mask)),
                    lambda: make_plan(settings)):  # fmt: skip
        with pytest.raises(DehazeError) as refused:
            attempt()
        assert refused.value.code == "MASK_CRS"


def test_an_output_never_replaces_the_mask(
    source: Path, mask: Path, tmp_path: Path, use: Use
) -> None:
    use(tiny_guided())
    (tmp_path / "link.tif").symlink_to(mask)

    for output in (mask, tmp_path / "link.tif"):
        with pytest.raises(DehazeError):
            guided(source, output, mask=str(mask))
    assert np.array_equal(read(mask), mask_codes())


@pytest.mark.parametrize(
    "settings",
    [
        {"mask": "m.tif", "structure": "haze_gray"},
        {"mask": "m.tif", "structure": "dehaze_mask"},
        {"mask": ""},
        {"structure": "nohaze_gray"},
        {"segmenter": "huge"},
        {"coding": "sum"},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        RunSettings(source="a.tif", destination="b.tif", **settings)  # type: ignore[arg-type]


def test_the_plan_says_what_guides(source: Path, mask: Path) -> None:
    def planned(network: StreamedNetwork, **settings: object) -> plan.Plan:
        asked = RunSettings(source=str(source), destination="o.tif", **settings)  # type: ignore[arg-type]
        with open_scene(str(source)) as scene:
            return plan.draw_plan(scene.frame, as_model(network), choose_device("cpu"), asked)

    network = tiny_guided()
    assert f"guide {mask};" in describe(planned(network, mask=str(mask)))
    assert "guide haze_gray;" in describe(planned(network, structure="haze_gray"))
    assert planned(network, segmenter="slic").guide == "haze_mask of slic, paint"
    assert planned(tiny_student()).guide is None
    assert "guide" not in describe(planned(tiny_student()))


def test_a_guided_network_is_timed_with_its_guide(source: Path, mask: Path, use: Use) -> None:
    use(tiny_guided())

    made = make_plan(
        RunSettings(source=str(source), destination="o.tif", model="guided", mask=str(mask))
    )

    assert made.seconds is not None
    assert made.seconds > 0
