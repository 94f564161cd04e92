# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings are checked, plans fit into memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dehaze_core.engine import RunSettings, forecast, preflight, trial
from dehaze_core.engine import plan as plans
from dehaze_core.engine.device import Device, choose_device
from dehaze_core.engine.journal import BlockRecord, Journal
from dehaze_core.engine.plan import choose_model_bands, draw_plan
from dehaze_core.errors import ResourceError, SettingsError
from dehaze_core.models import Model, load_model
from dehaze_core.models.architectures import build_network
from dehaze_core.models.dehazexl.published import DehazeXL
from dehaze_core.scene import Frame
from tests.engine.painters import as_model, tiny_dehazexl

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
        ({"context": "vague"}, "auto, exact, bounded, hyper"),
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


def test_a_block_size_that_does_not_fit_is_refused_with_numbers(model: Model, cpu: Device) -> None:
    with pytest.raises(ResourceError, match=r"4096 px of 3 bands uint8 need \d+ MiB") as caught:
        draw_plan(HUGE, model, cpu, settings(block_size=4096, memory_limit=2000))
    assert caught.value.code == "MEMORY"


def test_no_plan_takes_more_memory_than_is_free(
    model: Model, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "psutil.virtual_memory", lambda: SimpleNamespace(available=1100 * forecast.MIB)
    )

    assert draw_plan(HUGE, model, cpu, settings(memory_limit=8000)).memory_mib <= 1100


def test_blocks_fit_into_the_memory_of_the_device(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Device(torch.device("cuda"), "CUDA (pretended)", torch.bfloat16)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (1000 * 2**20, 8000 * 2**20))

    plan = draw_plan(HUGE, model, cuda, settings(memory_limit=16000))

    assert 0 < plan.device_mib <= 1000


@pytest.mark.parametrize(
    ("architecture", "side"), [("dehazexl-swin-b", 2000), ("dehazexl-base", 150_000)]
)
def test_a_network_may_need_more_than_the_default_memory(
    cpu: Device, monkeypatch: pytest.MonkeyPatch, architecture: str, side: int
) -> None:
    with torch.device("meta"):
        model = as_model(build_network(architecture))  # type: ignore[arg-type]
    frame = Frame(width=side, height=side, count=3, dtype="uint8")
    memory = SimpleNamespace(available=8000 * forecast.MIB)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)

    plan = draw_plan(frame, model, cpu, settings())

    assert forecast.DEFAULT_MEMORY_MIB < plan.memory_mib < 4800
    memory.available = 2000 * forecast.MIB
    with pytest.raises(ResourceError, match="1200 MiB may be used"):
        draw_plan(frame, model, cpu, settings())


def test_the_time_is_that_of_all_blocks_with_halo_and_padding(
    cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "pixel_seconds", lambda *_: 1.0)
    monkeypatch.setattr(plans, "token_seconds", lambda *_: 0.0)
    model = as_model(tiny_dehazexl(overlap=True))
    frame = Frame(width=1300, height=20, count=3, dtype="uint8")

    plan = draw_plan(frame, model, cpu, settings(block_size=512))

    # 256 rows; blocks of 512, 512 and 512 columns, with halos on the inside.
    seconds = plans.measured_seconds(plan, model.network, cpu)
    assert seconds == 256 * (768 + 1024 + 768)


def test_only_looking_at_keys_takes_longer_with_more_of_them(
    cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny_dehazexl()
    costs = iter((5.0, 7.0))
    monkeypatch.setattr(trial, "_timed", lambda work, device: (work(), next(costs)))

    assert trial.token_seconds(network, 4 * 4096, cpu.torch) == (5 + 4 * 2) / 256


@pytest.mark.parametrize(
    ("seconds", "tries"), [((0.9, 0.3, 0.2, 0.1), 3), ((9.0, 4.0, 3.0, 2.0), 2)]
)
def test_a_first_slow_try_does_not_count(
    cpu: Device, monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, ...], tries: int
) -> None:
    readings = iter([0.0, *np.cumsum(np.repeat(seconds, 2))])
    monkeypatch.setattr(trial.time, "perf_counter", lambda: next(readings))
    done = []

    _, found = trial._timed(lambda: done.append(1), cpu.torch)

    assert len(done) == tries
    assert found == pytest.approx(min(seconds[:tries]))


def test_a_raster_too_wide_for_a_row_of_tokens_is_refused(model: Model, cpu: Device) -> None:
    endless = Frame(width=2**31 - 1, height=1, count=1, dtype="uint8")

    with pytest.raises(ResourceError) as caught:
        draw_plan(endless, model, cpu, settings())
    assert caught.value.code == "MEMORY"


def test_disk_is_forecast_stage_by_stage(model: Model, cpu: Device) -> None:
    alone = draw_plan(HUGE, model, cpu, settings())
    layered = draw_plan(HUGE, model, cpu, settings(thickness="thickness.tif"))

    assert alone.disk_mib == alone.disk_stages_mib["writing the output"]
    # The result in its store, its uncompressed copy with overviews, and the final file.
    assert alone.disk_mib * forecast.MIB > 3 * HUGE.width * HUGE.height * 3
    assert all(layered.disk_stages_mib[s] >= mib for s, mib in alone.disk_stages_mib.items())
    assert layered.disk_mib > alone.disk_mib


def test_a_disk_too_small_is_refused_with_the_need_of_each_stage(
    model: Model, cpu: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = draw_plan(HUGE, model, cpu, settings())
    monkeypatch.setattr(preflight, "free_bytes", lambda path: 1000 * forecast.MIB)

    with pytest.raises(ResourceError, match=r"1000 MiB can be used.* removing haze") as caught:
        preflight.check_disk(plan, tmp_path, settings())
    assert caught.value.code == "DISK"


def test_what_an_interrupted_run_holds_need_not_be_free(
    model: Model, cpu: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Frame(width=600, height=600, count=3, dtype="uint8")
    plan = draw_plan(small, model, cpu, settings())
    (tmp_path / "stored").write_bytes(bytes(plan.disk_mib * forecast.MIB))
    monkeypatch.setattr(preflight, "free_bytes", lambda path: 0)

    preflight.check_disk(plan, tmp_path, settings())


def test_block_size_is_rounded_to_whole_tokens(model: Model, cpu: Device) -> None:
    assert draw_plan(HUGE, model, cpu, settings(block_size=1000)).block_size == 992


def test_small_rasters_are_one_block(model: Model, cpu: Device) -> None:
    plan = draw_plan(Frame(width=70, height=9, count=3, dtype="uint8"), model, cpu, settings())

    assert plan.blocks == 1
    assert plan.context == "exact"


def test_blocks_of_the_published_network_consist_of_whole_patches(cpu: Device) -> None:
    with torch.device("meta"):
        model = as_model(DehazeXL())
    frame = Frame(width=1100, height=300, count=3, dtype="uint8")

    plans = [draw_plan(frame, model, cpu, settings(block_size=size)) for size in (64, 1000)]

    assert [plan.block_size for plan in plans] == [256, 768]
    assert [plan.blocks for plan in plans] == [10, 2]
    assert plans[0].tokens == 40 * 16
    assert plans[0].memory_mib > 1000


@pytest.mark.parametrize(
    ("kind", "found", "cell"),
    [
        ("auto", "bounded", 98),
        ("bounded", "bounded", 98),
        ("hyper", "hyper", 1),
        ("exact", "exact", 1),
    ],
)
def test_the_plan_says_how_tokens_look_at_each_other(
    model: Model, cpu: Device, kind: str, found: str, cell: int
) -> None:
    plan = draw_plan(HUGE, model, cpu, settings(context=kind))

    assert (plan.context, plan.context_cell) == (found, cell)
    assert preflight.describe(plan).count(f"context {found}") == 1


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
