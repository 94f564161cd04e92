# SPDX-License-Identifier: GPL-3.0-or-later
"""What guides a network with guides in training: masks of segments, and of which pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from dehaze_core.errors import SettingsError
from dehaze_core.segmentation.coding import CODINGS, Coding
from dehaze_core.training.shares import are_shares

GuideSource = Literal["clear", "hazy", "dehazed", "gray", "empty"]
"""What a guide is made of, see `GuideRecipe`."""

MaskMaker = Literal["felzenszwalb", "slic", "files"]
"""What finds the segments of a crop, see `GuideRecipe`."""

SOURCES: tuple[GuideSource, ...] = get_args(GuideSource)


@dataclass(frozen=True, slots=True)
class GuideRecipe:
    """Where the guides of training pictures come from.

    Masks of clear pictures alone, as published, make a network trust what it will not get in use:
    those of hazy or dehazed pictures are worse. So they are mixed, and some are left out.

    Attributes:
        sources: How often a guide is made of what: `clear`, `hazy` or `dehazed` (by the dark
            channel prior) are masks of the clear picture, of the hazy one, and of the hazy one
            dehazed; `gray` is the mean of the hazy bands, no mask; `empty` is none.
        segmenter: What finds segments: `felzenszwalb` or `slic` in every crop, or `files`, label
            pictures made before, which stand for `clear`; `hazy` and `dehazed` are then
            segmented by `felzenszwalb`.
        coding: How segments become gray levels, see `dehaze_core.segmentation.coding`.
    """

    sources: Mapping[str, float] = field(
        default_factory=lambda: {
            "clear": 0.4,
            "hazy": 0.2,
            "dehazed": 0.15,
            "gray": 0.1,
            "empty": 0.15,
        }
    )
    segmenter: MaskMaker = "felzenszwalb"
    coding: Coding = "paint"

    def __post_init__(self) -> None:
        """Check names and shares."""
        if not are_shares(self.sources, SOURCES):
            raise SettingsError(
                f"A guide has sources {self.sources}; expected shares of at least 0, not all 0, "
                f"of {', '.join(SOURCES)}."
            )
        for name, known in (("segmenter", get_args(MaskMaker)), ("coding", CODINGS)):
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"The '{name}' of a guide is {getattr(self, name)!r}, expected one of "
                    f"{', '.join(known)}."
                )
        if self.segmenter == "files" and self.coding != "paint":
            raise SettingsError(
                f"The coding of a guide is '{self.coding}', but masks of files do not overlap.",
                hint="Choose the coding 'paint'.",
            )

    @property
    def shares(self) -> list[float]:
        """Return the shares of all `SOURCES`."""
        return [self.sources.get(name, 0.0) for name in SOURCES]
