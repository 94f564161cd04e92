# SPDX-License-Identifier: GPL-3.0-or-later
"""Small versions of pictures for a page: chips as they are, scenes shrunk."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dehaze_core.errors import OutputError
from dehaze_core.metrics.pairs import Picture

LONGEST = 512
"""Longer side in px of a thumbnail at most."""

QUALITY = 90  # of JPEG: no artefacts that one could take for a method's


def save_thumbnail(picture: Picture, path: Path) -> None:
    """Write a thumbnail as JPEG; folders are made.

    Raises:
        OutputError: The file cannot be written (OUTPUT_FOLDER).
    """
    image = Image.fromarray(picture)
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, format="JPEG", quality=QUALITY, subsampling=0)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.", code="OUTPUT_FOLDER") from error
