# SPDX-License-Identifier: GPL-3.0-or-later
"""What a checkpoint's pickle would make, found out without making it.

A pickle is a program. PyTorch writes only a few of its instructions into checkpoints, so a small
machine can follow them with records in the place of tensors: nothing is imported or called, and
whatever is not needed for tensors in dictionaries is refused. It runs before the unpickler does, so
that a file that would attack the unpickler never reaches it.
"""

from __future__ import annotations

import pickletools  # nosec B403
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dehaze_core.errors import ModelError
from dehaze_core.models.architectures import Slot

MOST_INSTRUCTIONS = 200_000

_STORAGES = {
    "torch HalfStorage": ("F16", 2),
    "torch BFloat16Storage": ("BF16", 2),
    "torch FloatStorage": ("F32", 4),
    "torch DoubleStorage": ("F64", 8),
    "torch LongStorage": ("I64", 8),
    "torch IntStorage": ("I32", 4),
    "torch ShortStorage": ("I16", 2),
    "torch CharStorage": ("I8", 1),
    "torch ByteStorage": ("U8", 1),
    "torch BoolStorage": ("BOOL", 1),
}
_DICTIONARY = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_NAMES = {_DICTIONARY, _TENSOR, _PARAMETER, *_STORAGES}


@dataclass(frozen=True, slots=True)
class _Name:
    """Something the pickle would import."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    count: int


def follow_pickle(data: bytes, storages: Mapping[str, int]) -> object:
    """Return what a checkpoint holds, with a `Slot` in the place of each tensor.

    Args:
        data: The pickle.
        storages: Bytes of each storage in the archive, by key.

    Raises:
        ModelError: It asks for more than tensors in dictionaries and lists (MODEL_UNSAFE), or
            is malformed (MODEL_FORMAT).
    """
    machine = _Machine(storages)
    try:
        for count, (instruction, argument, position) in enumerate(pickletools.genops(data)):
            if count == MOST_INSTRUCTIONS:
                raise _unsafe(f"has more than {MOST_INSTRUCTIONS:,} instructions")
            if instruction.name == "STOP":
                if position != len(data) - 1 or len(machine.stack) != 1:
                    raise ValueError("it does not end where it should")
                return machine.stack[0]
            machine.step(instruction.name, argument)
        raise ValueError("it has no end")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelError(
            f"The pickle in it is malformed: {error}.",
            hint="The file is damaged or was made to do harm. Get it again from its source.",
            code="MODEL_FORMAT",
        ) from error


class _Machine:
    """A stack, as the unpickler has one, that holds plain data and records only."""

    def __init__(self, storages: Mapping[str, int]) -> None:
        self.stack: list[Any] = []
        self._storages = storages
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:  # noqa: ANN401 - as pickletools gives it
        """Follow one instruction."""
        if name in _CONSTANTS:
            self.stack.append(argument)
        elif name in _FIXED:
            self.stack.append(_FIXED[name])
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise _unsafe(f"uses the instruction {name}")

    def _proto(self, version: int) -> None:
        if version != 2:
            raise _unsafe(f"is of protocol {version}, expected 2 as torch.save writes it")

    def _mark(self, _: object) -> None:
        self._marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _put(self, key: int) -> None:
        self._memo[key] = self.stack[-1]

    def _get(self, key: int) -> None:
        self.stack.append(self._memo[key])

    def _new_dictionary(self, _: object) -> None:
        self.stack.append({})

    def _new_list(self, _: object) -> None:
        self.stack.append([])

    def _tuple(self, length: int | None) -> None:
        if length is None:
            self.stack.append(tuple(self._since_mark()))
            return
        items = [self.stack.pop() for _ in range(length)]
        self.stack.append(tuple(reversed(items)))

    def _append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise _unsafe("appends to something that is not a list")
        self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        # PyTorch before 2.10 followed this on any object: CVE-2026-24747.
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise _unsafe("sets items of something that is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise _unsafe("uses a dictionary key that is neither a text nor a number")
            self.stack[-1][key] = value

    def _set_one(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _global(self, name: str) -> None:
        if name not in _NAMES:
            raise _unsafe(f"asks for {name.replace(' ', '.')[:120]!r}")
        self.stack.append(_Name(name))

    def _storage(self, _: object) -> None:
        match self.stack.pop():
            case ("storage", _Name(name), str(key), str(), int(count)) if name in _STORAGES:
                dtype, item_bytes = _STORAGES[name]
            case _:
                raise _unsafe("refers to something that is not a storage of numbers")
        if self._storages.get(key) != count * item_bytes:
            raise _unsafe(
                f"says that storage {key[:20]!r} holds {count} {dtype} values, "
                f"the archive has {self._storages.get(key, 'none')} bytes of it"
            )
        self.stack.append(_Storage(dtype, count))

    def _reduce(self, _: object) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        match what, arguments:
            case _Name(name), () if name == _DICTIONARY:
                self.stack.append({})
            case (
                _Name(name),
                (_Storage() as storage, int(start), tuple(shape), tuple(strides), bool(), hooks),
            ) if name == _TENSOR and hooks == {}:
                self.stack.append(_slot(storage, start, shape, strides))
            case _Name(name), (Slot() as slot, bool(), hooks) if name == _PARAMETER and hooks == {}:
                self.stack.append(slot)
            case _:
                raise _unsafe("calls something in a way that torch.save never does")

    def _build(self, _: object) -> None:
        # The versions of layers, which torch.save attaches to a state dictionary.
        state = self.stack.pop()
        if type(self.stack[-1]) is not dict or type(state) is not dict:
            raise _unsafe("sets the state of something that is not a dictionary")
        if set(state) != {"_metadata"}:
            raise _unsafe("gives a dictionary attributes other than the versions of its layers")


def _slot(storage: _Storage, start: int, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> Slot:
    """Return the record of a tensor that is a view of a storage, wholly inside it."""
    numbers = (start, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers):
        raise _unsafe("describes a tensor of impossible shape")
    last = start + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if (0 in shape and start > storage.count) or (0 not in shape and last >= storage.count):
        raise _unsafe("describes a tensor that reaches beyond its storage")
    return Slot(storage.dtype, shape)


_CONSTANTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_FIXED: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine._proto,
    "MARK": _Machine._mark,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "EMPTY_DICT": _Machine._new_dictionary,
    "EMPTY_LIST": _Machine._new_list,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "APPEND": lambda machine, _: machine._append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._since_mark()),
    "SETITEM": _Machine._set_one,
    "SETITEMS": lambda machine, _: machine._set(machine._since_mark()),
    "GLOBAL": _Machine._global,
    "BINPERSID": _Machine._storage,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
}


def _unsafe(what: str) -> ModelError:
    return ModelError(
        f"The pickle in it {what}; tensors in dictionaries are expected, and nothing else.",
        hint="Do not trust the file. Ask its maker for a safetensors file, or for one that holds "
        "the state_dict only.",
        code="MODEL_UNSAFE",
    )
