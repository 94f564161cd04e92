# SPDX-License-Identifier: GPL-3.0-or-later
"""Label pictures of a folder: where they are, what they hold, and when they are made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from dehaze_core.engine.progress import Silent
from dehaze_core.engine.segments import folder as module
from dehaze_core.engine.segments.folder import SegmentSetSettings, segment_set
from dehaze_core.errors import InputError, OutputError, SettingsError
from dehaze_core.places import masks_folder
from tests.conftest import write_raster
from tests.engine.segmenters import ByColour, field_labels, fields


@pytest.fixture(autouse=True)
def segmenter(monkeypatch: pytest.MonkeyPatch) -> ByColour:
    found = ByColour()
    monkeypatch.setattr(module, "find_segmenter", lambda name, device: found)
    return found


@pytest.fixture
def settings(tmp_path: Path) -> SegmentSetSettings:
    """Settings for three pictures: GeoTIFF, PNG in a folder, and 16 bits."""
    source = tmp_path / "pictures"
    (source / "a" / "b").mkdir(parents=True)
    write_raster(source / "first.tif", data=fields(48, 64))
    Image.fromarray(fields(30, 40).transpose(1, 2, 0)).save(source / "a" / "b" / "second.png")
    write_raster(source / "a" / "third.tif", data=fields(50, 20, "uint16"))
    (source / "notes.txt").write_text("no picture")
    return SegmentSetSettings(
        source=source,
        destination=tmp_path / "labels",
        segmenter="slic",
        side=256,
        device="cpu",
        threads=1,
    )


def labels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.mode == "I;16"
        return np.asarray(picture)


def test_every_picture_has_its_label_picture(settings: SegmentSetSettings) -> None:
    report = segment_set(settings, Silent())

    assert (report.pictures, report.written, report.kept) == (3, 3, 0)
    found = {
        path.relative_to(settings.destination).as_posix()
        for path in settings.destination.rglob("*")
        if path.is_file()
    }
    assert found == {"first.png", "a/b/second.png", "a/third.png"}
    assert_array_equal(labels_of(settings.destination / "first.png"), field_labels(48, 64))
    assert_array_equal(labels_of(settings.destination / "a/b/second.png"), field_labels(30, 40))
    # What is made once for all need not be remembered.
    assert not masks_folder().exists()


def test_large_pictures_have_smaller_label_pictures(settings: SegmentSetSettings) -> None:
    write_raster(settings.source / "large.tif", data=fields(300, 512))

    segment_set(settings, Silent())

    assert_array_equal(labels_of(settings.destination / "large.png"), field_labels(150, 256))


def test_goes_on_where_it_was_stopped(
    settings: SegmentSetSettings, segmenter: ByColour, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(Silent):
        def update(self, fraction: float, text: str) -> None:
            if fraction > 0.5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_set(settings, Stopping())
    done = len(segmenter.pictures)
    # From another folder, by a path that is not absolute.
    monkeypatch.chdir(settings.source.parent)
    again = SegmentSetSettings(
        source=Path("pictures"), destination=Path("labels"), segmenter="slic", side=256
    )
    report = segment_set(again, Silent())

    assert done == 2
    assert (report.written, report.kept) == (1, 2)
    assert len(segmenter.pictures) == 3
    assert segment_set(again, Silent()).kept == 3


def test_changed_and_damaged_ones_are_made_again(
    settings: SegmentSetSettings, segmenter: ByColour
) -> None:
    segment_set(settings, Silent())
    write_raster(settings.source / "first.tif", data=fields(48, 64)[:, ::-1].copy())
    damaged = settings.destination / "a/third.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])

    report = segment_set(settings, Silent())

    assert (report.written, report.kept) == (2, 1)
    assert labels_of(settings.destination / "first.png")[0, -1] == 2
    segmenter.identity = "other weights"
    assert segment_set(settings, Silent()).written == 3


def test_pictures_of_one_name_are_refused(settings: SegmentSetSettings) -> None:
    write_raster(settings.source / "first.png", data=fields(48, 64), driver="PNG")

    with pytest.raises(InputError) as caught:
        segment_set(settings, Silent())

    assert caught.value.code == "INPUT_NAMES"
    assert not settings.destination.exists()


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    settings = SegmentSetSettings(source=tmp_path / "none", destination=tmp_path / "out")
    for code in ("INPUT_MISSING", "INPUT_EMPTY"):
        with pytest.raises(InputError) as caught:
            segment_set(settings, Silent())
        assert caught.value.code == code
        (tmp_path / "none").mkdir(exist_ok=True)


@pytest.mark.parametrize(
    "options", [{"segmenter": "eye"}, {"side": 10}, {"tiles": 0}, {"threads": 0}, {"device": "x"}]
)
def test_settings_out_of_range_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        SegmentSetSettings(
            source=tmp_path / "in",
            destination=tmp_path / "out",
            **options,  # type: ignore[arg-type]
        )


def test_label_pictures_among_the_pictures_are_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "labels"):
        with pytest.raises(SettingsError, match="among the pictures"):
            SegmentSetSettings(source=tmp_path, destination=place)


def test_more_segments_than_numbers_are_refused(
    settings: SegmentSetSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LABELS", 2)

    with pytest.raises(OutputError) as caught:
        segment_set(settings, Silent())

    assert caught.value.code == "OUTPUT_DTYPE"
