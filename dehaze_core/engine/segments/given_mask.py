# SPDX-License-Identifier: GPL-3.0-or-later
"""A raster of codes or labels that the user gives as a mask: is it of this raster, and where?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from affine import Affine

from dehaze_core.engine.segments.guide import Codes, HeldCodes, MaskGuide, StoredCodes, segments_of
from dehaze_core.errors import InputError, SettingsError
from dehaze_core.grid import Window
from dehaze_core.models.streaming import StreamedNetwork
from dehaze_core.scene import Frame, Scene, open_scene
from dehaze_core.scene.crs import same_crs
from dehaze_core.segmentation.coding import codes_of_labels

MOST_LABELS_PX = 1 << 24
"""Pixels of a raster of labels up to which it is read as a whole, so that segments that touch get
different codes."""


@dataclass(frozen=True, slots=True)
class GivenMask:
    """A mask that the user gives, open.

    Attributes:
        scene: Its raster.
        to_mask: From (column, row) of the guided raster to those of the mask.
    """

    scene: Scene
    to_mask: Affine

    def guide(self, height: int, width: int, warn: Callable[[str], None]) -> MaskGuide:
        """Return the mask as the guide of a raster of `height` x `width` px.

        Args:
            height: Rows.
            width: Columns.
            warn: Told where segments that touch may have the same code.
        """
        frame = self.scene.frame
        codes: Codes = StoredCodes(self.scene)
        if frame.dtype != "uint8" and frame.height * frame.width <= MOST_LABELS_PX:
            codes = HeldCodes(codes_of_labels(segments_of(self.scene, frame.window)))
        elif frame.dtype != "uint8":
            warn(
                f"The mask {self.scene.path} has too many pixels ({frame.width} x {frame.height}) "
                "to look at its labels all at once: segments that touch may have the same code."
            )
        return MaskGuide(codes, height, width, self.to_mask)


def refuse_mask(network: StreamedNetwork, mask: str | None) -> None:
    """Refuse a mask for a network that is not guided.

    Raises:
        SettingsError: There is one (MASK_MODEL).
    """
    if mask is not None and not network.guides:
        raise SettingsError(
            f"The mask {mask} was given, but a model of the kind {network.architecture} is not "
            "guided by masks.",
            hint="Choose a guided model, see 'dehaze models', or leave the mask out.",
            code="MASK_MODEL",
        )


def check_mask(network: StreamedNetwork, mask: str | None, whole: Frame, place: Window) -> None:
    """Check that a run would take the mask that is given, if one is.

    Raises:
        DehazeError: It would not; see `refuse_mask` and `open_mask`.
    """
    refuse_mask(network, mask)
    if mask is not None:
        open_mask(mask, whole, place).scene.close()


def open_mask(path: str, whole: Frame, place: Window) -> GivenMask:
    """Open a raster of codes or labels as a mask.

    Args:
        path: The raster.
        whole: Frame of the raster that is guided, all of it.
        place: The part of it that is.

    Raises:
        InputError: It cannot be read, or is no mask of this raster: more than one band
            (MASK_BANDS), no integers (MASK_DTYPE), another CRS (MASK_CRS), another place
            (MASK_PLACE).
    """
    with ExitStack() as unless_refused:
        scene = _open(path)
        unless_refused.callback(scene.close)
        _check(scene)
        mask = GivenMask(scene, _to_mask(path, scene.frame, whole, place))
        unless_refused.pop_all()
        return mask


def _open(path: str) -> Scene:
    try:
        return open_scene(path)
    except InputError as error:
        if error.code != "INPUT_PALETTE":
            raise
        raise InputError(
            f"The mask {path} has a colour table, expected plain numbers.",
            hint="Write it without: gdal_translate -colorinterp_1 gray.",
            code="INPUT_PALETTE",
        ) from error


def _check(scene: Scene) -> None:
    frame = scene.frame
    if len(frame.color_bands) != 1:
        raise InputError(
            f"The mask {scene.path} has {len(frame.color_bands)} bands, expected one of codes or "
            "labels.",
            hint="Choose a raster of segments, as 'dehaze segment' writes.",
            code="MASK_BANDS",
        )
    if np.dtype(frame.dtype).kind not in "iu":
        raise InputError(
            f"The mask {scene.path} holds {frame.dtype} numbers, expected integers: codes of 8 "
            "bit, or labels.",
            hint="Convert it: gdal_translate -ot Int32.",
            code="MASK_DTYPE",
        )


def _to_mask(path: str, mask: Frame, whole: Frame, place: Window) -> Affine:
    """Return the way from (column, row) of the part of a raster to those of its mask."""
    if not same_crs(mask.crs_wkt, whole.crs_wkt):
        raise InputError(
            f"The mask {path} is in {_crs_name(mask)}, the raster in {_crs_name(whole)}; expected "
            "the same.",
            hint="Bring the mask into the coordinate reference system of the raster: 'Warp' in the "
            "toolbox, nearest neighbour.",
            code="MASK_CRS",
        )
    to_whole = Affine.translation(place.col, place.row)
    to_mask: Affine
    if mask.is_georeferenced != whole.is_georeferenced:
        raise _misplaced(f"Of the mask {path} and the raster one alone has a georeference.")
    if mask.is_georeferenced:
        to_mask = ~mask.affine * whole.affine * to_whole
    else:
        if not _is_scaled(mask, whole):
            raise _misplaced(
                f"The mask {path} of {mask.width} x {mask.height} px has no georeference, and its "
                f"sides are not in the proportion of the raster's, {whole.width} x {whole.height}."
            )
        to_mask = Affine.scale(mask.width / whole.width, mask.height / whole.height) * to_whole
    if not _overlaps(to_mask, place, mask):
        raise _misplaced(f"The mask {path} does not overlap what is to be dehazed.")
    return to_mask


def _misplaced(message: str) -> InputError:
    return InputError(
        message, hint="A mask of the same place is expected; make one with 'dehaze segment'.",
        code="MASK_PLACE",
    )  # fmt: skip


def _crs_name(frame: Frame) -> str:
    """Return the name of a CRS, the first text of its WKT."""
    if frame.crs_wkt is None:
        return "no coordinate reference system"
    return frame.crs_wkt.partition('"')[2].partition('"')[0] or "an unnamed system"


def _is_scaled(mask: Frame, whole: Frame) -> bool:
    """Tell whether a mask may be the raster scaled, its sides rounded to whole pixels."""
    spare = max(mask.width / whole.width, mask.height / whole.height, 1.0)
    apart = abs(mask.width * whole.height - mask.height * whole.width)
    return apart <= spare * (whole.width + whole.height)


def _overlaps(to_mask: Affine, place: Window, mask: Frame) -> bool:
    corners = [to_mask * (col, row) for col in (0, place.width) for row in (0, place.height)]
    cols, rows = zip(*corners, strict=True)
    # Affine publishes no types.
    return bool(
        min(cols) < mask.width and max(cols) > 0 and min(rows) < mask.height and max(rows) > 0
    )
