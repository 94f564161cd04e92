# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile and malformed PyTorch checkpoints, put together byte by byte.

Every maker takes the path of a canary file; a pickle that is run creates it.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from tests.faults.safetensors_cases import tiny_tensors

Make = Callable[[Path], bytes]

DICTIONARY = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    """Push a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """Push a whole number of any size."""
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values: tuple[int, ...]) -> bytes:
    """Push a tuple of whole numbers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(
    shape: tuple[int, ...] = (4,),
    strides: tuple[int, ...] = (1,),
    *,
    key: str = "0",
    kind: str = "torch\nFloatStorage",
    count: int = 4,
    start: int = 0,
) -> bytes:
    """Push a tensor as torch.save does; the archive holds 16 bytes as storage "0"."""
    storage = b"(" + text("storage") + f"c{kind}\n".encode() + text(key) + text("cpu")
    view = number(start) + numbers(shape) + numbers(strides) + b"\x89" + DICTIONARY
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(count) + b"tQ" + view + b"tR"


def hooked() -> bytes:
    """Push a tensor with something in the dictionary of its hooks."""
    return tensor().removesuffix(b"tR") + text("hook") + number(1) + b"stR"


def state(value: bytes) -> bytes:
    """Return a whole pickle of the dictionary {"w": value}."""
    return b"\x80\x02}" + text("w") + value + b"s."


def archive(program: bytes, **more: bytes) -> bytes:
    """Return a checkpoint archive around a pickle; `more` are further entries, `_` for `/`."""
    entries = {"x/data.pkl": program, "x/version": b"3\n", "x/data/0": bytes(16)}
    entries |= {name.replace("_", "/"): data for name, data in more.items()}
    return zipped(entries)


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return buffer.getvalue()


def shell(canary: Path) -> bytes:
    """Push the command that creates the canary."""
    return text(f"touch '{canary}'")


def reduced(canary: Path) -> bytes:
    """Return the classic: a pickle that calls os.system."""
    return b"\x80\x02cos\nsystem\n(" + shell(canary) + b"tR."


def _set_state(canary: Path) -> bytes:
    method = b"}" + text("__setstate__") + b"cos\nsystem\nsb"
    return b"\x80\x02" + DICTIONARY + method + shell(canary) + b"b."


def _called(name: str) -> Make:
    def make(canary: Path) -> bytes:
        code = text(f"open({str(canary)!r}, 'w')")
        return archive(b"\x80\x02c" + name.replace(".", "\n").encode() + b"\n(" + code + b"tR.")

    return make


def _program(program: bytes) -> Make:
    return lambda canary: archive(program)


def _legacy(canary: Path) -> bytes:
    """Lay out as before 1.6: magic number, protocol, system, then the payload."""
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": 1})]
    return b"".join(head) + reduced(canary)


def _tar(canary: Path) -> bytes:
    """Lay out as in the first years, which weights_only once let through: CVE-2025-32434."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name in ("storages", "tensors", "pickle"):
            data = reduced(canary)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _honest_legacy(canary: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(4)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _whole_model(canary: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), buffer)
    return buffer.getvalue()


class _Payload:
    """Something whose pickle is a call of os.system."""

    def __init__(self, canary: Path) -> None:
        self._command = f"touch '{canary}'"

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self._command,)


def _beside_true_weights(canary: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": tiny_tensors(), "scheduler": _Payload(canary)}, buffer)
    return buffer.getvalue()


def _overlapping(canary: Path) -> bytes:
    """List the same bytes under many names, each 1 MiB: a bomb without compression."""
    entries = {"x/data.pkl": state(tensor()), "x/data/0": bytes(1 << 20)}
    data = zipped(entries)
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    last = data.index(b"PK\x01\x02", start + 4)
    copies = [data[last:end][:-1] + bytes([digit]) for digit in b"123456789"]
    names = [data[last:end], *copies]
    directory = data[start:last] + b"".join(names)
    count = 1 + len(names)
    total = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), start, 0)
    return data[:start] + directory + b"PK\x05\x06" + total


def _past_the_end(canary: Path) -> bytes:
    """Say that the pickle reaches beyond the file, hidden from checks for overlapping entries."""
    data = bytearray(zipped({"x/data.pkl": state(tensor()), "x/version": b"3\n"}))
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    struct.pack_into("<II", data, first + 20, len(data) - 8, len(data) - 8)
    struct.pack_into("<I", data, second + 42, 0)
    return bytes(data)


def _crowded(canary: Path) -> bytes:
    """Declare 100,000 empty entries in the directory."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<HHHHHII", 3, 0, 0, 0, 0, 0, 0) + b"x/y"
    first = zipped({"x/data.pkl": b"."})
    start = first.index(b"PK\x01\x02")
    size = 100_000 * len(entry)
    total = struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, size, start, 0)
    return first[:start] + entry * 100_000 + b"PK\x05\x06" + total


def _encrypted(canary: Path) -> bytes:
    data = bytearray(archive(state(tensor())))
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + place] |= 1
    return bytes(data)


def _laughs(levels: int) -> bytes:
    """Nest tuples of twice the same: tiny as a graph, without end when written out."""
    return b"\x80\x02)" + b"".join(b"q\x01h\x01\x86" for _ in range(levels)) + b"."


PICKLES: dict[str, Make] = {
    "REDUCE os.system": lambda canary: archive(reduced(canary)),
    "REDUCE os.system beside true weights": _beside_true_weights,
    "GLOBAL os.system": _program(b"\x80\x02cos\nsystem\n."),
    "GLOBAL posix.system inside a state": _program(state(b"cposix\nsystem\n")),
    "INST os.system": lambda c: archive(b"\x80\x02(" + shell(c) + b"ios\nsystem\n."),
    "OBJ os.system": lambda c: archive(b"\x80\x02(cos\nsystem\n" + shell(c) + b"o."),
    "NEWOBJ subprocess.Popen": lambda c: archive(
        b"\x80\x02csubprocess\nPopen\n(" + shell(c) + b"t\x81."
    ),
    "NEWOBJ_EX": lambda c: archive(b"\x80\x04csubprocess\nPopen\n(" + shell(c) + b"t}\x92."),
    "STACK_GLOBAL os.system": lambda c: archive(
        b"\x80\x04" + text("os") + text("system") + b"\x93(" + shell(c) + b"tR."
    ),
    "EXT1 registry": _program(b"\x80\x02\x82\x01)R."),
    "BUILD with __setstate__": lambda c: archive(_set_state(c)),
    "BUILD with attributes": _program(
        b"\x80\x02" + DICTIONARY + b"}" + text("__class__") + DICTIONARY + b"sb."
    ),
    "BUILD on a tensor": _program(b"\x80\x02" + tensor() + b"}b."),
    "call of eval": _called("builtins.eval"),
    "call of exec": _called("builtins.exec"),
    "call of runpy": _called("runpy._run_code"),
    "call of getattr": _called("builtins.getattr"),
    "call of torch.load": _called("torch.load"),
    "call of torch.hub": _called("torch.hub\nload"),
    "call of a tensor's function with a command": lambda c: archive(
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + shell(c) + b"tR."
    ),
    "rebuild by a type of the file's choice": lambda c: archive(
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\n" + shell(c) + b"tR."
    ),
    "numpy reconstruction": _called("numpy.core.multiarray\n_reconstruct"),
    "a whole model": _whole_model,
    "SETITEM on a tensor (CVE-2026-24747)": _program(
        b"\x80\x02" + tensor() + number(0) + number(1 << 40) + b"s."
    ),
    "SETITEMS on a storage name": _program(
        b"\x80\x02ctorch\nFloatStorage\n(" + number(0) + number(1) + b"u."
    ),
    "SETITEMS on a list": _program(b"\x80\x02](" + number(1 << 30) + number(1) + b"u."),
    "APPEND on a dictionary": _program(b"\x80\x02}" + number(1) + b"a."),
    "dictionary key that is a tensor": _program(b"\x80\x02}" + tensor() + number(1) + b"s."),
    "storage larger than in the archive (CVE-2026-24747)": _program(state(tensor(count=1 << 20))),
    "storage of 2^62 values": _program(state(tensor(count=1 << 62))),
    "storage of negative size": _program(state(tensor(count=-4))),
    "storage smaller than in the archive": _program(state(tensor((1,), count=1))),
    "storage that is not there": _program(state(tensor(key="7"))),
    "storage key with path parts": _program(state(tensor(key="../../etc/passwd"))),
    "storage type from elsewhere": _program(state(tensor(kind="os\nsystem"))),
    "persistent id that is a text": _program(b"\x80\x02" + text("storage") + b"Q."),
    "huge shape with stride 0": _program(state(tensor((1 << 40,), (0,)))),
    "huge shape": _program(state(tensor((1 << 40,), (1,)))),
    "view beyond its storage": _program(state(tensor((2, 2), (1 << 40, 1)))),
    "offset beyond its storage": _program(state(tensor(start=1 << 40))),
    "negative offset": _program(state(tensor(start=-64))),
    "negative shape": _program(state(tensor((-1,)))),
    "strides of another length": _program(state(tensor((2, 2), (1,)))),
    "nested tuples without end": _program(_laughs(200)),
    "dictionary that holds itself": _program(b"\x80\x02}q\x01" + text("w") + b"h\x01s."),
    "150,000 nested lists": _program(b"\x80\x02" + b"]" * 75_000 + b"a" * 74_999 + b"."),
    "a million instructions": _program(b"\x80\x02" + b"N" * 1_000_000 + b"."),
    "empty stack": _program(b"\x80\x02R."),
    "unknown memo": _program(b"\x80\x02h\x05."),
    "truncated pickle": _program(state(tensor())[:-20]),
    "bytes after the end of the pickle": _program(state(tensor()) + b"cos\nsystem\n."),
    "text longer than the file": _program(b"\x80\x02X\xff\xff\xff\x7fabc."),
    "empty pickle": _program(b""),
    "no state dictionary": _program(b"\x80\x02}" + text("epoch") + number(3) + b"s."),
    "tensors of another network": _program(state(tensor())),
    "tensor with hooks": _program(state(hooked())),
    "tensors of 64 bits": _program(state(tensor((2,), kind="torch\nDoubleStorage", count=2))),
}

ARCHIVES: dict[str, Make] = {
    "nested archive": lambda c: zipped({"x/inner.zip": archive(reduced(c))}),
    "archive as the pickle": lambda c: archive(archive(reduced(c))),
    "zip bomb": lambda c: zipped(
        {"x/data.pkl": state(tensor()), "x/data/0": bytes(64 << 20)}, zipfile.ZIP_DEFLATED
    ),
    "overlapping entries": _overlapping,
    "entry past the end of the file": _past_the_end,
    "100,000 entries": _crowded,
    "encrypted entries": _encrypted,
    "path traversal": lambda c: zipped({"../../x/data.pkl": reduced(c)}),
    "absolute path": lambda c: zipped({"/x/data.pkl": reduced(c)}),
    "two top folders": lambda c: zipped({"x/data.pkl": b".", "y/data.pkl": reduced(c)}),
    "script archive": lambda c: archive(state(tensor()), x_code_evil=reduced(c)),
    "big-endian": lambda c: archive(state(tensor()), x_byteorder=b"big"),
    "endless note": lambda c: archive(state(tensor()), x_version=bytes(1 << 16)),
    "bytes before the archive's end cut off": lambda c: archive(state(tensor()))[:-40],
    "comment": lambda c: archive(state(tensor()))[:-2] + b"\x02\0hi",
    "archive without entries": lambda c: b"PK\x03\x04" + zipped({}),
    ".npz": lambda c: zipped({"arr_0.npy": b"\x93NUMPY" + bytes(64)}),
    "legacy layout with a payload": _legacy,
    "legacy layout": _honest_legacy,
    "tar layout with a payload (CVE-2025-32434)": _tar,
    "raw pickle": reduced,
    "raw pickle of protocol 0": lambda c: b"cos\nsystem\n(S'touch " + bytes(c) + b"'\ntR.",
    "compressed pickle": lambda c: gzip.compress(reduced(c)),
    "empty file": lambda c: b"",
    "one byte": lambda c: b"P",
    "only a signature": lambda c: b"PK\x03\x04",
    "text": lambda c: b"Dear Sir, here are my weights.",
    "ONNX with external data": lambda c: b"\x08\x07\x12\x04test location../../../etc/passwd",
    "GGUF": lambda c: b"GGUF\x03\0\0\0" + b"\xff" * 64,
    "HDF5": lambda c: b"\x89HDF\r\n\x1a\n" + bytes(64),
}
