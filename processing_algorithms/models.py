# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the models that can be chosen in QGIS."""

from __future__ import annotations

from ..dehaze_core.places import models_folder

KNOWN = ("dehazexl-lite", "dehazexl-base", "dehazexl-small")
"""The first comes with weights; the others are named so that choosing them says how to get some."""


def model_names() -> tuple[str, ...]:
    """Return the known models, and after them those that the user has imported, by name.

    Only names of files are looked at: whether a model is sound, the engine finds out.
    """
    try:
        files = [path for path in models_folder().glob("*.json") if path.is_file()]
    except OSError:
        # A folder that may not be entered is one without models.
        files = []
    return (*KNOWN, *sorted({path.stem for path in files} - set(KNOWN)))
