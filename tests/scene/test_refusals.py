# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be dehazed or read is refused with a code, the name of the file, and advice."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from dehaze_core.errors import InputError
from dehaze_core.grid import Window
from dehaze_core.scene import open_scene

MakeRaster = Callable[..., Path]


def refusal(path: Path | str) -> InputError:
    with pytest.raises(InputError) as caught:
        open_scene(str(path))
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


def read_refusal(path: Path, window: Window) -> InputError:
    with pytest.raises(InputError) as caught, open_scene(str(path)) as scene:
        scene.read(window)
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.tif").code == "INPUT_MISSING"


def test_file_that_is_no_raster(tmp_path: Path) -> None:
    path = tmp_path / "letter.tif"
    path.write_text("Dear Sir,")

    assert refusal(path).code == "INPUT_UNREADABLE"


def test_folder_that_is_no_raster(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "INPUT_UNREADABLE"


def test_complex_numbers(make_raster: MakeRaster) -> None:
    path = make_raster(data=np.ones((1, 4, 4), np.complex64))

    assert refusal(path).code == "INPUT_COMPLEX"


def test_more_bands_than_any_sensor_has(make_raster: MakeRaster) -> None:
    path = make_raster(data=np.ones((4097, 1, 1), np.uint8))

    assert refusal(path).code == "INPUT_BANDS"


def test_palette(make_raster: MakeRaster) -> None:
    path = make_raster(data=np.ones((1, 4, 4), np.uint8))
    with rasterio.open(path, "r+") as raster:
        raster.write_colormap(1, {1: (255, 0, 0, 255)})

    error = refusal(path)

    assert error.code == "INPUT_PALETTE"
    assert "PCT to RGB" in error.hint


def test_bands_of_different_types(make_raster: MakeRaster, tmp_path: Path) -> None:
    eight = make_raster(name="eight.tif", height=4, width=4, count=1)
    sixteen = make_raster(name="sixteen.tif", height=4, width=4, count=1, dtype="uint16")
    path = write_vrt(tmp_path / "mixed.vrt", [(eight, "Byte"), (sixteen, "UInt16")])

    assert refusal(path).code == "INPUT_DTYPE"


def test_container_of_several_rasters_names_them(make_raster: MakeRaster, tmp_path: Path) -> None:
    path = tmp_path / "two.gpkg"
    for table in ("one", "two"):
        rasterio.shutil.copy(
            str(make_raster(dtype="uint8")),
            str(path),
            driver="GPKG",
            RASTER_TABLE=table,
            APPEND_SUBDATASET="YES" if table == "two" else "NO",
        )

    error = refusal(path)

    assert error.code == "INPUT_CONTAINER"
    assert "one" in error.hint
    assert "two" in error.hint


def test_virtual_raster_whose_part_is_missing(make_raster: MakeRaster, tmp_path: Path) -> None:
    part = make_raster(name="part.tif", height=4, width=4, count=1)
    path = write_vrt(tmp_path / "whole.vrt", [(part, "Byte")])
    with open_scene(str(path)) as scene:
        assert scene.read(scene.frame.window)[1].all()
    part.unlink()

    error = refusal(path)

    assert error.code == "INPUT_MISSING"
    assert str(part) in error.message


def test_virtual_raster_named_without_a_folder_finds_its_parts(
    make_raster: MakeRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = make_raster(name="part.tif", height=4, width=4, count=1)
    write_vrt(tmp_path / "whole.vrt", [(part, "Byte")], relative=True)
    monkeypatch.chdir(tmp_path)

    with open_scene("whole.vrt") as scene:
        assert scene.read(scene.frame.window)[1].all()


def test_virtual_raster_inside_an_archive_is_read(make_raster: MakeRaster, tmp_path: Path) -> None:
    part = make_raster(name="part.tif", height=4, width=4, count=1)
    vrt = write_vrt(tmp_path / "whole.vrt", [(part, "Byte")], relative=True)
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        archive.write(part, part.name)
        archive.write(vrt, vrt.name)

    with open_scene(f"/vsizip/{tmp_path}/both.zip/whole.vrt") as scene:
        assert scene.read(scene.frame.window)[1].all()
        assert scene.fingerprint() == scene.fingerprint()


def test_tags_that_are_not_utf8_do_not_stop_the_work(make_raster: MakeRaster) -> None:
    path = make_raster()
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(TIFFTAG_ARTIST="Z?rich", AREA_OR_POINT="Point")
        raster.update_tags(ns="MINE", a="b")
    path.write_bytes(path.read_bytes().replace(b"Z?rich", "Zürich".encode("latin-1")))

    with open_scene(str(path)) as scene:
        assert scene.read(scene.frame.window)[1].all()
        assert scene.frame.tags == {"": {"AREA_OR_POINT": "Point"}, "MINE": {"a": "b"}}


@pytest.mark.parametrize("compress", ["deflate", "lzw", "jpeg", "zstd", None])
def test_damaged_pixels_are_named_by_file_and_window(
    make_raster: MakeRaster, compress: str | None
) -> None:
    options = {"compress": compress} if compress else {}
    path = make_raster(height=256, width=256, tiled=True, blockxsize=64, blockysize=64, **options)
    os.truncate(path, path.stat().st_size // 2)

    caught = read_refusal(path, Window(128, 100, 128, 156))

    assert caught.code in {"INPUT_CORRUPT", "INPUT_UNREADABLE"}
    assert str(path) in caught.message
    if caught.code == "INPUT_CORRUPT":
        assert "Rows 128 to 255, columns 100 to 255" in caught.message


def test_scene_goes_on_after_a_damaged_window(make_raster: MakeRaster) -> None:
    path = make_raster(
        height=128, width=128, tiled=True, blockxsize=64, blockysize=64, compress="deflate"
    )
    with rasterio.open(path) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 64)

    with open_scene(str(path)) as scene:
        with pytest.raises(InputError):
            scene.read(Window(64, 64, 64, 64))

        assert scene.read(Window(0, 0, 64, 64))[1].all()


def test_file_that_vanishes_while_open_is_reported(make_raster: MakeRaster) -> None:
    path = make_raster()
    with open_scene(str(path)) as scene:
        scene.close()
        path.unlink()

        with pytest.raises(InputError) as caught:
            scene.read(Window(0, 0, 8, 8))

    assert caught.value.code == "INPUT_MISSING"


def test_python_inside_a_virtual_raster_is_never_run(
    make_raster: MakeRaster, tmp_path: Path
) -> None:
    part = make_raster(name="part.tif", height=4, width=4, count=1)
    canary = tmp_path / "canary"
    path = write_vrt(
        tmp_path / "code.vrt",
        [(part, "Byte")],
        band='subClass="VRTDerivedRasterBand"',
        extra="<PixelFunctionType>f</PixelFunctionType>"
        "<PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode><![CDATA["
        f"def f(*a, **k):\n    open({str(canary)!r}, 'w')\n]]></PixelFunctionCode>",
    )

    read_refusal(path, Window(0, 0, 4, 4))

    assert not canary.exists()


def write_vrt(
    path: Path,
    parts: list[tuple[Path, str]],
    *,
    band: str = "",
    extra: str = "",
    relative: bool = False,
) -> Path:
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}" {band}>{extra}<SimpleSource>'
        f'<SourceFilename relativeToVRT="{int(relative)}">{part.name if relative else part}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (part, kind) in enumerate(parts, start=1)
    )
    path.write_text(f'<VRTDataset rasterXSize="4" rasterYSize="4">{bands}</VRTDataset>')
    return path
