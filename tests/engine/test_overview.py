# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks with global poolings: one look at the raster, then blocks that do not show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from dehaze_core.engine.device import choose_device
from dehaze_core.engine.plan import draw_plan
from dehaze_core.engine.preflight import describe
from dehaze_core.engine.settings import RunSettings
from dehaze_core.errors import DehazeError
from dehaze_core.models.streaming import SceneStatistics, StreamedNetwork
from dehaze_core.models.student.student import Student, StudentConfig
from dehaze_core.scene import open_scene
from tests.engine.painters import as_model, tiny_student, whole
from tests.engine.test_resume import Interrupter, Interruption, read, start

MakeRaster = Callable[..., Path]
Use = Callable[[StreamedNetwork], None]


class Looks(Student):
    """A student that counts how often it looked, and at what size."""

    def __init__(self) -> None:
        super().__init__(StudentConfig(width=4, outer=2, inner=1))
        self.sizes: list[tuple[int, ...]] = []

    def look(self, rgb: torch.Tensor, *seen: torch.Tensor) -> SceneStatistics:
        self.sizes.append(tuple(rgb.shape[-2:]))
        return super().look(rgb, *seen)


def test_streamed_equals_whole_whatever_the_blocks(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32], use: Use
) -> None:
    source = make_raster(data=hazy)
    network = tiny_student()
    use(network)
    expected = whole(source, network)

    for block in (64, 160, 1000):
        start(source, tmp_path / f"{block}.tif", block_size=block)
        assert np.abs(read(tmp_path / f"{block}.tif") - expected).max() <= 1e-5
    assert np.abs(expected - hazy).max() > 0.05


def test_a_large_raster_is_looked_at_once_and_scaled_down(
    make_raster: MakeRaster, tmp_path: Path, use: Use
) -> None:
    picture = np.random.default_rng(5).integers(1, 255, (3, 300, 500), np.uint8)
    network = Looks()
    network.overview_px = 128
    use(network)

    start(make_raster(data=picture), tmp_path / "out.tif", block_size=128)

    assert network.sizes == [(96, 128)]


def test_the_output_tells_what_every_block_was_told(
    make_raster: MakeRaster, tmp_path: Path, use: Use
) -> None:
    source = make_raster(data=np.full((3, 64, 96), 90, np.uint8))
    network = tiny_student()
    use(network)

    start(source, tmp_path / "out.tif")

    with rasterio.open(tmp_path / "out.tif") as raster:
        tags = raster.tags()
    rgb, ones = torch.full((1, 3, 64, 96), 90 / 255), torch.ones(1, 1, 64, 96)
    with torch.inference_mode():
        told = network.look(rgb, ones, torch.ones(1, 2, 3)).values[0]
    assert json.loads(tags["DEHAZE_STATISTICS"]) == pytest.approx(told.tolist(), abs=1e-6)
    assert tags["DEHAZE_CONTEXT"] == "overview"


def test_a_resumed_run_does_not_look_again(
    make_raster: MakeRaster, tmp_path: Path, hazy: NDArray[np.float32], use: Use
) -> None:
    source = make_raster(data=hazy)
    network = Looks()
    use(network)
    start(source, tmp_path / "whole.tif", block_size=160)
    assert len(network.sizes) == 1

    with pytest.raises(Interruption):
        start(source, tmp_path / "out.tif", progress=Interrupter(0.6), block_size=160)
    report = start(source, tmp_path / "out.tif", block_size=160)

    assert report.resumed_blocks > 0
    assert len(network.sizes) == 2
    assert np.array_equal(read(tmp_path / "out.tif"), read(tmp_path / "whole.tif"))


def test_a_raster_without_data_stays_as_it_is(
    make_raster: MakeRaster, tmp_path: Path, use: Use
) -> None:
    data = np.zeros((3, 70, 80), np.uint8)
    source = make_raster(data=data, nodata=0)
    network = Looks()
    use(network)

    start(source, tmp_path / "out.tif")

    assert np.array_equal(read(tmp_path / "out.tif"), data)
    assert network.sizes == []


def test_the_plan_says_that_there_are_no_tokens(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(data=np.zeros((3, 70, 80), np.uint8))
    settings = RunSettings(source=str(source), destination=str(tmp_path / "o.tif"), context="exact")

    with open_scene(str(source)) as scene:
        plan = draw_plan(scene.frame, as_model(tiny_student()), choose_device("cpu"), settings)

    assert (plan.tokens, plan.context) == (0, "overview")
    assert "context overview" in describe(plan)


def test_a_network_of_other_bands_is_refused(
    make_raster: MakeRaster, tmp_path: Path, use: Use
) -> None:
    use(Student(StudentConfig(bands=4, width=4, outer=1, inner=1)))

    with pytest.raises(DehazeError, match="4 bands") as refused:
        start(make_raster(data=np.zeros((4, 40, 40), np.uint8)), tmp_path / "out.tif")

    assert refused.value.code == "MODEL_BANDS"
