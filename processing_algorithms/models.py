# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the models that can be chosen in QGIS."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ..dehaze_core.places import MOST_CARD_BYTES, models_folder


class Kind(NamedTuple):
    """Models that one algorithm runs.

    Attributes:
        known: Their names, the default first. Those without weights are named so that choosing
            them says how to get some.
        architecture: Pattern of the architectures of the user's models of this kind.
    """

    known: tuple[str, ...]
    architecture: str


DEHAZEXL = Kind(("dehazexl-lite", "dehazexl-base", "dehazexl-small"), "dehazexl*")
DISTILLED = Kind(("distilled",), "distilled")
GUIDED = Kind(
    (
        "guided-lite",
        "guided-base",
        "guided-small",
        "guided-distilled",
        "guided-unet",
        "guided-restormer",
    ),
    "guided-*",
)
KINDS = (DEHAZEXL, DISTILLED, GUIDED)


def model_names(kind: Kind) -> tuple[str, ...]:
    """Return the known models of a kind, and after them those that the user has imported, by name.

    Of a card only the architecture is looked at: whether a model is sound, the engine finds out.
    """
    known_anywhere = {name for each in KINDS for name in each.known}
    try:
        cards = [path for path in models_folder().glob("*.json") if path.is_file()]
    except OSError:
        # A folder that may not be entered is one without models.
        cards = []
    imported = {card.stem for card in cards if fnmatchcase(_architecture(card), kind.architecture)}
    return (*kind.known, *sorted(imported - known_anywhere))


def _architecture(card: Path) -> str:
    """Return the architecture a model card names; empty for a damaged card."""
    try:
        with card.open("rb") as file:
            # The engine refuses larger cards; what is cut off here is no JSON any more.
            content = json.loads(file.read(MOST_CARD_BYTES).decode("utf-8"))
    # Deeply nested JSON ends in RecursionError.
    except (OSError, ValueError, RecursionError):
        return ""
    architecture = content.get("architecture") if isinstance(content, dict) else None
    return architecture if isinstance(architecture, str) else ""
