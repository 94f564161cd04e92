# SPDX-License-Identifier: GPL-3.0-or-later
"""Interrupted runs: nothing under the output's name, and the same bytes after going on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from dehaze_core.engine import Report, RunSettings, Silent, run, runner
from dehaze_core.engine.workspace import Workspace
from dehaze_core.errors import OutputError, ResourceError
from dehaze_core.scene.srgb import encode_uint8

MakeRaster = Callable[..., Path]


class Interruption(Exception):
    """Stands for a crash at some point of a run."""


class Interrupter(Silent):
    """Ends a run once it has come far enough."""

    def __init__(self, fraction: float) -> None:
        self.fraction = fraction

    def update(self, fraction: float, text: str) -> None:
        if fraction >= self.fraction:
            raise Interruption


class Listener(Silent):
    """Remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def source(make_raster: MakeRaster, hazy: NDArray[np.float32]) -> Path:
    return make_raster(data=encode_uint8(hazy))


def start(source: Path, out: Path, progress: Silent | None = None, **settings: object) -> Report:
    values = {"block_size": 256, **settings}
    return run(
        RunSettings(source=str(source), destination=str(out), **values),  # type: ignore[arg-type]
        progress or Silent(),
    )


def read(path: Path) -> NDArray[np.generic]:
    with rasterio.open(path) as raster:
        pixels: NDArray[np.generic] = raster.read()
    return pixels


@pytest.mark.parametrize("fraction", [0.1, 0.33, 0.6, 0.85])
def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    source: Path, tmp_path: Path, fraction: float
) -> None:
    start(source, tmp_path / "unbroken.tif")
    out = tmp_path / "out.tif"

    with pytest.raises(Interruption):
        start(source, out, Interrupter(fraction))
    assert not out.exists()
    report = start(source, out)

    assert np.array_equal(read(out), read(tmp_path / "unbroken.tif"))
    assert (report.resumed_blocks > 0) == (fraction > 0.5)
    assert report.mean_thickness == pytest.approx(
        start(source, tmp_path / "again.tif").mean_thickness, rel=1e-6
    )
    assert not list(tmp_path.glob(".*"))


def test_a_run_killed_between_its_outputs_goes_on_without_overwriting(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watcher(Silent):
        fractions: list[float] = []  # noqa: RUF012 - one instance

        def update(self, fraction: float, text: str) -> None:
            self.fractions.append(fraction)

    out, layer, watcher = tmp_path / "out.tif", tmp_path / "layer.tif", Watcher()
    write = runner.write_output
    left = iter(range(1))

    def failing(*arguments: object, **options: object) -> object:
        if next(left, None) is None:
            raise Interruption
        return write(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(runner, "write_output", failing)
        with pytest.raises(Interruption):
            start(source, out, thickness=str(layer), overwrite=False)
    there = layer.exists(), out.exists()
    report = start(source, out, watcher, thickness=str(layer), overwrite=False)

    assert there == (True, False)
    assert report.resumed_blocks == report.blocks
    assert out.exists()
    assert watcher.fractions == sorted(watcher.fractions)


def test_going_on_replaces_no_file_but_the_interrupted_run_s_own(
    source: Path, tmp_path: Path
) -> None:
    dear = tmp_path / "dear.tif"
    dear.write_bytes(b"dear")
    with pytest.raises(Interruption):
        start(source, tmp_path / "out.tif", Interrupter(0.6), thickness=str(tmp_path / "layer.tif"))

    with pytest.raises(OutputError) as caught:
        start(source, tmp_path / "out.tif", thickness=str(dear), overwrite=False)

    assert caught.value.code == "OUTPUT_EXISTS"
    assert dear.read_bytes() == b"dear"


def test_other_settings_start_clean_and_say_so(source: Path, tmp_path: Path) -> None:
    out, listener = tmp_path / "out.tif", Listener()
    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.6))

    report = start(source, out, listener, strength=0.5)

    assert report.resumed_blocks == 0
    assert any("strength" in warning for warning in listener.warnings)


def test_changed_input_starts_clean(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.6))
    with rasterio.open(source, "r+") as raster:
        raster.write(255 - raster.read())

    assert start(source, out).resumed_blocks == 0


def test_the_block_size_of_the_interrupted_run_is_kept(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.6), block_size=192)

    report = start(source, out, block_size=None)

    assert report.block_size == 192
    assert report.resumed_blocks > 0


def test_the_block_size_of_another_job_is_not(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.6), block_size=192, strength=0.3)

    report = start(source, out, block_size=None)

    assert report.block_size != 192
    assert report.resumed_blocks == 0


def test_a_damaged_store_starts_over_and_says_so(source: Path, tmp_path: Path) -> None:
    out, listener = tmp_path / "out.tif", Listener()
    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.85))
    (tmp_path / ".out.tif.dehaze" / "result" / "journal.json").write_text("{}")

    report = start(source, out, listener)

    assert report.resumed_blocks == 0
    assert listener.warnings


def test_a_damaged_block_is_computed_again(source: Path, tmp_path: Path) -> None:
    start(source, tmp_path / "unbroken.tif")
    out = tmp_path / "out.tif"
    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.85))
    chunk = tmp_path / ".out.tif.dehaze" / "result" / "c" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[1000] ^= 4
    chunk.write_bytes(data)

    report = start(source, out)

    assert report.resumed_blocks == report.blocks - 1
    assert np.array_equal(read(out), read(tmp_path / "unbroken.tif"))


def test_damaged_context_is_computed_again(source: Path, tmp_path: Path) -> None:
    start(source, tmp_path / "unbroken.tif")
    out = tmp_path / "out.tif"
    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.5))
    conditions = tmp_path / ".out.tif.dehaze" / "conditions.f32"
    data = bytearray(conditions.read_bytes())
    data[5000] ^= 64
    conditions.write_bytes(data)

    start(source, out)

    assert np.array_equal(read(out), read(tmp_path / "unbroken.tif"))


def test_a_second_run_on_the_same_output_is_refused(source: Path, tmp_path: Path) -> None:
    with Workspace(tmp_path / "out.tif"), pytest.raises(ResourceError) as caught:
        start(source, tmp_path / "out.tif")

    assert caught.value.code == "OUTPUT_BUSY"


def test_an_old_output_survives_a_failing_run(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    out.write_bytes(b"old")

    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.9))

    assert out.read_bytes() == b"old"


def test_existing_output_is_refused_unless_overwriting(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    out.write_bytes(b"old")

    with pytest.raises(OutputError) as caught:
        start(source, out, overwrite=False)

    assert caught.value.code == "OUTPUT_EXISTS"
    assert out.read_bytes() == b"old"


def test_missing_output_folder_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        start(source, tmp_path / "none" / "out.tif")

    assert caught.value.code == "OUTPUT_FOLDER"


def test_a_second_run_on_the_same_haze_thickness_is_refused(source: Path, tmp_path: Path) -> None:
    layer = str(tmp_path / "layer.tif")
    with Workspace(tmp_path / "layer.tif"), pytest.raises(ResourceError) as caught:
        start(source, tmp_path / "out.tif", thickness=layer)

    assert caught.value.code == "OUTPUT_BUSY"
    assert not list(tmp_path.glob(".out*"))


def test_creation_options_are_for_the_image_alone(source: Path, tmp_path: Path) -> None:
    out, layer = tmp_path / "out.tif", tmp_path / "layer.tif"

    start(source, out, thickness=str(layer), creation_options=("COMPRESS=WEBP",))

    with rasterio.open(out) as image, rasterio.open(layer) as thickness:
        assert image.compression.name == "webp"
        assert thickness.compression.name == "deflate"
        assert "torch" in image.tags()["DEHAZE_LIBRARIES"]


def test_memory_that_runs_out_anywhere_is_a_resource_error(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*arguments: object, **options: object) -> None:
        raise MemoryError("Unable to allocate 2 GiB")

    monkeypatch.setattr(runner, "write_output", exhausted)

    with pytest.raises(ResourceError, match="Unable to allocate 2 GiB") as caught:
        start(source, tmp_path / "out.tif")
    assert caught.value.code == "MEMORY"
