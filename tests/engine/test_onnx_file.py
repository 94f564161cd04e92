# SPDX-License-Identifier: GPL-3.0-or-later
"""Models as one ONNX file: what other programs get from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.engine import onnx_file
from dehaze_core.engine.in_memory import restore_array
from dehaze_core.engine.onnx_file import export_model
from dehaze_core.errors import ModelError, OutputError, SettingsError
from dehaze_core.models import load_model, save_model
from dehaze_core.models.architectures import build_network
from tests.engine.painters import tiny_dehazexl

pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

STUDENT = "small-student"


@pytest.fixture(scope="module", autouse=True)
def _models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let there be a small model of each kind that Dehaze does not ship in that size."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(9)
    student = build_network("distilled", {"width": 8, "outer": 2, "inner": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEHAZE_MODELS", str(folder))
        save_model(student, STUDENT, folder, {})
        save_model(tiny_dehazexl(), "small-painter", folder, {})
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return an exported file of each kind by the name of its model."""
    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / f"{name}.onnx" for name in ("dehazexl-lite", STUDENT)}
    for name, path in paths.items():
        export_model(name, path)
    return paths


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run_alone(path: Path, picture: NDArray[np.uint8]) -> NDArray[np.int_]:
    """Dehaze a picture as a program would that knows numpy and onnxruntime only."""
    hazy = (picture.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    (clear,) = session(path).run(["output"], {"input": hazy})
    assert clear.dtype == np.float32
    assert 0 <= clear.min() <= clear.max() <= 1
    return np.rint(clear[0].transpose(1, 2, 0) * 255).astype(int)


@pytest.mark.parametrize("name", ["dehazexl-lite", STUDENT])
@pytest.mark.parametrize("size", [(32, 64), (128, 96), (160, 320)])
def test_a_file_gives_the_pixels_of_the_model(
    files: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    # Under haze, with some white: of that, the scattering model never makes a darker value.
    picture = np.random.default_rng(size[0]).integers(90, 260, (*size, 3)).clip(max=255)
    picture = picture.astype(np.uint8)

    clear = run_alone(files[name], picture)

    expected = restore_array(picture, name).astype(int)
    assert np.abs(clear - expected).max() <= 1
    assert np.abs(expected - picture).max() >= 5


def test_a_file_tells_what_it_is(files: dict[str, Path]) -> None:
    card = load_model("dehazexl-lite").card

    told = session(files["dehazexl-lite"]).get_modelmeta().custom_metadata_map

    values = {key: json.loads(value) for key, value in told.items()}
    assert values["dehaze_model"] == "dehazexl-lite"
    assert values["dehaze_sha256"] == card.sha256
    assert values["dehaze_licence"] == card.licence
    # As Deepness asks for them.
    assert str(values["model_type"]).capitalize() == "Superresolution"
    assert int(values["tile_size"]) % 32 == 0
    assert int(values["tiles_overlap"]) == 0


def test_sides_can_be_fixed_for_programs_that_need_it(tmp_path: Path) -> None:
    path = tmp_path / "fixed.onnx"

    result = CliRunner().invoke(
        app, ["models", "export", STUDENT, str(path), "--side", "96"], catch_exceptions=False
    )

    assert "Wrote" in result.output
    fixed = session(path)
    assert fixed.get_inputs()[0].shape == fixed.get_outputs()[0].shape == [1, 3, 96, 96]
    assert json.loads(fixed.get_modelmeta().custom_metadata_map["tile_size"]) == 96
    picture = np.full((96, 96, 3), 200, np.uint8)
    assert np.abs(run_alone(path, picture) - restore_array(picture, STUDENT)).max() <= 1


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("mine")

    with pytest.raises(OutputError, match="exists already") as error:
        export_model(STUDENT, path)
    assert (error.value.code, path.read_text()) == ("OUTPUT_EXISTS", "mine")

    export_model(STUDENT, path, overwrite=True)
    assert session(path).get_inputs()[0].name == "input"


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)

    with pytest.raises(OutputError) as error:
        export_model(STUDENT, tmp_path / "model.onnx")
    assert error.value.code == "OUTPUT_DISK_FULL"
    assert not list(tmp_path.iterdir())


def test_a_model_without_one_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected dehazexl-lite or distilled") as error:
        export_model("small-painter", tmp_path / "model.onnx")
    assert error.value.code == "BACKEND_MODEL"


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [("model.pt", None, "ends in .onnx"), ("model.onnx", 100, "multiple of 32")],
)
def test_what_cannot_be_meant_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, side: int | None, message: str
) -> None:
    monkeypatch.setattr(onnx_file, "load_model", None)

    with pytest.raises(SettingsError, match=message):
        export_model(STUDENT, tmp_path / name, side)
