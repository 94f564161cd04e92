# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings are checked, plans fit into memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_core.engine import RunSettings
from dehaze_core.engine.device import Device, choose_device
from dehaze_core.engine.journal import BlockRecord, Journal
from dehaze_core.engine.plan import choose_model_bands, draw_plan
from dehaze_core.errors import ResourceError, SettingsError
from dehaze_core.models import Model, load_model
from dehaze_core.scene import Frame

HUGE = Frame(width=100_000, height=100_000, count=3, dtype="uint8")


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("dehazexl-lite")


@pytest.fixture
def cpu() -> Device:
    return choose_device("cpu")


def settings(**values: object) -> RunSettings:
    return RunSettings(**{"source": "in.tif", "destination": "out.tif", **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": 1.6}, "0 to 1.5"),
        ({"strength": float("nan")}, "0 to 1.5"),
        ({"bands": (1, 2)}, "three"),
        ({"bands": (0, 1, 2)}, "counted from 1"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
        ({"extent": (0.0, 0.0, 0.0, 1.0)}, "xmin < xmax"),
        ({"block_size": 10}, "at least 64"),
        ({"memory_limit": 10}, "at least 1024"),
        ({"threads": 0}, "at least 1"),
        ({"destination": "in.tif"}, "never overwritten"),
        ({"thickness": "out.tif"}, "two different"),
        ({"creation_options": ("COMPRESS",)}, "KEY=VALUE"),
        ({"source": ""}, "needed"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**values)


@pytest.mark.parametrize("limit", [1024, 1200, 2000, 8000])
def test_blocks_fit_into_the_memory_limit(model: Model, cpu: Device, limit: int) -> None:
    plan = draw_plan(HUGE, model, cpu, settings(memory_limit=limit))

    assert plan.memory_mib <= limit
    assert plan.context == "bounded"


def test_memory_does_not_depend_on_the_size_of_the_raster(model: Model, cpu: Device) -> None:
    small = Frame(width=20_000, height=20_000, count=3, dtype="uint8")

    plans = [draw_plan(frame, model, cpu, settings(memory_limit=1500)) for frame in (small, HUGE)]

    assert plans[0].memory_mib == plans[1].memory_mib


def test_a_limit_below_the_smallest_block_is_refused_with_numbers(
    model: Model, cpu: Device
) -> None:
    many = Frame(width=9000, height=9000, count=400, dtype="float64")

    with pytest.raises(ResourceError, match="1024 MiB may be used") as caught:
        draw_plan(many, model, cpu, settings(memory_limit=1024))
    assert caught.value.code == "MEMORY"


def test_block_size_is_rounded_to_whole_tokens(model: Model, cpu: Device) -> None:
    assert draw_plan(HUGE, model, cpu, settings(block_size=1000)).block_size == 992


def test_small_rasters_are_one_block(model: Model, cpu: Device) -> None:
    plan = draw_plan(Frame(width=70, height=9, count=3, dtype="uint8"), model, cpu, settings())

    assert plan.blocks == 1
    assert plan.context == "exact"


def test_model_bands_follow_colour_interpretation_or_the_user() -> None:
    frame = Frame(
        width=9,
        height=9,
        count=4,
        dtype="uint8",
        alpha_band=3,
        color_interp=("blue", "green", "red", "alpha"),
    )

    assert choose_model_bands(frame, None) == (2, 1, 0)
    assert choose_model_bands(frame, (1, 2, 3)) == (0, 1, 2)
    with pytest.raises(SettingsError, match="bands 1 to 4, of which 4 is alpha"):
        choose_model_bands(frame, (1, 2, 4))


def test_a_missing_cuda_device_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    with pytest.raises(ResourceError) as caught:
        choose_device("cuda")
    assert caught.value.code == "DEVICE_MISSING"
    assert choose_device("auto").torch.type == "cpu"


def test_a_torn_journal_line_counts_as_not_written(tmp_path: Path) -> None:
    path = tmp_path / "blocks.jsonl"
    journal = Journal(path)
    journal.add(BlockRecord(0, 10, 1.5))
    journal.add(BlockRecord(1, 11, 2.5))
    journal.close()
    path.write_text(path.read_text()[:-12])

    reopened = Journal(path)
    reopened.add(BlockRecord(2, 12, 3.5))
    reopened.close()

    assert {record.index for record in Journal(path)} == {0, 2}
