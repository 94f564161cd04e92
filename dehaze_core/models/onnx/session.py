# SPDX-License-Identifier: GPL-3.0-or-later
"""An ONNX graph run by onnxruntime on the CPU, with tensors of PyTorch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dehaze_core.models.onnx.graph import Graph, missing_package, with_constants

LARGEST_DIFFERENCE = 1e-4
"""Difference from PyTorch above which something is wrong; values are around 1."""

CHECKED_TOKENS = (3, 5)
"""Rows and columns of tokens of the picture on which the two are compared."""

_SHORTAGES = ("Failed to allocate memory", "bad allocation", "bad_alloc")


class Session:
    """Runs one graph.

    Attributes:
        graph: What the file was made from.
        model: The ONNX file.

    Args:
        graph: What the file was made from.
        model: The ONNX file.
        threads: CPU threads.

    Raises:
        ResourceError: The package `onnxruntime` is not installed (BACKEND_MISSING).
    """

    def __init__(self, graph: Graph, model: bytes, threads: int) -> None:
        try:
            from onnxruntime.capi import onnxruntime_pybind11_state as errors
        except ImportError as error:
            raise missing_package("onnxruntime") from error
        self.graph = graph
        self.model = model
        self._threads = threads
        self._constants: dict[str, Tensor] = {}
        self._session: Any = None
        self._shortages = (errors.Fail, errors.RuntimeException)

    def run(self, **inputs: Tensor) -> list[Tensor]:
        """Return the outputs of the graph in order, float32.

        Args:
            inputs: float32 tensors on the CPU, by name.

        Raises:
            MemoryError: Memory does not suffice.
        """
        session = self._with({name: inputs.pop(name) for name in self.graph.constant})
        taken = {each.name for each in session.get_inputs()}
        # No copy of what lies in one piece.
        arrays = {
            name: np.ascontiguousarray(tensor.numpy())
            for name, tensor in inputs.items()
            if name in taken
        }
        try:
            outputs = session.run(None, arrays)
        except self._shortages as error:
            if any(sign in str(error) for sign in _SHORTAGES):
                raise MemoryError(f"onnxruntime: {error}") from error
            raise
        return [torch.from_numpy(each) for each in outputs]

    def release(self) -> None:
        """Give back the memory that onnxruntime keeps for the next block."""
        self._session = None

    def agrees(self, tolerance: float = LARGEST_DIFFERENCE) -> bool:
        """Tell whether onnxruntime answers like the module that the graph was made from."""
        inputs = self.graph.examples(*CHECKED_TOKENS)
        names = [port.name for port in self.graph.inputs]
        expected = self.graph.answers(inputs)
        found = self.run(**dict(zip(names, inputs, strict=True)))
        return len(expected) == len(found) and all(
            torch.allclose(theirs, ours, rtol=tolerance, atol=tolerance)
            for ours, theirs in zip(expected, found, strict=True)
        )

    def _with(self, constants: dict[str, Tensor]) -> Any:  # noqa: ANN401 - without types
        """Return onnxruntime's session for these constants, the last one if they are the same."""
        same = all(
            name in self._constants and torch.equal(value, self._constants[name])
            for name, value in constants.items()
        )
        if self._session is None or not same:
            self._session = _new_session(with_constants(self.model, constants), self._threads)
            self._constants = constants
        return self._session


def _new_session(model: bytes, threads: int) -> Any:  # noqa: ANN401 - without types
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Planned ahead, memory is put together for every size of block anew, and takes twice as much.
    options.enable_mem_pattern = False
    # Threads that wait in a loop take the processor from whoever reads and writes meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def is_installed() -> bool:
    """Tell whether graphs can be made and run here."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def runtime_version() -> str:
    """Return the version of onnxruntime, which is installed."""
    return importlib.metadata.version("onnxruntime")
