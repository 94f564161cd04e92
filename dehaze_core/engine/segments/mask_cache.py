# SPDX-License-Identifier: GPL-3.0-or-later
"""Segments that were found once, kept in the user's cache for the next run over the same scene.

Each entry is one file, written whole or not at all, that begins with a digest of the rest. Damaged
entries count as not there. The entries used longest ago make room for new ones.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dehaze_core import __version__
from dehaze_core.engine.disk import bytes_on_disk
from dehaze_core.grid import Window
from dehaze_core.places import masks_folder
from dehaze_core.scene.fingerprint import digest
from dehaze_core.segmentation.picture import Segments
from dehaze_core.segmentation.regions import Region

MOST_BYTES = 512 << 20
"""Size of all entries together above which old ones are removed."""

# Raised whenever the same picture would be segmented to something else.
_VERSION = 2

_SUFFIX, _PARTIAL = ".mask", ".partial"
_DIGEST_BYTES = 32
# A file that a killed process has left is older than any that is being written, in seconds.
_STILL_WRITTEN = 3600.0


@dataclass(frozen=True, slots=True)
class MaskCache:
    """A folder of segments by key.

    Attributes:
        folder: Where they are; it need not exist.
        most_bytes: Size of all entries together above which old ones are removed.
    """

    folder: Path
    most_bytes: int = MOST_BYTES

    @classmethod
    def of_user(cls) -> MaskCache:
        """Return the cache in the user's own folder."""
        return cls(masks_folder())

    def load(self, key: str) -> Segments | None:
        """Return the segments kept under a key, or None where there are none or damaged ones."""
        path = self._path(key)
        try:
            stored = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        content = stored[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != stored[:_DIGEST_BYTES]:
            return None
        try:
            return _unpacked(content)
        except (KeyError, ValueError):
            # Whole, but of another version.
            return None

    def store(self, key: str, segments: Segments) -> None:
        """Keep segments under a key; a disk that is full or may not be written is no error."""
        content = _packed(segments)
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, made = tempfile.mkstemp(suffix=_PARTIAL, dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(content).digest())
                    file.write(content)
                os.replace(made, self._path(key))
            except OSError:
                Path(made).unlink(missing_ok=True)
                raise
            self._make_room(key)

    def files(self) -> list[Path]:
        """Return the files of the cache, those used longest ago first."""
        found = []
        for path in (*self.folder.glob(f"*{_SUFFIX}"), *self.folder.glob(f"*{_PARTIAL}")):
            # Another process may be removing it.
            with suppress(OSError):
                found.append((path.lstat().st_mtime, path))
        return [path for _, path in sorted(found)]

    def clear(self) -> bool:
        """Remove all entries; return whether none is left."""
        for path in self.files():
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            self.folder.rmdir()
        return not self.files()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _make_room(self, key: str) -> None:
        """Remove what nobody finishes any more, and old entries, but not that of the key."""
        now = time.time()
        left = []
        for path in self.files():
            state = path.lstat()
            if path.suffix == _SUFFIX:
                left.append((path, bytes_on_disk(state)))
            elif now - state.st_mtime > _STILL_WRITTEN:
                path.unlink(missing_ok=True)
        total = sum(size for _, size in left)
        for path, size in left:
            if total <= self.most_bytes:
                break
            if path != self._path(key):
                path.unlink(missing_ok=True)
                total -= size


def cache_key(*parts: str) -> str:
    """Return a key for segments that depend on these parts, and on how Dehaze finds segments."""
    return digest([__version__, str(_VERSION), *parts])


def _packed(segments: Segments) -> bytes:
    """Return segments as the content of a compressed NumPy archive."""
    regions = segments.regions
    boxes = [(r.row, r.col, r.height, r.width) for r in regions]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        labels=segments.labels,
        boxes=np.array(boxes, np.int32).reshape(-1, 4),
        areas=np.array([region.area for region in regions], np.int64),
        scores=np.array([region.score for region in regions], np.float64),
        bits=np.frombuffer(b"".join(region.packed for region in regions), np.uint8),
        facts=np.array((segments.levels, segments.tiles, segments.valid, segments.left_out)),
    )
    return content.getvalue()


def _unpacked(content: bytes) -> Segments:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        boxes, areas, scores = archive["boxes"], archive["areas"], archive["scores"]
        bits = archive["bits"].tobytes()
        levels, tiles, valid, left_out = archive["facts"].tolist()
        labels = archive["labels"]
    regions = []
    start = 0
    for box, area, score in zip(boxes.tolist(), areas.tolist(), scores.tolist(), strict=True):
        window = Window(*box)
        stop = start + window.height * -(-window.width // 8)
        regions.append(Region(window, area, score, bits[start:stop]))
        start = stop
    return Segments(labels, tuple(regions), levels, tiles, valid, left_out)
