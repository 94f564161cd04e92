# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool of clear images to put haze on."""

from __future__ import annotations

import math
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dehaze_core.errors import InputError
from dehaze_core.scene import manifest_rows, manifest_sites, raster_files, read_texture
from dehaze_core.training.labels import Box, Labels, cut_labels, read_labels
from dehaze_core.training.rasters import ClearRaster

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""Endings of pictures of three 8-bit channels; all else is read as a raster, window by window."""

CELL_PX = 256
"""Side of the cells of a collage, and of the largest crop that is always one piece of ground."""

MOST_ENLARGED = 1.5
"""An image is enlarged this much at most."""

LEAST_SIDE_PX = math.ceil(CELL_PX / MOST_ENLARGED)
"""Shorter side that at least one image of a pool must have, so that cells can be cut from it."""

RgbImage = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Crop:
    """A square piece of clear ground.

    Attributes:
        picture: (side, side, 3) uint8, display-encoded.
        labels: (side, side) its segments, 0 for none; None if the pool has no labels.
    """

    picture: RgbImage
    labels: NDArray[np.int32] | None


@dataclass(frozen=True, slots=True)
class ImagePool:
    """Clear images, grouped by the site they show.

    Attributes:
        sites: For every site its images, (H, W, 3) uint8, display-encoded; large rasters are read
            window by window.
        labels: For every site the segments of its images, 0 for none, in the same order, as large
            as the images or smaller in proportion; empty if nobody asks for segments.

    Raises:
        InputError: No image is large enough to cut from (INPUT_SIZE).
    """

    sites: dict[str, list[RgbImage | ClearRaster]]
    labels: dict[str, list[Labels]] = field(default_factory=dict)
    _shares: dict[str, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check that there is an image that crops can be cut from."""
        sides = [min(image.shape[:2]) for images in self.sites.values() for image in images]
        if max(sides, default=0) < LEAST_SIDE_PX:
            raise InputError(
                f"The largest image of the sites {', '.join(sorted(self.sites)[:5])} has a shorter "
                f"side of {max(sides, default=0)} px, expected {LEAST_SIDE_PX} px or more.",
                hint="Give larger images, such as chips of 256 x 256 px.",
                code="INPUT_SIZE",
            )
        # Between "every site alike" and "every image alike".
        weights = {name: _pixels(images) ** 0.5 for name, images in self.sites.items()}
        shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
        object.__setattr__(self, "_shares", shares)

    def __len__(self) -> int:
        """Return the number of images."""
        return sum(len(images) for images in self.sites.values())

    def crop(self, rng: np.random.Generator, size: int) -> RgbImage:
        """Draw a square clear image of `size` px, see `cut`."""
        return self.cut(rng, size).picture

    def cut(self, rng: np.random.Generator, size: int) -> Crop:
        """Draw a square clear image of `size` px with its segments, if there are any.

        Larger sides come from large images (scaled a little where needed) or are collages of
        smaller ones, so that one haze field can lie over ground of many kinds.
        """
        while True:
            image, labels = self._draw(rng)
            large_enough = min(image.shape[:2]) * MOST_ENLARGED >= size
            if large_enough and (size <= CELL_PX or rng.random() < 0.7):
                crop = _scaled_crop(rng, image, labels, size)
                if crop is not None:
                    return crop
            if size > CELL_PX:
                return self._collage(rng, size)

    def _draw(self, rng: np.random.Generator) -> tuple[RgbImage | ClearRaster, Labels | None]:
        names, shares = list(self._shares), list(self._shares.values())
        name = names[int(rng.choice(len(names), p=shares))]
        number = int(rng.integers(len(self.sites[name])))
        labels = self.labels[name][number] if self.labels else None
        return self.sites[name][number], labels

    def _collage(self, rng: np.random.Generator, size: int) -> Crop:
        cell = size // 2 if size > 2 * CELL_PX and rng.random() < 0.5 else CELL_PX
        picture = np.empty((size, size, 3), np.uint8)
        labels = np.zeros((size, size), np.int32) if self.labels else None
        for row in range(0, size, cell):
            for col in range(0, size, cell):
                piece = self.cut(rng, cell)
                place = (slice(row, row + cell), slice(col, col + cell))
                inside = (slice(size - row), slice(size - col))
                picture[place] = piece.picture[inside]
                if labels is not None and piece.labels is not None:
                    own = piece.labels[inside]
                    # Segments of different pieces are different ones.
                    labels[place] = np.where(own > 0, own + labels.max(), 0)
        return Crop(picture, labels)


def load_images(
    folder: Path, held_out: float = 0.08, masks: Path | None = None
) -> tuple[ImagePool, ImagePool]:
    """Read all images below a folder and split them by site.

    The site is the column `site` of a MANIFEST.csv (columns `path`, `site`) if there is one,
    else the folder an image lies in. A site is either trained on or held out, never both, since
    images of one site overlap.

    Args:
        folder: Folder with pictures of three 8-bit channels, and rasters of any type.
        held_out: Share of the images that is held out, whole sites at least; at least one site
            is on each side.
        masks: Folder of label pictures, one for every image: at the same place, its name ending
            with .png. None if nobody asks for segments.

    Returns:
        The pool to train on and the pool to validate on.

    Raises:
        InputError: There is no folder (INPUT_MISSING) or no image in it (INPUT_EMPTY), only one
            site (INPUT_SITES), MANIFEST.csv is no table (INPUT_MANIFEST), none large enough on one
            side (INPUT_SIZE), or an image cannot be read (INPUT_CORRUPT, INPUT_NODATA, or as for
            any raster); or there is no mask of an image that fits (MASK_MISSING, MASK_SHAPE,
            MASK_UNREADABLE).
    """
    paths = raster_files(folder)
    site_of = manifest_sites(folder)
    train: dict[str, list[Path]] = defaultdict(list)
    validation: dict[str, list[Path]] = defaultdict(list)
    names = {
        path: site_of.get(path.relative_to(folder).as_posix(), path.parent.name) for path in paths
    }
    held_sites = _held_out_sites(list(names.values()), held_out)
    for path, site in names.items():
        (validation if site in held_sites else train)[site].append(path)
    return _pool(train, folder, masks), _pool(validation, folder, masks)


def load_textures(folder: Path) -> list[NDArray[np.float32]]:
    """Read real thickness textures: grey images, stretched to [0, 1] by their percentiles.

    Raises:
        InputError: There is none (INPUT_MISSING, INPUT_EMPTY), or one cannot be read or shows no
            differences (INPUT_TEXTURE).
    """
    return [read_texture(str(path)) for path in raster_files(folder)]


def _pool(paths: dict[str, list[Path]], folder: Path, masks: Path | None) -> ImagePool:
    sites = {site: [_load(path) for path in each] for site, each in paths.items()}
    if masks is None:
        return ImagePool(sites)
    labels = {
        site: [
            read_labels((masks / path.relative_to(folder)).with_suffix(".png"), image.shape)
            for path, image in zip(paths[site], images, strict=True)
        ]
        for site, images in sites.items()
    }
    return ImagePool(sites, labels)


def _load(path: Path) -> RgbImage | ClearRaster:
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _load_picture(path)
    raster = ClearRaster(path)
    side = min(*raster.shape[:2], 256)
    found = raster.window(np.random.default_rng(0), side)
    if found is None:
        raise InputError(
            f"No window of {side} px without nodata was found in {path}.",
            hint="Take it out of the folder, or cut it to its valid part.",
            code="INPUT_NODATA",
        )
    pixels, _ = found
    # A chip is its only window.
    return pixels if pixels.shape == raster.shape else raster


def _load_picture(path: Path) -> RgbImage:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    # What Pillow raises depends on the format and on where it is damaged.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"The picture {path} cannot be read: {error}.",
            hint="Take it out of the folder, or get it again.",
            code="INPUT_CORRUPT",
        ) from error


def licences(folder: Path) -> dict[str, int]:
    """Return how many images there are under each licence, where a MANIFEST.csv tells."""
    return dict(Counter(row["licence"] for row in manifest_rows(folder) if row.get("licence")))


def _held_out_sites(site_of_images: list[str], share: float) -> set[str]:
    """Return sites, ordered by a hash of their names, until they hold `share` of the images."""
    counts = Counter(site_of_images)
    if len(counts) < 2:
        raise InputError(
            f"All images are of one site, '{site_of_images[0]}'; at least two are expected, since "
            "one is held out to measure what was learned.",
            hint="Put the images of each site into a folder of its own, or list their sites in "
            "MANIFEST.csv (columns path, site).",
            code="INPUT_SITES",
        )
    held: set[str] = set()
    for site in sorted(counts, key=lambda name: zlib.crc32(name.encode()))[:-1]:
        if held and sum(counts[s] for s in held) >= share * len(site_of_images):
            break
        held.add(site)
    return held


def _pixels(images: list[RgbImage | ClearRaster]) -> int:
    return sum(image.shape[0] * image.shape[1] for image in images)


def _scaled_crop(
    rng: np.random.Generator, image: RgbImage | ClearRaster, labels: Labels | None, size: int
) -> Crop | None:
    """Draw a window and bring it to `size` px; None where a raster has none without nodata."""
    height, width = image.shape[:2]
    least = size / min(height, width)
    zoom = max(least, float(np.exp(rng.uniform(np.log(0.5), np.log(1.3)))))
    side = min(size / zoom, height, width)
    if isinstance(image, ClearRaster):
        found = image.window(rng, round(side))
        if found is None:
            return None
        pixels, window = found
        box: Box = (window.col, window.row, window.col_stop, window.row_stop)
        picture = _resized(pixels, size, (0, 0, *pixels.shape[:2]))
    else:
        top, left = rng.uniform(0, height - side), rng.uniform(0, width - side)
        if abs(side - size) < 1:
            row, col = int(top), int(left)
            box = (col, row, col + size, row + size)
            picture = image[row : row + size, col : col + size]
        else:
            box = (left, top, left + side, top + side)
            picture = _resized(image, size, box)
    return Crop(picture, None if labels is None else cut_labels(labels, image.shape, box, size))


def _resized(image: RgbImage, size: int, box: Box) -> RgbImage:
    scaled = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(scaled)
