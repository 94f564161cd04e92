# SPDX-License-Identifier: GPL-3.0-or-later
"""From a module to an ONNX graph whose height and width are free.

The graph is traced. PyTorch's other exporter, on `torch.export`, gives the same graph, but takes
twenty times as long where sizes are free, which is too long to wait for at the start of a run.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dehaze_core.errors import ModelError, ResourceError
from dehaze_core.models.streaming import HAZE_PX, TOKEN_PX

OPSET = 18
"""Version of the operators. With `IR_VERSION`, onnxruntime 1.14 and later can run the graphs."""

IR_VERSION = 8
"""Version of the file format, the one that came with the operators."""

EXAMPLE_TOKENS = (2, 3)
"""Rows and columns of tokens of the picture that is traced."""

# Names of the sides that may be free, and how many of their units lie along a token.
_IN_A_TOKEN = {
    "height": TOKEN_PX,
    "width": TOKEN_PX,
    "haze_rows": TOKEN_PX // HAZE_PX,
    "haze_columns": TOKEN_PX // HAZE_PX,
    "rows": 1,
    "columns": 1,
}


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor that goes into a graph or comes out of it.

    Attributes:
        name: Its name in the graph.
        shape: Its sides: numbers, or names for what is free, "height" and "width" in px,
            "haze_rows" and "haze_columns" in cells of haze maps, "rows" and "columns" in tokens.
    """

    name: str
    shape: tuple[int | str, ...]

    @property
    def free(self) -> dict[int, str]:
        """Return the names of the free sides by their position."""
        return {i: side for i, side in enumerate(self.shape) if isinstance(side, str)}

    def example(self, rows: int, columns: int) -> Tensor:
        """Return random values in [0, 1] for a picture of so many tokens."""
        tokens = {"height": rows, "haze_rows": rows, "rows": rows}
        shape = [
            side if isinstance(side, int) else _IN_A_TOKEN[side] * tokens.get(side, columns)
            for side in self.shape
        ]
        return torch.rand(shape, generator=torch.Generator().manual_seed(rows))


@dataclass(frozen=True, slots=True)
class Graph:
    """What is to become an ONNX graph.

    Attributes:
        module: Takes and returns tensors in the order of the ports.
        inputs: What goes in. What the module takes no notice of is not in the ONNX graph.
        outputs: What comes out.
        constant: Inputs that are the same for all blocks of a raster: onnxruntime is given them
            with the graph, and computes what follows from them alone only once.
    """

    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constant: tuple[str, ...] = ()

    def examples(self, rows: int, columns: int) -> tuple[Tensor, ...]:
        """Return random inputs for a picture of so many tokens."""
        return tuple(port.example(rows, columns) for port in self.inputs)

    def answers(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what the module itself says."""
        with torch.inference_mode():
            answer = self.module(*inputs)
        return answer if isinstance(answer, tuple) else (answer,)


def export_graph(graph: Graph) -> bytes:
    """Return a checked ONNX file, weights in float32.

    Raises:
        ModelError: The module holds what ONNX cannot express (BACKEND_MODEL).
        ResourceError: The package `onnx` is not installed (BACKEND_MISSING).
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_package("onnx") from error
    file = io.BytesIO()
    try:
        _trace(graph, file)
        model = onnx.load_model_from_string(file.getvalue())
        model.ir_version = IR_VERSION
        for value, port in zip(model.graph.output, graph.outputs, strict=True):
            _set_shape(value, port.shape)
        onnx.checker.check_model(model, full_check=True)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"The network cannot be written as an ONNX graph: {str(error).splitlines()[0]}",
            hint="Choose the backend 'torch'.",
            code="BACKEND_MODEL",
        ) from error
    content: bytes = model.SerializeToString()
    return content


def with_metadata(model: bytes, metadata: Mapping[str, str], side: int | None = None) -> bytes:
    """Return an ONNX file that tells what it is.

    Args:
        model: The file.
        metadata: Texts by name.
        side: Fix height and width at this many px, whole tokens; free if None.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    onnx.helper.set_model_props(proto, dict(metadata))
    if side is not None:
        for value in (*proto.graph.input, *proto.graph.output):
            for place in value.type.tensor_type.shape.dim:
                if place.dim_param:
                    place.dim_value = _IN_A_TOKEN[place.dim_param] * side // TOKEN_PX
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content


def with_constants(model: bytes, constants: Mapping[str, Tensor]) -> bytes:
    """Return an ONNX file in which some inputs are constants."""
    import onnx

    proto = onnx.load_model_from_string(model)
    for name, value in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), name))
    inputs = [each for each in proto.graph.input if each.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    content: bytes = proto.SerializeToString()
    return content


def missing_package(name: str) -> ResourceError:
    """Return the error for a package without which there are no ONNX graphs."""
    return ResourceError(
        f"The Python package {name} is needed for ONNX, and cannot be imported.",
        hint="Run pip install 'dehaze[onnx]', or choose the backend 'torch'.",
        code="BACKEND_MISSING",
    )


def _set_shape(value: Any, shape: tuple[int | str, ...]) -> None:  # noqa: ANN401 - of protobuf
    """Write the shape of an input or output; of what is computed the tracer leaves sides open."""
    sides = value.type.tensor_type.shape.dim
    for place, side in zip(sides, shape, strict=True):
        if isinstance(side, str):
            place.dim_param = side
        else:
            place.dim_value = side


def _trace(graph: Graph, file: io.BytesIO) -> None:
    named: dict[str, Any] = {
        "input_names": [port.name for port in graph.inputs],
        "output_names": [port.name for port in graph.outputs],
        "dynamic_axes": {port.name: port.free for port in (*graph.inputs, *graph.outputs)},
    }
    with warnings.catch_warnings(), torch.no_grad():
        # It is old, and warns of sizes that become constants. Whether they do shows in the answers.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.module.eval(),
            graph.examples(*EXAMPLE_TOKENS),
            file,  # type: ignore[arg-type]  # the type is that of the other exporter
            dynamo=False,
            opset_version=OPSET,
            **named,
        )
