# SPDX-License-Identifier: GPL-3.0-or-later
"""Exported parts of networks, kept beside the user's models so that they are made only once.

The name of a file says what it was made from, so that it is never used for other weights or by
another version. A SHA-256 of name and graph comes first: what was damaged or exchanged is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import torch

from dehaze_core import __version__
from dehaze_core.errors import ModelError
from dehaze_core.models.onnx.graph import OPSET, Graph, export_graph
from dehaze_core.models.onnx.parts import parts_of
from dehaze_core.models.onnx.session import LARGEST_DIFFERENCE, Session, runtime_version
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.places import models_folder

MOST_FILES = 16
"""Files that are kept, the latest."""

_SUFFIX = ".export"
_DIGEST_BYTES = hashlib.sha256().digest_size


def open_parts(network: StreamedNetwork, threads: int) -> dict[str, Session]:
    """Return sessions for the parts of a network, each compared with the network before use.

    Args:
        network: The network, on the CPU.
        threads: CPU threads.

    Raises:
        ModelError: Networks of this kind are not exported (BACKEND_MODEL), or onnxruntime does not
            answer like PyTorch (BACKEND_DIFFERS).
        ResourceError: A package is not installed (BACKEND_MISSING).
    """
    graphs = parts_of(network)
    key = network_key(network)
    return {name: _open(graph, f"{key}-{name}", threads) for name, graph in graphs.items()}


def export_and_compare(
    graph: Graph, threads: int, tolerance: float = LARGEST_DIFFERENCE
) -> Session:
    """Return a session for a graph that was exported just now.

    Args:
        graph: What to export.
        threads: CPU threads.
        tolerance: Difference that is allowed between onnxruntime and PyTorch.

    Raises:
        ModelError: It cannot be exported (BACKEND_MODEL), or onnxruntime does not answer like
            PyTorch (BACKEND_DIFFERS).
        ResourceError: A package is not installed (BACKEND_MISSING).
    """
    session = Session(graph, export_graph(graph), threads)
    if not session.agrees(tolerance):
        raise ModelError(
            f"onnxruntime {runtime_version()} does not answer like PyTorch on this machine.",
            hint="Choose the backend 'torch', or install another version of onnxruntime.",
            code="BACKEND_DIFFERS",
        )
    return session


def exports_folder() -> Path:
    """Return the folder of the exported parts."""
    return models_folder() / "onnx"


def network_key(network: StreamedNetwork) -> str:
    """Return a short hash of a network with its weights and of what its graphs depend on."""
    identity = [
        network.architecture,
        network.config.as_dict(),
        __version__,
        torch.__version__,
        OPSET,
    ]
    digest = hashlib.sha256(json.dumps(identity).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()[:32]


def _open(graph: Graph, name: str, threads: int) -> Session:
    path = exports_folder() / f"{name}{_SUFFIX}"
    model = _read(path)
    if model is not None:
        session = Session(graph, model, threads)
        # Not so if the code of the network was changed.
        if session.agrees():
            return session
    session = export_and_compare(graph, threads)
    # Where nothing can be written, the next run exports again.
    with suppress(OSError):
        _write(path, session.model)
    return session


def _read(path: Path) -> bytes | None:
    """Return the graph in a file, or None if it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, model = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return model if _digest(path, model) == digest else None


def _write(path: Path, model: bytes) -> None:
    """Write a graph, whole or not at all, and remove the oldest of too many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_digest(path, model) + model)
        os.replace(made, path)
    except OSError:
        os.unlink(made)
        raise
    kept = sorted(path.parent.glob(f"*{_SUFFIX}"), key=lambda each: each.stat().st_mtime)
    for old in kept[:-MOST_FILES]:
        old.unlink(missing_ok=True)


def _digest(path: Path, model: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + model).digest()
