# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs whose pixels are computed by onnxruntime, and which backend is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.cli import run as run_command
from dehaze_core.engine import RunSettings, make_plan, runner
from dehaze_core.engine import backend as backends
from dehaze_core.engine.backend import backend_of, device_for, with_backend
from dehaze_core.engine.device import Device, choose_device
from dehaze_core.errors import ModelError, SettingsError
from dehaze_core.models import Model, load_model
from dehaze_core.models.architectures import build_network
from dehaze_core.models.onnx.session import Session
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.scene.srgb import encode_uint8
from tests.engine.painters import as_model, tiny_dehazexl
from tests.engine.test_resume import Interrupter, Interruption, Listener, read, start

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

MakeRaster = Callable[..., Path]

CPU = choose_device("cpu")
CUDA = Device(torch.device("cuda"), "CUDA (pretended)", torch.float16)


@pytest.fixture(scope="module", autouse=True)
def _exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep exported networks from one test to the next, but out of the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEHAZE_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


def distilled() -> StreamedNetwork:
    torch.manual_seed(8)
    network = build_network("distilled", {"width": 8, "outer": 2, "inner": 2})
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.detach().mul_(1.5)
    return network.eval().requires_grad_(False)


def model_of(architecture: str) -> Model:
    return load_model("dehazexl-lite") if "lite" in architecture else as_model(distilled())


@pytest.mark.parametrize("architecture", ["dehazexl-lite", "distilled"])
@pytest.mark.parametrize("size", [(96, 120), (160, 96), (200, 260)])
def test_a_run_in_onnxruntime_equals_one_in_pytorch(
    make_raster: MakeRaster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hazy: NDArray[np.float32],
    architecture: str,
    size: tuple[int, int],
) -> None:
    picture = encode_uint8(hazy[:, : size[0], : size[1]])
    source = make_raster(data=picture)
    monkeypatch.setattr(runner, "load_model", lambda name: model_of(architecture))

    expected, found = (
        dehaze(source, tmp_path / f"{backend}.tif", backend) for backend in ("torch", "onnxruntime")
    )

    assert np.abs(found - expected).max() <= 1
    assert np.abs(expected - picture).max() >= 5


def dehaze(source: Path, out: Path, backend: str) -> NDArray[np.int_]:
    report = start(source, out, backend=backend, threads=1)
    assert report.backend.startswith(backend)
    with rasterio.open(out) as raster:
        assert raster.tags()["DEHAZE_BACKEND"] == report.backend
    return read(out).astype(int)


def test_a_run_does_not_go_on_with_blocks_of_another_backend(
    make_raster: MakeRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "load_model", lambda name: as_model(distilled()))
    source, out = make_raster(height=100, width=190), tmp_path / "out.tif"
    with pytest.raises(Interruption):
        start(source, out, Interrupter(0.7), backend="torch", block_size=64)
    listener = Listener()

    report = start(source, out, listener, backend="onnxruntime", block_size=64)

    assert report.resumed_blocks == 0
    assert any("differs in backend" in warning for warning in listener.warnings)


def test_a_plan_names_the_backend_and_times_it(make_raster: MakeRaster) -> None:
    settings = RunSettings(
        source=str(make_raster()), destination="not written", backend="onnxruntime"
    )

    plan = make_plan(settings)

    assert plan.backend.startswith("onnxruntime ")
    assert plan.seconds is not None
    assert plan.seconds > 0


@pytest.mark.parametrize(
    ("choice", "faster", "device", "installed", "expected"),
    [
        ("auto", True, CPU, True, "onnxruntime"),
        ("auto", False, CPU, True, "torch"),
        ("auto", True, CUDA, True, "torch"),
        ("auto", True, CPU, False, "torch"),
        ("torch", True, CPU, True, "torch"),
        ("onnxruntime", False, CPU, True, "onnxruntime"),
    ],
)
def test_auto_takes_the_faster_backend_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
    choice: Any,
    faster: bool,
    device: Device,
    installed: bool,
    expected: str,
) -> None:
    fast = frozenset({"distilled"}) if faster else frozenset()
    monkeypatch.setattr(backends, "FASTER_IN_ONNXRUNTIME", fast)
    monkeypatch.setattr(backends, "is_installed", lambda: installed)

    network = with_backend(distilled(), choice, device, 1)

    assert backend_of(network).partition(" ")[0] == expected


def test_auto_leaves_a_network_alone_that_cannot_be_exported() -> None:
    network = tiny_dehazexl()

    assert with_backend(network, "auto", CPU, 1) is network


@pytest.mark.parametrize(("choice", "refused"), [("auto", False), ("onnxruntime", True)])
def test_auto_stays_with_pytorch_where_onnxruntime_computes_something_else(
    monkeypatch: pytest.MonkeyPatch, choice: Any, refused: bool
) -> None:
    monkeypatch.setattr(backends, "FASTER_IN_ONNXRUNTIME", frozenset({"distilled"}))
    monkeypatch.setattr(Session, "agrees", lambda *arguments: False)
    network = distilled()

    with pytest.raises(ModelError) if refused else nullcontext():
        assert with_backend(network, choice, CPU, 1) is network


@pytest.mark.parametrize("architecture", ["dehazexl-lite", "distilled"])
def test_the_network_keeps_what_the_engine_knows_it_by(architecture: str) -> None:
    network = model_of(architecture).network

    replaced = with_backend(network, "onnxruntime", CPU, 1)

    known = [name for name in dir(network) if isinstance(getattr(network, name), (int, str, bool))]
    kept = {"architecture", "bands", "paints", "token_width", "unit_px", "halo_px"}
    assert kept <= set(known)
    public = [name for name in known if not name.startswith("_")]
    assert {n: getattr(replaced, n) for n in public} == {n: getattr(network, n) for n in public}
    assert replaced.config is network.config
    assert replaced.footprint.fixed_mib > network.footprint.fixed_mib


def test_onnxruntime_computes_on_the_cpu() -> None:
    settings = RunSettings(source="a.tif", destination="b.tif", backend="onnxruntime")
    assert device_for(settings).torch.type == "cpu"

    with pytest.raises(SettingsError, match="onnxruntime computes on the CPU"):
        dataclasses.replace(settings, device="cuda")


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(SettingsError, match="Backend 'tensorflow' is unknown"):
        RunSettings(source="a.tif", destination="b.tif", backend="tensorflow")  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["run", "plan"])
def test_the_command_line_takes_a_backend(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    class Taken(Exception):
        pass

    def settings(**values: Any) -> None:
        raise Taken(values["backend"])

    monkeypatch.setattr(run_command, "_settings", settings)
    arguments = [command, "in.tif", *(["out.tif"] if command == "run" else [])]

    result = CliRunner().invoke(app, [*arguments, "--backend", "onnxruntime"])

    assert str(result.exception) == "onnxruntime"
