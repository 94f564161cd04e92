# SPDX-License-Identifier: GPL-3.0-or-later
"""Formats of outputs: chosen by path or by name, checked before the work, replaced with care."""

from __future__ import annotations

import math
import os
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import rasterio

from dehaze_core.engine.leftovers import find_leftovers
from dehaze_core.engine.output import aside, finalise
from dehaze_core.engine.output.formats import OutputFormat, check_output, output_format
from dehaze_core.errors import DehazeError, OutputError, SettingsError
from dehaze_core.scene import Frame, open_scene
from tests.conftest import write_raster
from tests.engine.outputs import LOCAL, frame_of, pixels_of, write, write_folder


@pytest.mark.parametrize(
    ("path", "requested", "chosen"),
    [
        ("a.tif", None, "cog"),
        ("a.zarr", None, "zarr"),
        ("a.ZARR", None, "zarr"),
        ("a", None, "cog"),
        ("a.tif", "gtiff", "gtiff"),
        ("a", "zarr", "zarr"),
    ],
)
def test_format_is_as_asked_or_by_the_path(path: str, requested: str | None, chosen: str) -> None:
    assert output_format(Path(path), requested) == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize(("path", "requested"), [("a.zarr", "cog"), ("a.tif", "png")])
def test_format_that_contradicts_is_refused(path: str, requested: str) -> None:
    with pytest.raises(SettingsError) as caught:
        output_format(Path(path), requested)  # type: ignore[arg-type]

    assert caught.value.code == "SETTINGS_FORMAT"


# ------------------------------------------------------------------ before the work


def refusal(format_name: OutputFormat, destination: Path, frame: Frame, **options: object) -> str:
    before = sorted(path for path in destination.parent.rglob("*"))

    with pytest.raises(DehazeError) as caught:
        check_output(format_name, frame, destination, work_folder=destination.parent, **options)  # type: ignore[arg-type]

    assert sorted(path for path in destination.parent.rglob("*")) == before
    return caught.value.code


@pytest.mark.parametrize("format_name", get_args(OutputFormat))
def test_check_leaves_nothing_and_says_what_the_writing_will(
    tmp_path: Path, format_name: OutputFormat
) -> None:
    frame = frame_of(nodata=(1.0, 2.0, 3.0), mask="nodata", dtype="int16", left_behind=("notes",))

    said = check_output(format_name, frame, tmp_path / "out", work_folder=tmp_path)

    assert os.listdir(tmp_path) == []
    assert any("notes" in sentence for sentence in said)
    assert any("nodata" in sentence for sentence in said) == (format_name != "zarr")


@pytest.mark.parametrize("format_name", ["cog", "gtiff"])
def test_type_and_options_that_do_not_fit_are_known_early(
    tmp_path: Path, format_name: OutputFormat
) -> None:
    path = tmp_path / "out.tif"

    assert refusal(format_name, path, frame_of(dtype="float16")) == "OUTPUT_DTYPE"
    for option in ("NONSENSE=1", "COMPRESS=MAGIC", "COMPRESS"):
        code = refusal(format_name, path, frame_of(), creation_options=[option])
        assert code == "SETTINGS_OPTION"


RGBA = {
    "count": 4,
    "mask": "alpha",
    "alpha_band": 3,
    "color_interp": ("red", "green", "blue", "alpha"),
}


@pytest.mark.parametrize("format_name", ["cog", "gtiff"])
@pytest.mark.parametrize(
    ("traits", "options"),
    [
        ({"nodata": (0.0,) * 3, "mask": "nodata"}, ["COMPRESS=JPEG"]),
        ({"nodata": (0.0,) * 3, "mask": "nodata"}, ["compress=webp"]),
        ({"nodata": (0.0,) * 3, "mask": "nodata"}, ["COMPRESS=LERC", "MAX_Z_ERROR=0.5"]),
        ({"nodata": (math.nan,) * 3, "mask": "nan", "dtype": "float32"}, ["COMPRESS=JXL"]),
        (RGBA, ["COMPRESS=JPEG"]),
        ({"dtype": "uint16"}, ["COMPRESS=JPEG"]),
        ({"count": 5}, ["COMPRESS=JPEG"]),
        ({"count": 1}, ["COMPRESS=WEBP"]),
        ({"dtype": "int64"}, ["COMPRESS=LERC"]),
    ],
)
def test_compression_that_would_lose_missing_pixels_or_all_of_them_is_refused(
    tmp_path: Path, format_name: OutputFormat, traits: dict[str, Any], options: list[str]
) -> None:
    code = refusal(format_name, tmp_path / "o.tif", frame_of(**traits), creation_options=options)

    assert code == "SETTINGS_OPTION"


@pytest.mark.parametrize("format_name", ["cog", "gtiff"])
@pytest.mark.parametrize(
    ("traits", "options"),
    [
        ({"nodata": (7.0,) * 3, "mask": "nodata"}, ["COMPRESS=LERC", "MAX_Z_ERROR=0"]),
        (RGBA, ["COMPRESS=WEBP"]),
    ],
)
def test_compression_that_keeps_missing_pixels_is_allowed(
    tmp_path: Path, format_name: OutputFormat, traits: dict[str, Any], options: list[str]
) -> None:
    frame, path = frame_of(height=300, width=300, **traits), tmp_path / "o.tif"
    data = pixels_of(frame)
    data[:, :40, :70] = 7
    if frame.alpha_band is not None:
        data[3] = np.random.default_rng(1).integers(0, 3, data[3].shape)

    assert write(path, frame, data, format_name=format_name, creation_options=options) == ()

    with rasterio.open(path) as raster:
        expected = data[3] > 0 if frame.alpha_band is not None else (data != 7).any(axis=0)
        assert np.array_equal(raster.dataset_mask() > 0, expected)


@pytest.mark.parametrize("format_name", ["cog", "gtiff"])
def test_fill_that_nothing_declares_is_warned_of(tmp_path: Path, format_name: OutputFormat) -> None:
    frame = frame_of(color_interp=("red", "green", "blue"))

    said = check_output(format_name, frame, tmp_path / "o.tif", creation_options=["COMPRESS=WEBP"])

    assert len(said) == 1
    assert "zeros" in said[0]
    assert check_output(format_name, frame, tmp_path / "o.tif") == ()


@pytest.mark.parametrize("format_name", ["cog", "gtiff"])
@pytest.mark.parametrize(
    "option",
    [
        *("OVERVIEW_RESAMPLING=FOO", "OVERVIEW_COMPRESS=MAGIC", "PREDICTOR=4"),
        *("BLOCKSIZE=16", "BLOCKSIZE=48", "BLOCKSIZE=192", "BLOCKSIZE=x"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    tmp_path: Path, format_name: OutputFormat, option: str
) -> None:
    code = refusal(format_name, tmp_path / "o.tif", frame_of(), creation_options=[option])

    assert code == "SETTINGS_OPTION"


@pytest.mark.parametrize(
    "option", ["OVERVIEWS=NONE", "OVERVIEW_COMPRESS=LZW", "MAX_Z_ERROR_OVERVIEW=1"]
)
def test_options_of_the_cog_driver_alone_are_refused_for_a_plain_geotiff(
    tmp_path: Path, option: str
) -> None:
    check_output("cog", frame_of(), tmp_path / "o.tif", creation_options=[option])

    code = refusal("gtiff", tmp_path / "o.tif", frame_of(), creation_options=[option])

    assert code == "SETTINGS_OPTION"


@pytest.mark.parametrize(("width", "height"), [(3000, 20), (20, 3000), (600, 600)])
@pytest.mark.parametrize("format_name", ["cog", "gtiff"])
def test_trial_has_an_overview_where_the_output_has(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format_name: OutputFormat,
    width: int,
    height: int,
) -> None:
    made: list[tuple[list[int], tuple[int, ...]]] = []
    put = aside.put_file

    def note(path: Path, destination: Path, **options: bool) -> None:
        with rasterio.open(path) as raster:
            made.append((raster.overviews(1), raster.shape))
        put(path, destination, **options)

    monkeypatch.setattr(finalise, "put_file", note)
    check_output(format_name, frame_of(width=width, height=height), tmp_path / "o.tif")

    assert [levels for levels, _ in made] == [[2]]
    assert min(made[0][1]) == 16


@pytest.mark.parametrize("option", ["COMPRESS=LZW", "LEVEL=99", "BLOCKSIZE=100", "PREDICTOR=2"])
def test_options_that_zarr_does_not_know_are_refused(tmp_path: Path, option: str) -> None:
    code = refusal("zarr", tmp_path / "o.zarr", frame_of(), creation_options=[option])

    assert code == "SETTINGS_OPTION"


@pytest.mark.parametrize("format_name", get_args(OutputFormat))
def test_output_may_not_be_contain_or_lie_inside_the_input(
    tmp_path: Path, format_name: OutputFormat
) -> None:
    (tmp_path / "in.zarr").mkdir()
    source = tmp_path / "in.zarr"
    (tmp_path / "link").symlink_to(source)

    for output in (source, source / "out.tif", tmp_path / "link", tmp_path / "link" / "out"):
        (output.parent / "other").mkdir(exist_ok=True)
        assert refusal(format_name, output, frame_of(), inputs=[source]) == "OUTPUT_INPUT"
    assert (
        refusal(format_name, source, frame_of(), inputs=[source / "inner" / "a.tif"])
        == "OUTPUT_INPUT"
    )


def test_parts_of_a_mosaic_are_inputs_too(tmp_path: Path) -> None:
    write_raster(tmp_path / "part.tif")
    (tmp_path / "mosaic.vrt").write_text(
        """<VRTDataset rasterXSize="64" rasterYSize="48"><VRTRasterBand dataType="Byte" band="1">
        <SimpleSource><SourceFilename relativeToVRT="1">part.tif</SourceFilename>
        <SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
    )

    with open_scene(str(tmp_path / "mosaic.vrt")) as scene:
        code = refusal("cog", tmp_path / "part.tif", scene.frame, inputs=scene.files)

    assert code == "OUTPUT_INPUT"


@pytest.mark.parametrize("spelling", ["/vsizip/{}/in/a.tif", "/vsizip/{{{}}}/in/a.tif"])
def test_archive_of_the_input_is_not_replaced(tmp_path: Path, spelling: str) -> None:
    write_raster(tmp_path / "a.tif")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "a.tif", "in/a.tif")

    with open_scene(spelling.format(tmp_path / "all.zip")) as scene:
        assert scene.files == (tmp_path / "all.zip",)
        code = refusal("cog", tmp_path / "all.zip", scene.frame, inputs=scene.files)

    assert code == "OUTPUT_INPUT"


@pytest.mark.parametrize("format_name", get_args(OutputFormat))
def test_folder_that_is_no_raster_is_never_replaced(
    tmp_path: Path, format_name: OutputFormat
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "only copy.jpg").write_bytes(b"x")

    assert refusal(format_name, tmp_path / "photos", frame_of()) == "OUTPUT_EXISTS"


def test_file_is_not_replaced_by_a_folder_nor_a_folder_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "file.zarr").write_bytes(b"x")
    write_folder(tmp_path / "group.zarr", frame_of())

    assert refusal("zarr", tmp_path / "file.zarr", frame_of()) == "OUTPUT_EXISTS"
    assert refusal("cog", tmp_path / "group.zarr", frame_of()) == "OUTPUT_EXISTS"


# ------------------------------------------------------------------ what TIFF keys cannot express


@pytest.mark.parametrize("format_name", ["cog", "gtiff"])
def test_crs_without_geotiff_keys_lies_beside_and_moves_along(
    tmp_path: Path, format_name: OutputFormat
) -> None:
    path, frame = tmp_path / "out.tif", frame_of(crs_wkt=LOCAL)

    lost = write(path, frame, format_name=format_name)

    assert len(lost) == 1
    assert "out.tif.aux.xml" in lost[0]
    assert sorted(os.listdir(tmp_path)) == ["out.tif", "out.tif.aux.xml"]
    with open_scene(str(path)) as scene:
        assert "pole by the gate" in str(scene.frame.crs_wkt)
    write(path, frame_of(), format_name=format_name)
    assert os.listdir(tmp_path) == ["out.tif"]


def test_frame_that_does_not_read_back_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dehaze_core.engine.output.finalise.keep_beside", lambda path, frame: ())

    assert refusal("cog", tmp_path / "out.tif", frame_of(crs_wkt=LOCAL)) == "OUTPUT_FRAME"


def test_failure_of_a_compression_is_not_blamed_on_the_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dehaze_core.engine.output.cog_options._holds", lambda method, frame: True)

    with pytest.raises(OutputError) as caught:
        check_output(
            "cog", frame_of(count=5), tmp_path / "o.tif", creation_options=["COMPRESS=JPEG"]
        )

    assert "COMPRESS=JPEG" in caught.value.message
    assert "frame" not in caught.value.message
    assert "creation options" in caught.value.hint


@pytest.mark.parametrize("format_name", get_args(OutputFormat))
def test_trial_cut_short_is_something_that_clean_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: OutputFormat
) -> None:
    monkeypatch.setattr("shutil.rmtree", lambda path, **options: None)

    check_output(format_name, frame_of(), tmp_path / "out.tif")

    (leftover,) = find_leftovers([tmp_path])
    assert (leftover.kind, leftover.output) == ("temporary", "out")


def test_read_only_folder_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is read-only for root")
    tmp_path.chmod(0o500)

    with pytest.raises(OutputError) as caught:
        write_folder(tmp_path / "out.zarr", frame_of())

    assert caught.value.code == "OUTPUT_PERMISSION"


def test_a_temporary_folder_goes_although_threads_still_write_into_it(tmp_path: Path) -> None:
    def write(name: str) -> None:
        started.wait()
        while time.monotonic() < until:
            with suppress(OSError):
                (made / name).write_bytes(b"late")

    started, until = threading.Barrier(9), time.monotonic() + 0.5
    threads = [threading.Thread(target=write, args=(str(number),)) for number in range(8)]

    with aside.temporary_folder(tmp_path / "out.zarr", None) as made:
        for thread in threads:
            thread.start()
        started.wait()
    for thread in threads:
        thread.join()

    assert list(tmp_path.iterdir()) == []
