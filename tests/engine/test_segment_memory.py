# SPDX-License-Identifier: GPL-3.0-or-later
"""Segments of a scene are found once, and remembered only for what they depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dehaze_core.engine.progress import Silent
from dehaze_core.engine.segments import segment as job
from dehaze_core.engine.segments.segment import segment
from dehaze_core.places import masks_folder
from tests.conftest import write_raster
from tests.engine.segmenters import ByColour, fields
from tests.engine.test_segment import MakeRaster, settings_for


@pytest.fixture(autouse=True)
def segmenter(monkeypatch: pytest.MonkeyPatch) -> ByColour:
    """Let segmentations find every colour, whichever segmenter they name."""
    found = ByColour()
    monkeypatch.setattr(job, "find_segmenter", lambda name, device: found)
    return found


def test_segments_are_remembered(make_raster: MakeRaster, segmenter: ByColour) -> None:
    source = make_raster(data=fields(48, 64))
    settings = settings_for(source, labels=str(source.with_name("labels.tif")))
    first = segment(settings, Silent())
    codes, labels = (Path(path).read_bytes() for path in settings.outputs)

    again = segment(settings, Silent())
    other_coding = segment(replace(settings, coding="paper_sum_clip"), Silent())
    # Not the same segments any more.
    others = [
        segment(replace(settings, side=300), Silent()),
        segment(replace(settings, tiles=3), Silent()),
        segment(replace(settings, bands=(1, 1, 2)), Silent()),
        segment(replace(settings, extent=(500_000, 5_399_800, 500_400, 5_400_000)), Silent()),
    ]

    assert [first.cached, again.cached, other_coding.cached] == [False, True, True]
    assert not any(report.cached for report in others)
    assert len(segmenter.pictures) == 5
    segment(settings, Silent())
    assert [Path(path).read_bytes() for path in settings.outputs] == [codes, labels]
    assert replace(again, cached=False, seconds=0.0, peak_memory_mib=0) == replace(
        first, seconds=0.0, peak_memory_mib=0
    )


def test_other_source_or_segmenter_is_segmented_again(
    make_raster: MakeRaster, segmenter: ByColour
) -> None:
    source = make_raster(data=fields(48, 64))
    segment(settings_for(source), Silent())

    segmenter.identity = "by colour, other weights"
    assert not segment(settings_for(source), Silent()).cached
    write_raster(source, data=fields(48, 64)[:, ::-1].copy())
    assert not segment(settings_for(source), Silent()).cached
    assert segment(settings_for(source), Silent()).cached


def flipped(data: bytes) -> bytes:
    return data[:-200] + bytes([data[-200] ^ 4]) + data[-199:]


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: b"", flipped])
def test_damaged_memory_counts_as_none(
    make_raster: MakeRaster, damage: Callable[[bytes], bytes]
) -> None:
    source = make_raster(data=fields(48, 64))
    report = segment(settings_for(source), Silent())
    codes = Path(report.output).read_bytes()
    (kept,) = masks_folder().iterdir()
    kept.write_bytes(damage(kept.read_bytes()))

    again = segment(settings_for(source), Silent())

    assert not again.cached
    assert Path(again.output).read_bytes() == codes
    assert segment(settings_for(source), Silent()).cached
