# SPDX-License-Identifier: GPL-3.0-or-later
"""Malformed safetensors files and model folders; `TINY` is the network they pretend to fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from dehaze_core.models import save_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig

TINY = LiteConfig(widths=(8, 8, 16, 16), context_heads=2, context_head_dim=8)
NAME = "tiny"

Tensors = dict[str, torch.Tensor]


def tiny_tensors() -> Tensors:
    """Return the tensors of an untrained network."""
    torch.manual_seed(0)
    return DehazeXLLite(TINY).state_dict()


def with_header(header: Any, values: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with any header; `length` is what it claims to be."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(data) if length is None else length).to_bytes(8, "little") + data + values


def _one(**changes: Any) -> bytes:
    """Return a file of one tensor of 16 bytes that is described wrongly."""
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    return with_header({"w": entry | changes}, bytes(16))


def _two(first: list[int], second: list[int]) -> bytes:
    entries = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": place}
        for name, place in (("a", first), ("b", second))
    }
    return with_header(entries, bytes(16))


def _changed(change: Callable[[Tensors], object]) -> Callable[[], bytes]:
    """Return a maker of a well-formed file whose tensors are not those of the network."""

    def make() -> bytes:
        tensors = tiny_tensors()
        change(tensors)
        return save(tensors)

    return make


def _poisoned(value: float) -> Callable[[], bytes]:
    def change(tensors: Tensors) -> None:
        tensors[next(iter(tensors))].view(-1)[0] = value

    return _changed(change)


def _of_type(dtype: torch.dtype) -> Callable[[], bytes]:
    return _changed(lambda tensors: tensors.update({k: v.to(dtype) for k, v in tensors.items()}))


def _flattened(tensors: Tensors) -> None:
    name = next(key for key, value in tensors.items() if value.ndim > 1)
    tensors[name] = tensors[name].flatten()


def _many() -> bytes:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return with_header({f"t{i}": entry for i in range(100_000)})


FILES: dict[str, Callable[[], bytes]] = {
    "header of 2^63 bytes": lambda: with_header(b"{}", length=1 << 63),
    "header of 2^64 - 1 bytes": lambda: with_header(b"{}", length=(1 << 64) - 1),
    "header of 100 MB + 1": lambda: with_header(b"{", length=100_000_001),
    "header of 2 MB that is there": lambda: with_header(b"{" + b" " * (2 << 20) + b"}"),
    "header longer than the file": lambda: with_header(b"{}", length=3),
    "header of no bytes": lambda: with_header(b"", b"{}      "),
    "100,000 tensors": _many,
    "5,000 empty tensors": lambda: with_header(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(5000)}
    ),
    "no tensors": lambda: with_header({}),
    "overlapping tensors": lambda: _two([0, 8], [4, 12]),
    "the same bytes twice": lambda: _two([0, 8], [0, 8]),
    "gap between tensors": lambda: _two([0, 8], [12, 20]),
    "tensor beyond the file": lambda: _one(shape=[1 << 20], data_offsets=[0, 4 << 20]),
    "bytes that belong to no tensor": lambda: _one(shape=[2], data_offsets=[0, 8]),
    "end before begin": lambda: _one(data_offsets=[16, 0]),
    "negative place": lambda: _one(data_offsets=[-16, 0]),
    "three offsets": lambda: _one(data_offsets=[0, 16, 16]),
    "negative shape": lambda: _one(shape=[-2, -2]),
    "shape whose product overflows": lambda: _one(shape=[1 << 32, 1 << 32, 4]),
    "shape of 2^63": lambda: _one(shape=[1 << 63]),
    "shape of fractions": lambda: _one(shape=[4.0]),
    "shape of truths": lambda: _one(shape=[True, 4]),
    "shape of 1,000 dimensions": lambda: _one(shape=[1] * 999 + [4]),
    "shape that is a text": lambda: _one(shape="4"),
    "type that is unknown": lambda: _one(dtype="F128"),
    "type that is a list": lambda: _one(dtype=["F32"]),
    "whole numbers": lambda: _one(dtype="I32"),
    "field too many": lambda: _one(file="../../etc/passwd"),
    "entry that is a number": lambda: with_header({"w": 1}),
    "header that is a list": lambda: with_header([1]),
    "names that occur twice": lambda: with_header(
        b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
        b'"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        bytes(16),
    ),
    "notes that are no texts": lambda: with_header({"__metadata__": {"a": [1]}, "w": 1}),
    "header that is not UTF-8": lambda: with_header(b'{"\xff\xfe":1}'),
    "header that is not JSON": lambda: with_header(b"{nothing"),
    "header with NaN": lambda: with_header(b'{"w":NaN}'),
    "header with a number of 5,000 digits": lambda: with_header(b'{"w":' + b"9" * 5000 + b"}"),
    "header of nested lists": lambda: with_header(b'{"w":' + b"[" * 500_000 + b"}"),
    "cut off": lambda: save(tiny_tensors())[:-100],
    "longer than its header says": lambda: save(tiny_tensors()) + b"x",
    "tensor missing": _changed(lambda tensors: tensors.pop(next(iter(tensors)))),
    "tensor too many": _changed(lambda tensors: tensors.update(extra=torch.zeros(3))),
    "tensor renamed": _changed(lambda t: t.update(renamed=t.pop(next(iter(t))))),
    "tensor of another shape": _changed(_flattened),
    "weights of 64 bits": _of_type(torch.float64),
    "weights of whole numbers": _of_type(torch.int64),
    "NaN among the weights": _poisoned(float("nan")),
    "infinity among the weights": _poisoned(float("-inf")),
}


def _card(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        card = json.loads((folder / f"{NAME}.json").read_text())
        (folder / f"{NAME}.json").write_text(json.dumps(card | changes))

    return change


def _text(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / f"{NAME}.json").write_text(text)


def _weights(content: bytes, *, matching: bool) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / f"{NAME}.safetensors").write_bytes(content)
        if matching:
            _card(sha256=hashlib.sha256(content).hexdigest())(folder)

    return change


def _sparse(folder: Path) -> None:
    with (folder / f"{NAME}.safetensors").open("r+b") as file:
        file.truncate(64 << 30)


def _config(**changes: Any) -> Callable[[Path], object]:
    return _card(config=TINY.as_dict() | changes)


FOLDERS: dict[str, Callable[[Path], object]] = {
    "weights of another digest": _weights(with_header(b"{}"), matching=False),
    "digest that is no digest": _card(sha256="0" * 63),
    "malformed weights of the right digest": _weights(with_header(b"{}"), matching=True),
    "pickle instead of weights": _weights(b"\x80\x02cos\nsystem\n.", matching=True),
    "weights of 64 GiB": _sparse,
    "weights missing": lambda folder: (folder / f"{NAME}.safetensors").unlink(),
    "card with a path for a name": _card(name="../../tiny"),
    "card of an unknown architecture": _card(architecture="os.system"),
    "card of an architecture that is a list": _card(architecture=["dehazexl-lite"]),
    "card with unknown fields": _card(command="rm"),
    "card without digest": _text(json.dumps({"name": NAME, "architecture": "dehazexl-lite"})),
    "card that is a list": _text("[]"),
    "card of nested lists": _text("[" * 100_000),
    "card of 1 MB": _text(" " * (1 << 20) + "{}"),
    "card that is empty": _text(""),
    "network a billion channels wide": _config(widths=[10**9] * 4),
    "network of a billion layers": _config(context_layers=10**9),
    "network of no channels": _config(widths=[0] * 4),
    "network with a text for a number": _config(context_heads="2"),
    "network of five stages": _config(widths=[8] * 5),
    "network with unknown parts": _config(command="rm"),
}


def make_folder(folder: Path, spoil: Callable[[Path], object]) -> None:
    """Write a model folder and spoil it."""
    save_model(DehazeXLLite(TINY), NAME, folder, {})
    spoil(folder)
