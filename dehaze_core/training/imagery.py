# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool of clear images to put haze on."""

from __future__ import annotations

import csv
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dehaze_core.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")

RgbImage = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ImagePool:
    """Clear images, grouped by the site they show.

    Attributes:
        sites: For every site its images, (H, W, 3) uint8, display-encoded.
    """

    sites: dict[str, list[RgbImage]]

    def __len__(self) -> int:
        """Return the number of images."""
        return sum(len(images) for images in self.sites.values())

    def crop(self, rng: np.random.Generator, size: int) -> RgbImage:
        """Draw a square clear image of `size` px.

        Larger sides come from large images (scaled a little where needed) or are collages of
        smaller ones, so that one haze field can lie over ground of many kinds.
        """
        image = self._draw(rng)
        if min(image.shape[:2]) * 1.5 >= size and (size <= 256 or rng.random() < 0.7):
            return _scaled_crop(rng, image, size)
        if size > 256:
            return self._collage(rng, size)
        return self.crop(rng, size)

    def _draw(self, rng: np.random.Generator) -> RgbImage:
        names = list(self.sites)
        # Between "every site alike" and "every image alike".
        weights = np.array([_pixels(self.sites[n]) ** 0.5 for n in names])
        images = self.sites[names[int(rng.choice(len(names), p=weights / weights.sum()))]]
        return images[int(rng.integers(len(images)))]

    def _collage(self, rng: np.random.Generator, size: int) -> RgbImage:
        cell = size // 2 if size > 512 and rng.random() < 0.5 else 256
        out = np.empty((size, size, 3), np.uint8)
        for row in range(0, size, cell):
            for col in range(0, size, cell):
                out[row : row + cell, col : col + cell] = self.crop(rng, cell)[
                    : size - row, : size - col
                ]
        return out


def load_images(folder: Path, held_out: float = 0.08) -> tuple[ImagePool, ImagePool]:
    """Read all images below a folder and split them by site.

    The site is the column `site` of a MANIFEST.csv (columns `path`, `site`) if there is one,
    else the folder an image lies in. A site is either trained on or held out, never both, since
    images of
    one site overlap. Where there are fewer than ten sites, every tenth image is held out instead.

    Args:
        folder: Folder with images of three 8-bit channels.
        held_out: Share of the sites that is held out.

    Returns:
        The pool to train on and the pool to validate on.

    Raises:
        InputError: There is no image to read.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not paths:
        raise InputError(
            f"No image was found below {folder}, expected clear RGB images "
            f"({', '.join(EXTENSIONS)}).",
            hint="Give the folder of clear images with --data.",
            code="INPUT_EMPTY",
        )
    site_of = _sites(folder)
    train: dict[str, list[RgbImage]] = defaultdict(list)
    validation: dict[str, list[RgbImage]] = defaultdict(list)
    names = {
        path: site_of.get(path.relative_to(folder).as_posix(), path.parent.name) for path in paths
    }
    held_sites = _held_out_sites(list(names.values()), held_out)
    for index, path in enumerate(paths):
        site = names[path]
        held = site in held_sites if held_sites else index % 10 == 9
        with Image.open(path) as image:
            (validation if held else train)[site].append(np.asarray(image.convert("RGB")))
    return ImagePool(dict(train)), ImagePool(dict(validation) or dict(train))


def load_textures(folder: Path) -> list[NDArray[np.float32]]:
    """Read real thickness textures: grey images, stretched to [0, 1] by their percentiles."""
    textures = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS):
        with Image.open(path) as image:
            values = np.asarray(image, dtype=np.float32)
        values = values if values.ndim == 2 else values.mean(axis=2)
        # Sensor striping is not haze: average it away.
        values = values[: values.shape[0] // 2 * 2, : values.shape[1] // 2 * 2]
        values = values.reshape(values.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3))
        low, high = np.percentile(values, (0.5, 99.8))
        textures.append(np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0))
    return textures


def _sites(folder: Path) -> dict[str, str]:
    manifest = folder / "MANIFEST.csv"
    if not manifest.is_file():
        return {}
    with manifest.open(newline="", encoding="utf-8") as lines:
        return {row["path"]: row["site"] for row in csv.DictReader(lines) if row.get("site")}


def _held_out_sites(site_of_images: list[str], share: float) -> set[str]:
    """Return sites, ordered by a hash of their names, until they hold `share` of the images."""
    counts = Counter(site_of_images)
    held: set[str] = set()
    if len(counts) < 10:
        return held
    for site in sorted(counts, key=lambda name: zlib.crc32(name.encode())):
        if sum(counts[s] for s in held) >= share * len(site_of_images):
            break
        held.add(site)
    return held


def _pixels(images: list[RgbImage]) -> int:
    return sum(image.shape[0] * image.shape[1] for image in images)


def _scaled_crop(rng: np.random.Generator, image: RgbImage, size: int) -> RgbImage:
    height, width = image.shape[:2]
    least = size / min(height, width)
    zoom = max(least, float(np.exp(rng.uniform(np.log(0.5), np.log(1.3)))))
    side = min(size / zoom, height, width)
    top, left = rng.uniform(0, height - side), rng.uniform(0, width - side)
    if abs(side - size) < 1:
        row, col = int(top), int(left)
        return image[row : row + size, col : col + size]
    box = (left, top, left + side, top + side)
    scaled = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(scaled)
