# SPDX-License-Identifier: GPL-3.0-or-later
"""What a synthesis promises: frame, levels, resuming, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import rasterio
from affine import Affine

from dehaze_core.engine import Silent
from dehaze_core.errors import DehazeError
from dehaze_core.haze.synthesis import LEVELS
from dehaze_core.synthesis import SynthesisReport, SynthesisSettings, job, synthesize
from dehaze_core.synthesis.painter import HazePainter
from dehaze_core.synthesis.settings import HazeClass, Level
from tests.synthesis.conftest import clear_pixels, read

MakeRaster = Callable[..., Path]
AddHaze = Callable[..., SynthesisReport]


class Listening(Silent):
    """Remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def killed_after(calls: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is interrupted when it is called once too often."""
    left = iter(range(calls))

    def failing(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return work(*arguments, **options)

    return failing


@pytest.mark.parametrize(
    "frame",
    [
        {"nodata": 0},
        {"crs": "EPSG:25832", "transform": Affine(3, 1, 4e5, 1, -3, 5e6)},
        {"crs": None, "transform": Affine.identity()},
        {"valid": np.arange(150 * 180).reshape(150, 180) % 7 > 1},
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_frame_and_pixels_without_data_are_the_source_s(
    make_raster: MakeRaster, add_haze: AddHaze, tmp_path: Path, frame: dict[str, Any], dtype: str
) -> None:
    pixels = clear_pixels(dtype)
    if "nodata" in frame:
        pixels[:, 30:70, :50] = 0
    source = make_raster(data=pixels, descriptions=("r", "g", "b"), **frame)

    report = add_haze(source, level="L4", noise=(1e-4, 1e-3))

    with rasterio.open(source) as before, rasterio.open(tmp_path / "hazy.tif") as after:
        for fact in ("crs", "transform", "nodatavals", "dtypes", "shape", "descriptions"):
            assert getattr(after, fact) == getattr(before, fact)
        valid = before.dataset_mask() > 0
        assert np.array_equal(after.dataset_mask() > 0, valid)
        hazy = after.read()
    assert np.array_equal(hazy[:, ~valid], pixels[:, ~valid])
    assert (hazy[:, valid] != pixels[:, valid]).mean() > 0.9
    assert report.valid_fraction == pytest.approx(valid.mean())
    with rasterio.open(tmp_path / "hazy_tau.tif") as layer:
        assert layer.dtypes == ("float32",)
        assert np.array_equal(np.isfinite(layer.read(1)), valid)


@pytest.mark.parametrize("level", get_args(Level))
@pytest.mark.parametrize("kind", ["homogeneous", "patchy", "cirrus", "plume", "broken", "texture"])
def test_the_median_thickness_is_in_the_range_of_the_level(
    make_raster: MakeRaster,
    add_haze: AddHaze,
    texture: Path,
    tmp_path: Path,
    level: Level,
    kind: HazeClass,
) -> None:
    low, high = LEVELS[level]
    source = make_raster(data=clear_pixels("uint8", 70, 90))
    picture = str(texture) if kind == "texture" else None

    report = add_haze(source, kind=kind, level=level, texture=picture, seed=9)

    median = float(np.median(read(tmp_path / "hazy_tau.tif")))
    assert low * 0.99 <= median <= high * 1.01
    assert report.median_thickness == pytest.approx(median, rel=0.02)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_level_zero_is_the_clear_raster(
    make_raster: MakeRaster, add_haze: AddHaze, tmp_path: Path, dtype: str
) -> None:
    source = make_raster(dtype=dtype)

    add_haze(source, level="L0", adjacency=2.0, airlight_variation=0.1)

    assert np.array_equal(read(tmp_path / "hazy.tif"), read(source))
    assert not read(tmp_path / "hazy_tau.tif").any()


def test_another_seed_is_another_haze_and_the_same_seed_the_same(
    make_raster: MakeRaster, add_haze: AddHaze, tmp_path: Path
) -> None:
    source = make_raster(data=clear_pixels())
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        add_haze(source, name, seed=seed, level="L3")

    first, again, other = (read(tmp_path / f"{name}_tau.tif")[0] for name in "abc")
    assert np.array_equal(first, again)
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] < 0.9


def test_valley_fog_thins_with_height_by_its_depth(
    make_raster: MakeRaster, add_haze: AddHaze, dem: Path, tmp_path: Path
) -> None:
    source = make_raster(data=clear_pixels())
    for name, depth in (("shallow", 50.0), ("deep", 1e6)):
        add_haze(
            source,
            name,
            kind="valley",
            dem=str(dem),
            fog_base=400.0,
            fog_depth=depth,
            thickness=1.0,
        )

    shallow, deep = (read(tmp_path / f"{name}_tau.tif")[0] for name in ("shallow", "deep"))
    heights = 400.0 - 50.0 * np.log(shallow / deep)
    down = np.diff(heights.mean(axis=1))
    assert heights.min() > 400
    # 10 m of northing are 9.0e-5 degrees, of which one row of the DEM has 6e-4 and 300 / 59 m.
    assert down == pytest.approx(np.full_like(down, 9.0e-5 / 6e-4 * 300 / 59), rel=0.05)
    truth = json.loads((tmp_path / "shallow.json").read_text())
    assert truth["terrain"]["base"] == 400.0


def test_a_dem_with_gaps_is_told_of(make_raster: MakeRaster, dem: Path, tmp_path: Path) -> None:
    with rasterio.open(dem, "r+") as raster:
        heights = raster.read()
        raster.nodata = -1
        heights[:, :, 25:30] = -1
        raster.write(heights)
    source, listening = make_raster(data=clear_pixels()), Listening()
    settings = SynthesisSettings(
        source=str(source), destination=str(tmp_path / "h.tif"), kind="valley", dem=str(dem)
    )

    synthesize(settings, listening)

    assert any("DEM covers" in warning for warning in listening.warnings)


def test_bands_of_unknown_wavelength_stay_clear(
    make_raster: MakeRaster, add_haze: AddHaze, tmp_path: Path
) -> None:
    pixels = np.concatenate([clear_pixels("uint16"), clear_pixels("uint16")])[:4]
    source = make_raster(data=pixels)

    add_haze(source, bands=(3, 2, 1))

    hazy = read(tmp_path / "hazy.tif")
    assert np.array_equal(hazy[3], pixels[3])
    assert (hazy[:3] != pixels[:3]).mean() > 0.9
    truth = json.loads((tmp_path / "hazy.json").read_text())
    assert [band["band"] for band in truth["bands"]] == [1, 2, 3]
    # Band 1 is blue here, whose thickness is the largest.
    assert truth["bands"][0]["ratio"] > truth["bands"][2]["ratio"]


def test_an_interrupted_synthesis_goes_on_and_comes_to_the_same(
    make_raster: MakeRaster, add_haze: AddHaze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_raster(data=clear_pixels())
    add_haze(source, "whole", level="L3")
    with monkeypatch.context() as patch:
        patch.setattr(HazePainter, "paint", killed_after(4, HazePainter.paint))
        with pytest.raises(KeyboardInterrupt):
            add_haze(source, level="L3")
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    report = add_haze(source, level="L3")

    assert not [name for name in names if name.startswith("hazy")]
    assert report.resumed_blocks == 4
    for layer in ("", "_tau", "_air"):
        assert np.array_equal(
            read(tmp_path / f"hazy{layer}.tif"), read(tmp_path / f"whole{layer}.tif")
        )
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_synthesis_killed_between_its_outputs_goes_on_without_overwriting(
    make_raster: MakeRaster,
    add_haze: AddHaze,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: int,
) -> None:
    source = make_raster(data=clear_pixels("uint8", 70, 90))
    add_haze(source, "whole")

    with monkeypatch.context() as patch:
        patch.setattr(job, "write_output", killed_after(written, job.write_output))
        with pytest.raises(KeyboardInterrupt):
            add_haze(source, overwrite=False)
    there = [(tmp_path / f"hazy{end}").exists() for end in (".json", "_air.tif", "_tau.tif")]
    is_done = (tmp_path / "hazy.tif").exists()
    report = add_haze(source, overwrite=False)

    assert there == [True, written > 0, written > 1]
    assert not is_done
    assert report.resumed_blocks == report.blocks
    for layer in ("", "_tau", "_air"):
        assert np.array_equal(
            read(tmp_path / f"hazy{layer}.tif"), read(tmp_path / f"whole{layer}.tif")
        )


def test_going_on_replaces_no_file_but_those_of_the_interrupted_synthesis(
    make_raster: MakeRaster, add_haze: AddHaze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_raster(data=clear_pixels("uint8", 70, 90))
    dear = tmp_path / "dear.tif"
    dear.write_bytes(b"dear")
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_output", killed_after(1, job.write_output))
        with pytest.raises(KeyboardInterrupt):
            add_haze(source, overwrite=False)

    with pytest.raises(DehazeError) as caught:
        add_haze(source, overwrite=False, thickness_output=str(dear))

    assert caught.value.code == "OUTPUT_EXISTS"
    assert dear.read_bytes() == b"dear"


def test_a_texture_that_changed_starts_over_and_says_so(
    make_raster: MakeRaster,
    add_haze: AddHaze,
    texture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = make_raster(data=clear_pixels())
    options = {"kind": "texture", "texture": str(texture), "thickness": 0.5}
    with monkeypatch.context() as patch:
        patch.setattr(HazePainter, "paint", killed_after(4, HazePainter.paint))
        with pytest.raises(KeyboardInterrupt):
            add_haze(source, **options)
    with rasterio.open(texture, "r+") as raster:
        raster.write(raster.read()[:, ::-1])
    listening = Listening()
    report = add_haze(source, progress=listening, **options)
    add_haze(source, "whole", **options)

    assert report.resumed_blocks == 0
    assert any("truth" in warning for warning in listening.warnings)
    assert np.array_equal(read(tmp_path / "hazy.tif"), read(tmp_path / "whole.tif"))
    truths = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("hazy", "whole")]
    assert truths[0]["texture"] == truths[1]["texture"]
    assert truths[0]["texture"]["path"] == str(texture)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"kind": "fog"}, "SETTINGS"),
        ({"level": "L5"}, "SETTINGS"),
        ({"level": "L1", "thickness": 0.2}, "SETTINGS"),
        ({"thickness": -1.0}, "SETTINGS"),
        ({"seed": -1}, "SETTINGS"),
        ({"thickness": float("nan")}, "SETTINGS"),
        ({"wavelength": 100.0, "wavelength_m": 100.0}, "SETTINGS"),
        ({"kind": "valley"}, "SETTINGS"),
        ({"kind": "texture"}, "SETTINGS"),
        ({"dem": "dem.tif"}, "SETTINGS"),
        ({"adjacency": 3.0}, "SETTINGS"),
        ({"airlight": (1.0, 1.0)}, "SETTINGS"),
        ({"noise": (0.1,)}, "SETTINGS"),
        ({"bands": (1, 2, 9)}, "SETTINGS"),
        ({"bands": (1, 2)}, "SETTINGS"),
        ({"creation_options": ("NONSENSE",)}, "SETTINGS"),
        ({"kind": "valley", "dem": "missing.tif"}, "INPUT_MISSING"),
        ({"kind": "texture", "texture": "missing.tif"}, "INPUT_MISSING"),
        ({"kind": "texture", "texture": "FLAT"}, "INPUT_TEXTURE"),
        ({"kind": "valley", "dem": "FLAT"}, "DEM_GEOREFERENCE"),
        ({"kind": "valley", "dem": "ELSEWHERE"}, "DEM_OVERLAP"),
        ({"destination": "no/folder/hazy.tif"}, "OUTPUT_FOLDER"),
        ({"truth_output": "no/folder/truth.json"}, "OUTPUT_FOLDER"),
        ({"wavelength_m": 100.0, "source": "FLAT"}, "SETTINGS_WAVELENGTH"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_code_and_leaves_nothing(
    make_raster: MakeRaster, add_haze: AddHaze, tmp_path: Path, options: dict[str, Any], code: str
) -> None:
    flat = np.full((1, 40, 40), 7, "uint8")
    files = {
        "FLAT": make_raster("flat.tif", data=flat, crs=None, transform=Affine.identity()),
        "ELSEWHERE": make_raster("far.tif", data=flat, transform=Affine(1, 0, 0, 0, -1, 0)),
    }
    source = make_raster()
    there = set(tmp_path.iterdir())
    wanted = {name: files.get(str(value), value) for name, value in options.items()}
    wanted = {k: str(v) if isinstance(v, Path) else v for k, v in wanted.items()}

    with pytest.raises(DehazeError) as caught:
        add_haze(wanted.pop("source", source), **wanted)

    assert caught.value.code == code
    assert set(tmp_path.iterdir()) == there


def test_inputs_are_never_overwritten(
    make_raster: MakeRaster, add_haze: AddHaze, dem: Path
) -> None:
    source = make_raster(data=clear_pixels())

    with pytest.raises(DehazeError, match="never overwritten"):
        add_haze(source, destination=str(source))
    heights = dem.read_bytes()
    for output in ("thickness_output", "truth_output"):
        with pytest.raises(DehazeError) as caught:
            add_haze(source, kind="valley", dem=str(dem), **{output: str(dem)})
        assert "never overwritten" in caught.value.message

    assert dem.read_bytes() == heights


def test_existing_outputs_stay_unless_overwriting_is_allowed(
    make_raster: MakeRaster, add_haze: AddHaze
) -> None:
    source = make_raster(data=clear_pixels("uint8", 40, 40))
    add_haze(source)

    with pytest.raises(DehazeError) as caught:
        add_haze(source, overwrite=False)

    assert caught.value.code == "OUTPUT_EXISTS"


def test_a_source_that_changes_meanwhile_is_noticed(
    make_raster: MakeRaster, add_haze: AddHaze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_raster(data=clear_pixels())
    paint = HazePainter.paint

    def meddling(self: HazePainter, *arguments: Any) -> Any:
        with rasterio.open(source, "r+") as raster:
            raster.update_tags(changed="yes")
        return paint(self, *arguments)

    monkeypatch.setattr(HazePainter, "paint", meddling)
    with pytest.raises(DehazeError) as caught:
        add_haze(source)

    assert caught.value.code == "INPUT_CHANGED"
    assert not (tmp_path / "hazy.tif").exists()


def test_a_zarr_output_is_written_as_well(
    make_raster: MakeRaster, add_haze: AddHaze, tmp_path: Path
) -> None:
    from dehaze_core.scene import open_scene

    source = make_raster(data=clear_pixels("uint16", 64, 80))
    add_haze(source)
    add_haze(source, destination=str(tmp_path / "hazy.zarr"))

    with open_scene(str(tmp_path / "hazy.zarr")) as scene:
        pixels, _ = scene.read(scene.frame.window)
    assert np.array_equal(pixels, read(tmp_path / "hazy.tif"))
