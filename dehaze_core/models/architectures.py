# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of networks by name, and the tensors that weights for them must consist of.

A further architecture is one more entry of `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dehaze_core.errors import ModelError
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig

MOST_GROWTH = 2
"""A network from a card may be this many times as wide or deep as the architecture's default."""

ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
"""Bytes of a value in the types weights may have, under their safetensors names."""

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Slot:
    """Type (safetensors name) and shape of one tensor of a checkpoint."""

    dtype: str
    shape: tuple[int, ...]


Outline = Mapping[str, Slot]
"""All tensors of a checkpoint by name, without their values."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How to make a network from the configuration in a card, and the default configuration."""

    build: Callable[[dict[str, Any]], DehazeXLLite]
    default: dict[str, Any]


ARCHITECTURES = {
    "dehazexl-lite": Architecture(
        build=lambda config: DehazeXLLite(LiteConfig.from_dict(config)),
        default=LiteConfig().as_dict(),
    ),
}


def build_network(architecture: str, config: dict[str, Any] | None = None) -> DehazeXLLite:
    """Return an untrained network.

    Args:
        architecture: One of `ARCHITECTURES`.
        config: Shape of the network, the architecture's default if None.

    Raises:
        ModelError: The architecture is unknown (MODEL_ARCHITECTURE) or cannot take that shape, or
            it would be unreasonably large (MODEL_CARD).
    """
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"There is no architecture {architecture[:80]!r}; known are "
            f"{', '.join(ARCHITECTURES)}.",
            hint="A newer version of Dehaze may know it.",
            code="MODEL_ARCHITECTURE",
        )
    kind = ARCHITECTURES[architecture]
    config = kind.default if config is None else config
    try:
        for key, value in config.items():
            default = kind.default[key]
            if not _is_sensible(value, default):
                raise ValueError(
                    f"'{key}' is {str(value)[:80]}, expected at most {MOST_GROWTH} times {default}"
                )
        return kind.build(config)
    except (LookupError, ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise ModelError(
            f"There is no network {architecture} of this shape: {error}.", code="MODEL_CARD"
        ) from error


def check_layout(found: Outline, network: nn.Module) -> None:
    """Refuse a checkpoint whose tensors are not exactly those of the network.

    Raises:
        ModelError: Tensors are missing, superfluous, or of another shape or type (MODEL_SHAPE); the
            message lists the first few.
    """
    wanted: dict[str, Tensor] = network.state_dict()
    shapes = [
        f"{key} {found[key].dtype} {_shape(found[key].shape)} instead of {_shape(value.shape)}"
        for key, value in wanted.items()
        if key in found and found[key].shape != tuple(value.shape)
    ]
    types = [
        f"{key} {slot.dtype}"
        for key, slot in found.items()
        if key in wanted and slot.dtype not in ITEM_BYTES
    ]
    differences = {
        "missing": [key for key in wanted if key not in found],
        "not known": [key for key in found if key not in wanted],
        "of another shape": shapes,
        f"of a type other than {', '.join(ITEM_BYTES)}": types,
    }
    told = [
        f"{len(listed)} {what} ({_few(listed)})" for what, listed in differences.items() if listed
    ]
    if told:
        raise ModelError(
            f"Of the {len(wanted)} tensors of its network, or beside them, "
            f"tensors are {'; '.join(told)}.",
            hint="Weights of exactly this architecture and shape are needed.",
            code="MODEL_SHAPE",
        )


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights with NaN or infinity in them.

    Raises:
        ModelError: A tensor holds a value that is no finite number (MODEL_VALUES).
    """
    bad = [key for key, value in tensors.items() if not bool(value.isfinite().all())]
    if bad:
        raise ModelError(
            f"{len(bad)} tensors hold values that are not finite ({_few(bad)}).",
            hint="The training has diverged, or the file is damaged.",
            code="MODEL_VALUES",
        )


def _is_sensible(value: object, default: object) -> bool:
    """Tell whether a value is like its default, so that a card cannot ask for endless layers."""
    if isinstance(default, tuple | list):
        return (
            isinstance(value, tuple | list)
            and len(value) == len(default)
            and all(map(_is_sensible, value, default))
        )
    if isinstance(default, int) and not isinstance(default, bool):
        return type(value) is int and 0 < value <= MOST_GROWTH * default
    return type(value) is type(default)


def _few(listed: list[str]) -> str:
    texts = [text[:120] for text in listed[:_SHOWN]]
    return ", ".join(texts) + (", ..." if len(listed) > _SHOWN else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
