# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame contract: everything about a raster but its pixels comes out as it went in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from dehaze_core.engine.output.formats import OutputFormat
from dehaze_core.errors import DehazeError
from dehaze_core.scene import open_scene
from tests.frame.carrying import FILES, SAID_AS, Outcome, built, carry, read
from tests.frame.cases import CASES
from tests.frame.files import served
from tests.frame.rasters import Case, pixels, tagged, wedge, write
from tests.frame.reading import differences, read_raster, read_zarr
from tests.frame.table import LISTED, TABLE, as_markdown

EVERY = {case.id: case for case in CASES}
NAMES = [
    pytest.param(
        name, marks=pytest.mark.skipif(not case.can_be_built, reason=f"no driver {case.driver}")
    )
    for name, case in EVERY.items()
]
_outcomes: dict[tuple[str, OutputFormat], Outcome] = {}


def test_the_zoo_is_large_and_every_name_is_unique() -> None:
    assert len(EVERY) == len(CASES) >= 60


@pytest.mark.parametrize("name", NAMES)
def test_dehazing_carries_the_frame(
    tmp_path: Path, dehaze: Callable[..., list[str]], name: str
) -> None:
    case, output = EVERY[name], tmp_path / "out" / "dehazed.tif"
    output.parent.mkdir()
    source, twin = built(case, tmp_path)

    if case.refused or case.tiff_refused:
        with pytest.raises(DehazeError) as caught:
            dehaze(source, output)
        assert caught.value.code == (case.refused or case.tiff_refused)
        assert list(output.parent.iterdir()) == []
        return
    warnings = " ".join(dehaze(source, output))

    assert differences(read(twin), read_raster(str(output))) == list(case.tiff_loses)
    assert all(SAID_AS[trait] in warnings for trait in case.tiff_loses)
    assert case.says in warnings
    assert cog_validate(output, strict=True) == (True, [], [])
    sidecar = ["dehazed.tif.aux.xml"] if "aux.xml" in warnings else []
    assert sorted(path.name for path in output.parent.iterdir()) == ["dehazed.tif", *sidecar]


@pytest.mark.parametrize("format_name", LISTED)
@pytest.mark.parametrize("name", NAMES)
def test_every_format_carries_the_frame_or_says_what_not(
    tmp_path: Path, name: str, format_name: OutputFormat
) -> None:
    case = EVERY[name]
    is_tiff = format_name != "zarr"

    outcome = _outcomes[name, format_name] = carry(case, format_name, tmp_path)

    assert outcome.refused == (case.refused or (case.tiff_refused if is_tiff else ""))
    assert outcome.lost == (case.tiff_loses if is_tiff else ())
    said = " ".join(outcome.warnings)
    assert all(SAID_AS[trait] in said for trait in outcome.lost)
    assert not is_tiff or case.says in said
    assert bool(said) == bool(outcome.lost or (case.says and (is_tiff or case.says == "mask")))


@pytest.mark.skipif(not all(case.can_be_built for case in CASES), reason="a driver is missing")
def test_table_in_the_documentation_is_up_to_date(tmp_path: Path) -> None:
    for name, case in EVERY.items():
        for format_name in LISTED:
            if (name, format_name) not in _outcomes:
                folder = tmp_path / str(len(_outcomes))
                folder.mkdir()
                _outcomes[name, format_name] = carry(case, format_name, folder)

    assert TABLE.read_text(encoding="utf-8") == as_markdown(CASES, _outcomes), (
        "run: python -m tests.frame.table"
    )


# ------------------------------------------------------------------ beyond whole files on disk


@pytest.mark.parametrize("format_name", ["gtiff", "zarr"])
@pytest.mark.parametrize(
    "name",
    [
        "data type: float32",
        "mask: internal",
        "nodata: different per band",
        "tags: of bands",
        "zarr: our own, with everything",
    ],
)
def test_other_formats_are_outputs_of_a_run(
    tmp_path: Path, dehaze: Callable[..., list[str]], name: str, format_name: OutputFormat
) -> None:
    case, output = EVERY[name], tmp_path / "out" / FILES[format_name]
    output.parent.mkdir()
    source, twin = built(case, tmp_path)

    warnings = " ".join(dehaze(source, output, format=format_name))

    found = read(str(output))
    assert differences(read(twin), found) == list(case.tiff_loses if format_name != "zarr" else ())
    assert not np.array_equal(read(twin).pixels, found.pixels)  # it was dehazed
    sidecar = [f"{output.name}.aux.xml"] if "aux.xml" in warnings else []
    assert sorted(path.name for path in output.parent.iterdir()) == [output.name, *sidecar]


def test_thickness_goes_by_its_own_path(tmp_path: Path, dehaze: Callable[..., list[str]]) -> None:
    source = write(tmp_path / "scene.tif", wedge(pixels(), 0), nodata=0)

    dehaze(source, tmp_path / "out.tif", thickness=str(tmp_path / "haze.zarr"))

    found = read_zarr(str(tmp_path / "haze.zarr"))
    assert found.size == (1, 40, 48)
    assert np.isnan(found.pixels[0, :5, :5]).all()
    assert found.crs == read_raster(source).crs


@pytest.mark.parametrize("output", ["scene.zarr", "scene.zarr/out.tif", "link.zarr"])
def test_zarr_input_is_never_written_into(
    tmp_path: Path, dehaze: Callable[..., list[str]], output: str
) -> None:
    source, _ = built(EVERY["zarr: our own, with everything"], tmp_path)
    (tmp_path / "link.zarr").symlink_to(source)
    before = {path: path.stat().st_mtime_ns for path in Path(source).rglob("*")}

    with pytest.raises(DehazeError):
        dehaze(source, tmp_path / output)

    assert {path: path.stat().st_mtime_ns for path in Path(source).rglob("*")} == before


def test_cog_is_read_through_a_web_server(tmp_path: Path, dehaze: Callable[..., list[str]]) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    source = write(folder / "scene.tif", wedge(pixels(), 0), nodata=0, edit=tagged(A="b"))
    output = tmp_path / "out.tif"

    with served(folder) as address, rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        dehaze(f"/vsicurl/{address}/scene.tif", output)

    assert differences(read_raster(source), read_raster(str(output))) == []


def test_pixels_of_a_part_lie_where_they_lay(
    tmp_path: Path, dehaze: Callable[..., list[str]]
) -> None:
    source, output = write(tmp_path / "scene.tif", wedge(pixels(), 0), nodata=0), tmp_path / "o.tif"

    dehaze(source, output, extent=(500_050, 5_399_700, 500_250, 5_399_950))

    with rasterio.open(source) as before, rasterio.open(output) as after:
        window = before.window(*after.bounds)
        assert after.shape == (25, 20)
        assert after.crs == before.crs
        missing = before.read_masks(1, window=window) == 0
        assert missing.any()
        assert ((after.read_masks(1) == 0) == missing).all()
        assert after.nodata == before.nodata


def test_tags_that_are_not_utf8_are_said_to_be_left_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", edit=tagged(PLACE="XXXXXXXX"))
    content = Path(path).read_bytes()
    Path(path).write_bytes(content.replace(b"XXXXXXXX", b"K\xf8benh\xe4v"))
    with open_scene(path) as scene:
        phrases = scene.frame.left_behind

    outcome = carry(Case("tags", "Latin 1", lambda folder: path), "cog", tmp_path)

    assert len(phrases) == 1
    assert "PLACE=K" in phrases[0]
    assert phrases[0] in outcome.warnings[0]
