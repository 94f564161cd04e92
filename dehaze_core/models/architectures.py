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
from dehaze_core.models.config import NetworkConfig
from dehaze_core.models.dehazexl import published_config as published
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig
from dehaze_core.models.dehazexl.published import DehazeXL
from dehaze_core.models.sam_guided.guided import GuidedDehazeXL, GuidedLite, GuidedStudent
from dehaze_core.models.sam_guided.restormer import Restormer, RestormerConfig
from dehaze_core.models.sam_guided.unet import UNet, UNetConfig
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.models.student.student import Student, StudentConfig

WEIGHT_TYPES = ("F16", "BF16", "F32")
"""Types weights may have, under their safetensors names."""

ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "I64": 8}
"""Bytes of a value in the types a file may hold: weights, and indices that are left behind."""

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
    """How to make a network from the configuration in a card.

    Attributes:
        network: Class of the network, made of its configuration.
        default: The default configuration.
        growth: A network from a card may be this many times as wide or deep as the default.
    """

    network: Callable[[Any], StreamedNetwork]
    default: NetworkConfig
    growth: int = 1  # what is larger has a name of its own


ARCHITECTURES = {
    "dehazexl-lite": Architecture(DehazeXLLite, LiteConfig(), growth=2),
    "dehazexl-base": Architecture(DehazeXL, published.BASE),
    "dehazexl-small": Architecture(DehazeXL, published.SMALL),
    "dehazexl-swin-s": Architecture(DehazeXL, published.SWIN_S),
    "dehazexl-swin-b": Architecture(DehazeXL, published.SWIN_B),
    "dehazexl-swin-l": Architecture(DehazeXL, published.SWIN_L),
    "distilled": Architecture(Student, StudentConfig(), growth=4),
    "guided-lite": Architecture(GuidedLite, LiteConfig(), growth=2),
    "guided-base": Architecture(GuidedDehazeXL, published.BASE),
    "guided-small": Architecture(GuidedDehazeXL, published.SMALL),
    "guided-distilled": Architecture(GuidedStudent, StudentConfig(), growth=4),
    "guided-unet": Architecture(UNet, UNetConfig(), growth=2),
    "guided-restormer": Architecture(Restormer, RestormerConfig(), growth=4),
}


def find_architecture(name: str) -> Architecture:
    """Return an architecture by name.

    Raises:
        ModelError: It is unknown (MODEL_ARCHITECTURE).
    """
    if name not in ARCHITECTURES:
        raise ModelError(
            f"There is no architecture {name[:80]!r}; known are {', '.join(ARCHITECTURES)}.",
            hint="A newer version of Dehaze may know it.",
            code="MODEL_ARCHITECTURE",
        )
    return ARCHITECTURES[name]


def build_network(architecture: str, config: Mapping[str, Any] | None = None) -> StreamedNetwork:
    """Return an untrained network.

    Args:
        architecture: One of `ARCHITECTURES`.
        config: Shape of the network; what is left out is as the architecture's default.

    Raises:
        ModelError: The architecture is unknown (MODEL_ARCHITECTURE) or cannot take that shape, or
            it would be unreasonably large (MODEL_CARD).
    """
    kind = find_architecture(architecture)
    default = kind.default.as_dict()
    try:
        check_shape(config or {}, default, kind.growth)
        network = kind.network(type(kind.default).from_dict({**default, **(config or {})}))
    except (LookupError, ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise ModelError(
            f"There is no network {architecture} of this shape: {error}.", code="MODEL_CARD"
        ) from error
    network.architecture = architecture
    return network


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
        if key in wanted and slot.dtype not in WEIGHT_TYPES
    ]
    differences = {
        "missing": [key for key in wanted if key not in found],
        "not known": [key for key in found if key not in wanted],
        "of another shape": shapes,
        f"of a type other than {', '.join(WEIGHT_TYPES)}": types,
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


def check_shape(config: Mapping[str, Any], default: Mapping[str, Any], growth: int) -> None:
    """Refuse a configuration that is not like the default one.

    Args:
        config: Values by name.
        default: Values of the default configuration.
        growth: Numbers may be this many times as large.

    Raises:
        ValueError: A name is unknown, or its value is of another kind or too large.
    """
    for key, value in config.items():
        if key not in default:
            raise ValueError(f"'{key[:80]}' is unknown, expected one of {', '.join(default)}")
        if not _is_sensible(value, default[key], growth):
            raise ValueError(
                f"'{key}' is {str(value)[:80]}, expected something like {default[key]}; "
                f"numbers are whole, above 0 and at most {growth} times as large"
            )


def _is_sensible(value: object, default: object, growth: int) -> bool:
    """Tell whether a value is like its default, so that a card cannot ask for endless layers."""
    if isinstance(default, tuple | list):
        return (
            isinstance(value, tuple | list)
            and len(value) == len(default)
            and all(_is_sensible(*pair, growth) for pair in zip(value, default, strict=True))
        )
    if isinstance(default, int) and not isinstance(default, bool):
        return type(value) is int and 0 < value <= growth * default
    return type(value) is type(default)


def _few(listed: list[str]) -> str:
    texts = [text[:120] for text in listed[:_SHOWN]]
    return ", ".join(texts) + (", ..." if len(listed) > _SHOWN else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
