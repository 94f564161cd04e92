# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the user's own files lie; standard library only, since QGIS looks there, too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

MOST_CARD_BYTES = 256 << 10
"""A model card that is larger is damaged or hostile."""


def models_folder() -> Path:
    """Return the folder of the user's own models: `$DEHAZE_MODELS`, or below the user's data."""
    if chosen := os.environ.get("DEHAZE_MODELS"):
        return Path(chosen)
    if sys.platform == "win32":
        data = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        data = "~/Library/Application Support"
    else:
        data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    # Not Path.home: without a home there are no models of the user's, but still those of Dehaze.
    return Path(os.path.expanduser(data)) / "dehaze" / "models"


def masks_folder() -> Path:
    """Return the folder of segments kept for later: in `$DEHAZE_CACHE`, or the user's cache."""
    if chosen := os.environ.get("DEHAZE_CACHE"):
        return Path(chosen) / "masks"
    if sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        cache = "~/Library/Caches"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(cache)) / "dehaze" / "masks"


def segmenters_folder() -> Path:
    """Return where the weights of Segment Anything are kept, within the folder of models."""
    return models_folder() / "segmenters"
