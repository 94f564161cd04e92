# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks as ONNX graphs: the same answers at any size, and exports that can be trusted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dehaze_core.errors import ModelError, ResourceError
from dehaze_core.models.architectures import build_network
from dehaze_core.models.onnx import exports
from dehaze_core.models.onnx.exports import exports_folder, network_key, open_parts
from dehaze_core.models.onnx.graph import IR_VERSION, OPSET, with_metadata
from dehaze_core.models.onnx.session import Session
from dehaze_core.models.streaming import (
    OverviewNetwork,
    SceneHaze,
    SceneStatistics,
    StreamedNetwork,
    TokenNetwork,
)
from tests.engine.painters import tiny_dehazexl

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

LITE = {
    "widths": [8, 16, 16, 16],
    "encoder_blocks": [1, 1, 1, 1],
    "decoder_blocks": [1, 1, 1],
    "context_layers": 1,
}
DISTILLED = {"width": 8, "outer": 2, "inner": 2}

SIZES = [(32, 32), (96, 160), (224, 128)]


def network_of(architecture: str, seed: int = 5) -> StreamedNetwork:
    """Return a small network with weights as large as trained ones."""
    torch.manual_seed(seed)
    config = LITE if architecture == "dehazexl-lite" else DISTILLED
    network = build_network(architecture, config).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("scale"):
            parameter.fill_(1.0)
        if "head" in name and parameter.ndim > 1:
            parameter.normal_(std=0.3)
        if architecture == "distilled" and parameter.ndim > 1:
            parameter.mul_(1.5)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let exports lie in a folder that the tests of this file share."""
    models = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEHAZE_MODELS", str(models))
        yield exports_folder()


@pytest.fixture(scope="module")
def lite(folder: Path) -> tuple[TokenNetwork, dict[str, Session]]:
    network = network_of("dehazexl-lite")
    assert isinstance(network, TokenNetwork)
    return network, open_parts(network, 1)


@pytest.fixture(scope="module")
def distilled(folder: Path) -> tuple[OverviewNetwork, dict[str, Session]]:
    network = network_of("distilled")
    assert isinstance(network, OverviewNetwork)
    return network, open_parts(network, 1)


def block(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return random pixels and a mask with gaps."""
    generator = torch.Generator().manual_seed(height)
    valid = (torch.rand(1, 1, height, width, generator=generator) > 0.2).float()
    rgb = torch.rand(1, 3, height, width, generator=generator)
    return torch.where(valid > 0, rgb, 0.5), valid


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_parts_of_lite_answer_like_the_network(
    lite: tuple[TokenNetwork, dict[str, Session]], size: tuple[int, int]
) -> None:
    network, parts = lite
    rgb, valid = block(*size)
    scene = SceneHaze(torch.randn(1, 3), torch.ones(1, 1))

    tokens = network.encode(rgb, valid)
    given = torch.randn(1, *tokens.shape[1:3], network.condition_width)
    maps = network.estimate(rgb, valid, given, scene)

    assert_same([tokens], parts["encode"].run(rgb=rgb, valid=valid))
    answer = parts["estimate"].run(
        rgb=rgb, valid=valid, conditions=given, airlight=scene.airlight, alpha=scene.alpha
    )
    assert_same([maps.thickness, maps.airlight, maps.presence, maps.edge_slope], answer)
    assert maps.thickness.std() > 0.02  # type: ignore[union-attr]


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_parts_of_distilled_answer_like_the_network(
    distilled: tuple[OverviewNetwork, dict[str, Session]], size: tuple[int, int]
) -> None:
    network, parts = distilled
    rgb, valid = block(*size)
    weight = torch.rand(1, size[0] // 32, size[1] // 32)

    seen = network.look(rgb, valid, weight)

    assert_same([seen.values], parts["look"].run(rgb=rgb, valid=valid, weight=weight))
    # What a raster's values are is known to the graph: those of another must not stay in it.
    for values in (seen.values, torch.rand_like(seen.values)):
        painted = network.estimate(rgb, valid, rgb[..., :0], SceneStatistics(values))
        assert_same([painted.clear], parts["estimate"].run(rgb=rgb, values=values))
        assert (painted.clear - rgb).std() > 0.02


def assert_same(expected: list[Tensor], found: list[Tensor]) -> None:
    assert [each.shape for each in expected] == [each.shape for each in found]
    for one, other in zip(expected, found, strict=True):
        assert (one - other).abs().max() <= 1e-4


def test_graphs_are_what_many_programs_can_read(
    lite: tuple[TokenNetwork, dict[str, Session]],
) -> None:
    model = onnx.load_model_from_string(lite[1]["encode"].model)

    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (OPSET, IR_VERSION)
    sides = [place.dim_param for place in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["", "", "height", "width"]
    assert {tensor.data_type for tensor in model.graph.initializer} <= {1, 7}  # float32, int64


def test_graphs_do_not_tell_where_they_were_made(
    lite: tuple[TokenNetwork, dict[str, Session]],
) -> None:
    for part in lite[1].values():
        assert b".py" not in part.model
        assert str(Path(exports.__file__).parents[2]).encode() not in part.model


def test_exports_are_made_once(
    lite: tuple[TokenNetwork, dict[str, Session]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "export_graph", None)

    assert open_parts(lite[0], 1).keys() == {"encode", "estimate"}


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "exchanged"])
def test_a_damaged_export_is_made_again(
    lite: tuple[TokenNetwork, dict[str, Session]], folder: Path, damage: str
) -> None:
    path = folder / f"{network_key(lite[0])}-encode.export"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    other = next(each for each in folder.glob("*-estimate.export")).read_bytes()
    path.write_bytes(
        {"flipped": bytes(flipped), "cut": content[:-9], "empty": b"", "exchanged": other}[damage]
    )

    parts = open_parts(lite[0], 1)

    assert parts["encode"].agrees()
    assert path.read_bytes()[32:] == parts["encode"].model != other[32:]
    assert not list(folder.glob("*.partial"))


def test_an_export_of_a_network_that_computes_otherwise_now_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (network_of("distilled", seed) for seed in (6, 7))
    assert network_key(first) != network_key(second)
    monkeypatch.setattr(exports, "network_key", lambda network: "the-same")
    old = open_parts(first, 1)

    new = open_parts(second, 1)

    assert new["estimate"].agrees()
    assert new["estimate"].model != old["estimate"].model
    assert (folder / "the-same-estimate.export").read_bytes()[32:] == new["estimate"].model


def test_the_oldest_exports_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MOST_FILES", 2)
    network = network_of("distilled", seed=8)

    open_parts(network, 1)

    assert {path.stem.partition("-")[0] for path in folder.iterdir()} == {network_key(network)}


def test_a_folder_that_cannot_be_written_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx").write_text("no folder")
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))

    assert open_parts(network_of("distilled"), 1)["look"].agrees()


def test_answers_unlike_those_of_pytorch_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))
    run = Session.run
    monkeypatch.setattr(Session, "run", lambda *a, **k: [each + 1e-3 for each in run(*a, **k)])

    with pytest.raises(ModelError, match="does not answer like PyTorch") as error:
        open_parts(network_of("distilled"), 1)
    assert error.value.code == "BACKEND_DIFFERS"
    assert not list(tmp_path.rglob("*.export"))


def test_networks_that_paint_from_tokens_are_not_exported() -> None:
    with pytest.raises(ModelError, match="dehazexl-base cannot") as error:
        open_parts(tiny_dehazexl(), 1)
    assert error.value.code == "BACKEND_MODEL"


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))
    monkeypatch.setitem(sys.modules, package, None)
    if package == "onnxruntime":
        monkeypatch.setitem(sys.modules, "onnxruntime.capi", None)

    with pytest.raises(ResourceError, match=f"package {package} is needed") as error:
        open_parts(network_of("distilled"), 1)
    assert error.value.code == "BACKEND_MISSING"
    assert "dehaze[onnx]" in error.value.hint


def test_too_little_memory_is_told_as_such(
    distilled: tuple[OverviewNetwork, dict[str, Session]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    class Full:
        def get_inputs(self) -> list[object]:
            return []

        def run(self, *arguments: object) -> None:
            raise RuntimeException("Failed to allocate memory for requested buffer of size 1 TB")

    part = distilled[1]["look"]
    monkeypatch.setattr(part, "_session", Full())

    with pytest.raises(MemoryError, match="1 TB"):
        part.run(rgb=torch.zeros(1, 3, 32, 32))


def test_metadata_and_fixed_sides_are_added(
    distilled: tuple[OverviewNetwork, dict[str, Session]],
) -> None:
    content = with_metadata(distilled[1]["look"].model, {"title": "a look"}, side=64)

    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"title": "a look"}
    shapes = [each.shape for each in session.get_inputs()]
    assert shapes == [[1, 3, 64, 64], [1, 1, 64, 64], [1, 2, 2]]
