# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze segment`, `segment-set`, and how their cache is emptied."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.errors import DehazeError
from dehaze_core.places import masks_folder
from tests.engine.segmenters import fields

MakeRaster = Callable[..., Path]


def invoke(*arguments: object) -> Any:
    """Run a command that prints JSON; errors meant for users come through."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("segmenter", ["slic", "felzenszwalb"])
def test_segments_a_raster(make_raster: MakeRaster, tmp_path: Path, segmenter: str) -> None:
    noise = np.random.default_rng(0).integers(0, 12, (3, 96, 128))
    source = make_raster(data=(fields(96, 128) + noise).astype(np.uint8))
    output, labels = tmp_path / "codes.tif", tmp_path / "labels.tif"

    report = invoke(
        "segment", source, output, "--labels", labels, "--segmenter", segmenter, "--side", 256
    )

    assert report["output"] == str(output)
    assert report["segmenter"] == segmenter
    assert report["device"].startswith("CPU")
    with rasterio.open(output) as codes, rasterio.open(labels) as raster:
        found = raster.read(1)
        assert found.max() <= report["masks"]
        assert ((codes.read(1) > 0) == (found > 0)).all()
    assert report["masks"] >= 3
    assert report["coverage"] > 0.9
    # The borders between the fields are where labels end, but for a pixel or two.
    inside = np.r_[:44, 52:96]
    assert not set(np.unique(found[inside, :60])) & set(np.unique(found[inside, 68:])) - {0}


def test_refuses_to_replace(make_raster: MakeRaster, tmp_path: Path) -> None:
    output = tmp_path / "codes.tif"
    output.write_bytes(b"dear")

    with pytest.raises(DehazeError) as caught:
        invoke("segment", make_raster(), output, "--segmenter", "slic")

    assert caught.value.code == "OUTPUT_EXISTS"
    assert output.read_bytes() == b"dear"


def test_bands_and_extent_are_numbers(make_raster: MakeRaster, tmp_path: Path) -> None:
    source = make_raster(data=fields(48, 64))
    arguments = ("segment", source, tmp_path / "codes.tif", "--segmenter", "slic")

    report = invoke(*arguments, "--bands", "3,2,1", "--extent", "500100,5399800,500300,5399900")

    assert (report["width"], report["height"]) == (20, 10)
    with pytest.raises(DehazeError, match="--bands"):
        invoke(*arguments, "--bands", "red")


def test_makes_label_pictures(make_raster: MakeRaster, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    make_raster("pictures/one.tif", data=fields(48, 64))
    arguments = ("segment-set", folder, tmp_path / "out", "--segmenter", "felzenszwalb")

    report = invoke(*arguments)

    assert (report["pictures"], report["written"]) == (1, 1)
    with Image.open(tmp_path / "out" / "one.png") as picture:
        assert picture.size == (64, 48)
    assert invoke(*arguments)["kept"] == 1


def test_masks_are_cleaned_when_asked(make_raster: MakeRaster, tmp_path: Path) -> None:
    invoke("segment", make_raster(), tmp_path / "codes.tif", "--segmenter", "slic")

    assert invoke("clean", tmp_path) == []
    (listed,) = invoke("clean", tmp_path, "--masks")
    (removed,) = invoke("clean", tmp_path, "--masks", "--remove")

    assert listed["kind"] == "masks"
    assert listed["bytes"] > 0
    assert not listed["removed"]
    assert removed["removed"]
    assert not masks_folder().exists()
    assert invoke("clean", tmp_path, "--masks") == []
