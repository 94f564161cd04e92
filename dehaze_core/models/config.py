# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes of networks as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Base of the shapes of networks: frozen, checked against its defaults, written to cards.

    Raises:
        ValueError: A value is not like its default: a whole number above 0, as many of them in a
            tuple, a text, or true or false.
    """

    def __post_init__(self) -> None:
        """Check the kind of every value."""
        for each in fields(self):
            value = getattr(self, each.name)
            if not _is_like(value, each.default):
                raise ValueError(
                    f"'{each.name}' is {str(value)[:80]}, expected something like {each.default}; "
                    "numbers are whole and above 0"
                )

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data for a model card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read a configuration written by `as_dict` (lists become tuples)."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


def _is_like(value: object, default: object) -> bool:
    if isinstance(default, tuple) and isinstance(value, tuple):
        return len(value) == len(default) and all(map(_is_like, value, default))
    if type(value) is not type(default):
        return False
    return not isinstance(value, int) or isinstance(value, bool) or value > 0
