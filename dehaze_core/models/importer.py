# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring weights from elsewhere into the user's model folder.

A checkpoint is taken for hostile until shown otherwise. Its kind is told by its content, not by its
name. Names, types and shapes of its tensors are read without running anything, and must be exactly
those of the network; only then are values read. Files that hold a pickle are read by another
process that gives back safetensors. What ends in the model folder was written here.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess  # nosec B404
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from dehaze_core.errors import ModelError
from dehaze_core.models.architectures import Outline, build_network, check_finite, check_layout
from dehaze_core.models.cards import ModelCard, check_name, read_card
from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.importer_archive import plain_names, read_archive_outline
from dehaze_core.models.importer_published import own_names
from dehaze_core.models.registry import refuse_taken_name, write_model
from dehaze_core.models.safetensors_header import read_outline
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.places import models_folder

SAFE_TORCH = (2, 10)
"""Before this version a file could corrupt memory through the unpickler: CVE-2026-24747."""

CHILD_SECONDS = 180.0

_MOST_COPIES = 4  # weights, their average, and two moments of an optimiser
_SLACK_BYTES = 16 << 20
HEAD_BYTES = 512
_OTHER_KINDS = (
    (b"\x80", "a bare pickle, as PyTorch wrote before version 1.6"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "gzip"),
    (b"\x08", "an ONNX model"),
)
_TAR = (257, b"ustar")


def import_model(
    path: Path,
    name: str,
    *,
    architecture: str = "dehazexl-lite",
    config: dict[str, Any] | None = None,
    licence: str | None = None,
    folder: Path | None = None,
    origin: Path | None = None,
) -> ModelCard:
    """Import a checkpoint as a model of the user's.

    Args:
        path: A safetensors file, or a checkpoint that `torch.save` wrote.
        name: Name of the model from now on.
        architecture: Kind of network the weights are for.
        config: What differs from the shape in `origin`, or from the architecture's default.
        licence: Licence of the weights, for the card; if None that of `origin`, or unknown.
        folder: Where models are kept, `models_folder()` if None.
        origin: The card that training wrote with the weights; what it says takes precedence.

    Returns:
        The card of the new model.

    Raises:
        ModelError: The name is not free or not plain (MODEL_NAME, MODEL_EXISTS), or the file is
            refused: MODEL_FILE, MODEL_SIZE, MODEL_FORMAT, MODEL_UNSAFE, MODEL_SHAPE, MODEL_VALUES,
            MODEL_TORCH, MODEL_IMPORT; or its own card is no card (MODEL_CARD) or one of other
            weights (MODEL_DIGEST).
    """
    folder = models_folder() if folder is None else folder
    check_name(name)
    refuse_taken_name(name, folder)
    given = None if origin is None else read_card(origin)
    if given is not None:
        architecture, config = given.architecture, {**given.config, **(config or {})}
    network = build_network(architecture, config)
    tensors, digest = _checked(path, network, given)
    data = save_safetensors({key: value.contiguous() for key, value in tensors.items()})
    known = given or ModelCard(name, architecture, {}, "", 0, "unknown")
    card = replace(
        known,
        name=name,
        config=network.config.as_dict(),
        sha256=hashlib.sha256(data).hexdigest(),
        parameters=parameter_count(network),
        licence=licence or known.licence,
        training={**known.training, "imported_from": path.name, "imported_sha256": digest},
    )
    return write_model(card, data, folder)


def _checked(
    path: Path, network: StreamedNetwork, given: ModelCard | None
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a checkpoint and the digest of the file, both beyond doubt."""
    try:
        tensors, digest = _read(path, network)
        check_finite(tensors)
        if given is not None and given.sha256 != digest:
            raise ModelError(
                f"It has SHA-256 {digest[:12]}..., the card given with it says "
                f"{given.sha256[:12]}...",
                hint="Give the card that was written together with the weights, or none.",
                code="MODEL_DIGEST",
            )
    except ModelError as error:
        raise ModelError(
            f"{path} is not imported. {error.message}", hint=error.hint, code=error.code
        ) from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", code="MODEL_FILE") from error
    return tensors, digest


def _read(path: Path, network: StreamedNetwork) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a checkpoint that fits the network, and the digest of the file."""
    if not path.is_file():
        raise ModelError("It is not a file.", hint="Check the path.", code="MODEL_FILE")
    with path.open("rb") as file:
        size = _reasonable_size(file, network)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if head.startswith(b"PK\x03\x04"):
            check_layout(own_names(read_archive_outline(file, size), network), network)
            data = unpickled_elsewhere(path)
        elif path.suffix.lower() == ".safetensors" or head[8:9] == b"{":
            data = file.read()
        else:
            refuse_kind(head)
        # No more trust in the child than in the file it has read.
        outline = plain_names(read_outline(io.BytesIO(data), len(data)))
        check_layout(own_names(outline, network), network)
        tensors = own_names(plain_names(load_safetensors(data)), network)
        file.seek(0)
        return tensors, hashlib.file_digest(file, "sha256").hexdigest()


def _reasonable_size(file: BinaryIO, network: StreamedNetwork) -> int:
    size = os.fstat(file.fileno()).st_size
    most = _MOST_COPIES * 4 * parameter_count(network) + _SLACK_BYTES
    if not 0 < size <= most:
        raise ModelError(
            f"It has {size:,} bytes, expected at most {most:,} for weights of this architecture.",
            hint="Save the state_dict only, without the states of a training.",
            code="MODEL_SIZE",
        )
    return size


def refuse_kind(head: bytes) -> NoReturn:
    """Refuse a file that is neither safetensors nor an archive of `torch.save`.

    Args:
        head: Its first `HEAD_BYTES`, which tell what it may be.

    Raises:
        ModelError: Always (MODEL_FORMAT).
    """
    start, tar = _TAR
    kinds = [kind for magic, kind in _OTHER_KINDS if head.startswith(magic)]
    if head[start:].startswith(tar):
        kinds = ["a tar archive, as PyTorch wrote in its first years"]
    raise ModelError(
        f"It looks like {kinds[0] if kinds else 'something else'}, expected is safetensors or an "
        "archive of torch.save.",
        hint="Where you trust it, load it and save it again with safetensors, or with torch.save "
        "of PyTorch 1.6 or later.",
        code="MODEL_FORMAT",
    )


def unpickled_elsewhere(path: Path) -> bytes:
    """Return the tensors of a file with a pickle as safetensors; see `unpickle_elsewhere`."""
    with tempfile.TemporaryDirectory(prefix="dehaze-import-") as folder:
        target = Path(folder) / "weights.safetensors"
        unpickle_elsewhere(path, target)
        return target.read_bytes()


def unpickle_elsewhere(path: Path, target: Path) -> Outline:
    """Write the tensors of a file with a pickle as safetensors, in a process of its own.

    The header describes the bytes; whether the tensors are those wanted is left to check.

    Args:
        path: The file.
        target: The safetensors file to write.

    Returns:
        The tensors in `target`, without their values.

    Raises:
        ModelError: The process failed (MODEL_IMPORT), what it wrote is malformed (MODEL_FORMAT), or
            PyTorch is too old (MODEL_TORCH).
    """
    refuse_unsafe_torch(torch.__version__)
    command = [sys.executable, "-I", "-m", "dehaze_core.models.importer_child"]
    try:
        done = subprocess.run(  # nosec B603
            [*command, str(path.resolve()), str(target)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHILD_SECONDS,
            check=False,
            env=_small_environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise _not_unpickled(f"it took more than {CHILD_SECONDS:.0f} s") from error
    if done.returncode or not target.is_file():
        lines = done.stderr.strip().splitlines()
        raise _not_unpickled(lines[-1] if lines else f"status {done.returncode}")
    with target.open("rb") as file:
        return read_outline(file, os.fstat(file.fileno()).st_size)


def refuse_unsafe_torch(version: str) -> None:
    """Refuse to unpickle with a PyTorch whose unpickler a file could harm.

    Raises:
        ModelError: The version is older than `SAFE_TORCH` (MODEL_TORCH).
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < SAFE_TORCH:
        raise ModelError(
            f"PyTorch {version} is installed; to read a pickle safely 2.10 or later is needed "
            "(CVE-2026-24747).",
            hint="Update PyTorch, or import a safetensors file.",
            code="MODEL_TORCH",
        )


def _small_environment() -> dict[str, str]:
    # Windows cannot start Python without the first.
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _not_unpickled(why: str) -> ModelError:
    return ModelError(
        f"The process that reads its pickle failed: {why}.",
        hint="Ask its maker for a safetensors file.",
        code="MODEL_IMPORT",
    )
