# SPDX-License-Identifier: GPL-3.0-or-later
"""Models for 8-bit pictures in memory, guided as they are in runs: for scores and benchmarks."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch.nn import functional as F

from dehaze_core.engine.in_memory import restore_array
from dehaze_core.engine.segments.guidance import FIRST_MODEL
from dehaze_core.engine.segments.mask_cache import MaskCache, cache_key
from dehaze_core.engine.segments.scene_picture import shrunk_shape
from dehaze_core.engine.segments.settings import DEFAULT_SIDE, DEFAULT_TILES
from dehaze_core.engine.settings import Structure
from dehaze_core.errors import SettingsError
from dehaze_core.metrics.pairs import Picture, Restorer
from dehaze_core.models import load_model
from dehaze_core.segmentation.coding import Coding, coded
from dehaze_core.segmentation.picture import Limits, Segments, segment_picture
from dehaze_core.segmentation.segmenter import Segmenter, find_segmenter

STRUCTURES: tuple[Structure, ...] = get_args(Structure)


def model_restorer(
    name: str, structure: str = "haze_mask", segmenter: str = "mobile", coding: Coding = "paint"
) -> Restorer:
    """Return what dehazes pictures with a model.

    Args:
        name: Name of the model.
        structure: What guides it if it is guided, see `RunSettings`.
        segmenter: What finds its segments; needed where the structure has some.
        coding: How these become grey codes.

    Returns:
        From a picture (H, W, 3) uint8 to the same without haze.

    Raises:
        ModelError: The model, or the weights or packages of the segmenter, are missing.
        SettingsError: The structure or the segmenter is unknown (SETTINGS_OPTION).
    """
    if not load_model(name).network.guides:
        return partial(restore_array, model=name)
    if structure not in STRUCTURES:
        raise SettingsError(
            f"There is no structure '{structure}'; known are {', '.join(STRUCTURES)}.",
            code="SETTINGS_OPTION",
        )
    if structure == "haze_gray":
        return lambda picture: restore_array(picture, name, guide=gray_codes(picture))
    found = find_segmenter(segmenter, torch.device("cpu"))
    first = FIRST_MODEL if structure == "dehaze_mask" else None

    def restore(picture: Picture) -> Picture:
        return restore_array(picture, name, guide=segment_codes(picture, found, coding, first))

    return restore


def gray_codes(picture: Picture) -> Picture:
    """Return the mean of the bands of a picture, (H, W)."""
    gray: Picture = picture.mean(axis=-1).round().astype(np.uint8)
    return gray


def segment_codes(
    picture: Picture, segmenter: Segmenter, coding: Coding = "paint", first: str | None = None
) -> Picture:
    """Return the codes of the segments of a picture, (H, W); large ones are shrunk as for a run.

    Segments are kept in the user's cache, for models that are shown the same pictures.

    Args:
        picture: (H, W, 3), all pixels valid.
        segmenter: Finds them.
        coding: How they become codes.
        first: Model that removes the haze before, if any does.
    """
    height, width = picture.shape[:2]
    seen = _shrunk(picture, shrunk_shape(height, width, DEFAULT_SIDE))
    if first is not None:
        seen = restore_array(seen, first)
    codes = coded(_segments(seen, segmenter), coding)
    rows = ((np.arange(height) + 0.5) * (codes.shape[0] / height)).astype(np.intp)
    cols = ((np.arange(width) + 0.5) * (codes.shape[1] / width)).astype(np.intp)
    spread: Picture = codes[rows][:, cols]
    return spread


def _segments(picture: Picture, segmenter: Segmenter) -> Segments:
    pixels, limits = hashlib.sha256(picture.tobytes()).hexdigest(), Limits(DEFAULT_TILES)
    key = cache_key(pixels, repr(picture.shape), repr(limits), segmenter.identity)
    cache = MaskCache.of_user()
    segments = cache.load(key)
    if segments is None:
        everywhere = np.ones(picture.shape[:2], np.bool_)
        segments = segment_picture(picture, everywhere, segmenter, limits, lambda share: None)
        cache.store(key, segments)
    return segments


def _shrunk(picture: Picture, shape: tuple[int, int]) -> Picture:
    if picture.shape[:2] == shape:
        return picture
    bands = torch.tensor(picture).permute(2, 0, 1).float()
    means = F.interpolate(bands[None], size=shape, mode="area")[0]
    shrunk: Picture = means.round().to(torch.uint8).permute(1, 2, 0).numpy()
    return shrunk
