# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual rasters that point where they should not, or that try to wear the reader out."""

from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_core.errors import InputError
from dehaze_core.grid import Window
from dehaze_core.scene import open_scene
from tests.conftest import write_raster

SIDE = 16


def band(source: str, relative: bool = False) -> str:
    return (
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{int(relative)}">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
    )


def raw_band(source: str, relative: bool = False) -> str:
    return (
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="{int(relative)}">{source}</SourceFilename>'
        f"<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>{SIDE}</LineOffset>"
        "</VRTRasterBand>"
    )


def write_vrt(path: Path, body: str, head: str = "") -> Path:
    path.write_text(
        f'{head}<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}">{body}</VRTDataset>'
    )
    return path


def refusal(path: Path | str) -> InputError:
    with pytest.raises(InputError) as caught, open_scene(str(path)) as scene:
        scene.read(Window(0, 0, SIDE, SIDE))
    return caught.value


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text("secret" * 100)
    return path


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "part.tif"
    write_raster(path, height=SIDE, width=SIDE, count=1)
    return path


def test_bytes_of_other_files_are_not_read_as_pixels(tmp_path: Path, secret: Path) -> None:
    assert refusal(write_vrt(tmp_path / "a.vrt", raw_band(str(secret)))).code == "INPUT_UNSAFE"
    assert (
        refusal(write_vrt(tmp_path / "a.vrt", raw_band(secret.name, True))).code == "INPUT_UNSAFE"
    )


@pytest.mark.parametrize("name", ["inner.vrt", "inner.tif"])
def test_bytes_of_other_files_are_not_read_through_a_nested_one(
    tmp_path: Path, secret: Path, name: str
) -> None:
    # A reader of the text alone would not see the name of this kind of band.
    hidden = raw_band(str(secret)).replace("VRTRaw", "VRT&#82;aw")
    write_vrt(tmp_path / name, hidden)

    assert refusal(write_vrt(tmp_path / "outer.vrt", band(name, True))).code == "INPUT_UNSAFE"


def test_a_text_file_as_a_part_is_not_a_raster(tmp_path: Path, secret: Path) -> None:
    assert "secret.txt" in refusal(write_vrt(tmp_path / "a.vrt", band(str(secret)))).message


def test_a_part_missing_in_a_nested_one_is_named(tmp_path: Path) -> None:
    write_vrt(tmp_path / "inner.vrt", band("gone.tif", True))

    error = refusal(write_vrt(tmp_path / "outer.vrt", band("inner.vrt", True)))

    assert error.code == "INPUT_MISSING"
    assert "gone.tif" in error.message


def test_standard_input_is_no_raster(tmp_path: Path) -> None:
    assert refusal(write_vrt(tmp_path / "a.vrt", band("/vsistdin/"))).code == "INPUT_MISSING"
    assert refusal("/vsistdin/").code == "INPUT_UNREADABLE"


@pytest.mark.parametrize("name", ["self.vrt", "folder/../self.vrt"])
def test_one_that_contains_itself_ends(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()

    assert refusal(write_vrt(tmp_path / "self.vrt", band(name, True))).code.startswith("INPUT_")


def test_entities_are_not_expanded(tmp_path: Path, part: Path, secret: Path) -> None:
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    head = f'<!DOCTYPE a [<!ENTITY a0 "ha">{laughs}<!ENTITY x SYSTEM "file://{secret}">]>'
    body = f'<Metadata><MDI key="a">&a11;&x;</MDI></Metadata>{band(str(part))}'

    with open_scene(str(write_vrt(tmp_path / "a.vrt", body, head))) as scene:
        text = scene.frame.tags[""]["a"]

    assert "ha" not in text
    assert "secret" not in text


def test_deeply_nested_elements_are_refused(tmp_path: Path, part: Path) -> None:
    body = "<A>" * 100_000 + "</A>" * 100_000 + band(str(part))

    assert refusal(write_vrt(tmp_path / "a.vrt", body)).code == "INPUT_UNREADABLE"


def test_connection_strings_inside_are_followed_or_refused(tmp_path: Path, part: Path) -> None:
    path = write_vrt(tmp_path / "a.vrt", band(f"vrt://{part}?bands=1"))

    with open_scene(str(path)) as scene:
        assert scene.read(Window(0, 0, SIDE, SIDE))[0].any()
    for address in ("http://127.0.0.1:9/a.tif", "/vsicurl/http://127.0.0.1:9/a.tif"):
        assert refusal(write_vrt(tmp_path / "b.vrt", band(address))).code.startswith("INPUT_")


def test_part_two_levels_deep_that_cannot_be_opened_is_not_read_as_zeros(tmp_path: Path) -> None:
    inner = write_vrt(tmp_path / "inner.vrt", band("b.tif", relative=True))
    outer = write_vrt(tmp_path / "outer.vrt", band("inner.vrt", relative=True))
    (tmp_path / "b.tif").write_bytes(b"")

    error = refusal(outer)
    assert error.code == "INPUT_CORRUPT"
    assert str(tmp_path / "b.tif") in error.message
    # GDAL remembers that it could not open the part, and would now read zeros without a word.
    assert refusal(inner).code == "INPUT_STALE"


def test_part_that_is_no_raster_is_not_read_as_zeros_beside_or_after_a_nested_one(
    tmp_path: Path, secret: Path, part: Path
) -> None:
    write_vrt(tmp_path / "inner.vrt", band("part.tif", relative=True))
    second = band(str(secret)).replace('band="1"', 'band="2"')
    beside = write_vrt(tmp_path / "beside.vrt", band("inner.vrt", relative=True) + second)
    other = tmp_path / "other.txt"
    other.write_text("secret" * 100)

    assert "secret.txt" in refusal(beside).message
    assert "other.txt" in refusal(write_vrt(tmp_path / "after.vrt", band(str(other)))).message


def test_part_lost_while_reading_is_not_read_as_zeros_later_on(tmp_path: Path) -> None:
    part = tmp_path / "b.tif"
    write_raster(part, height=SIDE, width=SIDE, count=1)
    write_vrt(tmp_path / "inner.vrt", band("b.tif", relative=True))
    outer = write_vrt(tmp_path / "outer.vrt", band("inner.vrt", relative=True))
    with open_scene(str(outer)) as scene:
        scene.close()
        part.rename(tmp_path / "away.tif")
        with pytest.raises(InputError):
            scene.read(Window(0, 0, SIDE, SIDE))
    (tmp_path / "away.tif").rename(part)

    # Whole again, but GDAL has not noticed: right pixels or a refusal, never zeros.
    assert refusal(outer).code == "INPUT_STALE"
