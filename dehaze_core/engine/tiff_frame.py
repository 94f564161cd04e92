# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a frame onto a new GeoTIFF, and find what a written one lacks."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from dehaze_core.scene.frame import Frame, same_number

COLOR_PROFILE = "COLOR_PROFILE"
"""The domain of ICC profiles, which GDAL wants to know when it creates a file."""

_EXACT_INTEGERS = 2.0**53
_POINT_TAG = "AREA_OR_POINT"
# GDAL (seen in 3.10) copies either all domains but the bands' default one, or default domains
# alone. So the bands' default tags travel under this name, which is blanked in the finished file.
_STAND_IN = "DEHAZE_STANDS_FOR_DEFAULT"


def apply_frame(dataset: Any, frame: Frame, provenance: Mapping[str, str]) -> None:  # noqa: ANN401
    """Set everything but pixels on a dataset just created, before its first pixel is written.

    Args:
        dataset: A rasterio dataset open for writing, of the frame's size and type.
        frame: What to carry over.
        provenance: Tags of our own for the default domain.
    """
    # The colours must be known before pixels come, or GDAL fixes its own guess.
    dataset.colorinterp = [ColorInterp[name] for name in frame.color_interp]
    if frame.crs_wkt and _crs_counts(frame):
        dataset.crs = CRS.from_wkt(frame.crs_wkt)
    if frame.is_georeferenced:
        dataset.transform = Affine(*frame.transform)
    if frame.gcps:
        points = [
            GroundControlPoint(row=g.row, col=g.col, x=g.x, y=g.y, z=g.z, id=g.id, info=g.info)
            for g in frame.gcps
        ]
        dataset.gcps = points, CRS.from_wkt(frame.gcp_crs_wkt) if frame.gcp_crs_wkt else CRS()
    if frame.rpcs:
        dataset.update_tags(ns="RPC", **frame.rpcs)
    nodata = _carried_nodata(frame)
    if nodata is not None:
        dataset.nodata = nodata
    dataset.scales = frame.scales
    dataset.offsets = frame.offsets
    dataset.descriptions = frame.descriptions
    dataset.units = [unit or "" for unit in frame.units]
    _apply_tags(dataset, frame, provenance)


def differences(wanted: Frame, found: Frame) -> tuple[list[str], list[str]]:
    """Compare the frame of an output with the one it should have.

    Returns:
        Traits that make the output wrong (size, type, georeference, nodata, mask), and traits that
        are merely lost (names, units, colours, tags), each described in a few words.
    """
    wrong = [
        f"{trait} is {getattr(found, trait)!r}, not {getattr(wanted, trait)!r}"
        for trait in ("width", "height", "count", "dtype", "transform", "alpha_band")
        if getattr(found, trait) != getattr(wanted, trait)
    ]
    for trait, ours, theirs in (
        *([("CRS", wanted.crs_wkt, found.crs_wkt)] if _crs_counts(wanted) else []),
        ("CRS of the ground control points", wanted.gcp_crs_wkt, found.gcp_crs_wkt),
    ):
        if not _same_crs(ours, theirs):
            wrong.append(f"{trait} is {theirs!r}, not {ours!r}")
    if (wanted.mask == "internal") != (found.mask == "internal"):
        wrong.append(f"mask is {found.mask}, not {wanted.mask}")
    if not _same_positions(wanted, found):
        wrong.append("ground control points or RPCs differ")
    lost = []
    carried = (_carried_nodata(wanted),) * wanted.count
    if not all(map(same_number, wanted.nodata, carried)):
        lost.append(f"nodata {wanted.nodata!r}, of which {carried[0]!r} is kept for all bands")
    if not all(map(same_number, carried, found.nodata)):
        wrong.append(f"nodata is {found.nodata}, not {carried}")
    lost += [
        f"{trait} {getattr(wanted, trait)!r}"
        for trait in ("scales", "offsets", "descriptions", "units")
        if getattr(wanted, trait) != getattr(found, trait)
    ]
    if _colors(wanted) != _colors(found):
        lost.append(f"colour interpretation {wanted.color_interp!r}")
    lost += _lost_tags(wanted, found)
    return wrong, lost


def restore_band_tags(path: Path, frame: Frame) -> None:
    """Give the bands' default tags their domain back in a finished GeoTIFF.

    The metadata of a TIFF is XML text near its beginning: an attribute is overwritten with as many
    blanks, so that nothing moves and the file stays cloud-optimised.
    """
    expected = sum(len(domains.get("", {})) for domains in frame.band_tags)
    if not expected:
        return
    text = f'domain="{_STAND_IN}"'.encode()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        place = content.find(text)
        while place >= 0 and expected:
            content[place : place + len(text)] = b" " * len(text)
            expected -= 1
            place = content.find(text, place) if expected else -1


def _carried_nodata(frame: Frame) -> float | None:
    """Return the nodata value that a GeoTIFF written by rasterio can hold, or None.

    It has one for all bands, and only the first digits of 64-bit integers beyond float64 survive.
    """
    declared = next((value for value in frame.nodata if value is not None), None)
    too_long = frame.dtype in ("int64", "uint64") and abs(declared or 0.0) > _EXACT_INTEGERS
    return None if too_long else declared


def _apply_tags(dataset: Any, frame: Frame, provenance: Mapping[str, str]) -> None:  # noqa: ANN401
    for domain, tags in frame.tags.items():
        if domain == COLOR_PROFILE:
            continue
        # With a pixel reference but no CRS GDAL would make up a local coordinate system.
        kept = {key: value for key, value in tags.items() if key != _POINT_TAG or frame.crs_wkt}
        dataset.update_tags(0, ns=domain or None, **_as_items(domain, kept))
    for band, domains in enumerate(frame.band_tags, start=1):
        for domain, tags in domains.items():
            dataset.update_tags(band, ns=domain or _STAND_IN, **_as_items(domain, tags))
    if provenance:
        dataset.update_tags(**provenance)


def _as_items(domain: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as rasterio wants them; XML domains hold one text, which it cuts at a "="."""
    text = tags.get(domain)
    if text is None or not domain.startswith("xml:"):
        return dict(tags)
    key, separator, value = text.partition("=")
    return {key: value} if separator else dict(tags)


def _crs_counts(frame: Frame) -> bool:
    """Tell whether the CRS says anything: with control points alone, only theirs does."""
    return frame.is_georeferenced or not frame.gcps


def _same_crs(ours: str | None, theirs: str | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return ours == theirs or bool(CRS.from_wkt(ours) == CRS.from_wkt(theirs))


def _same_positions(wanted: Frame, found: Frame) -> bool:
    def places(frame: Frame) -> list[tuple[float, float, float, float, float]]:
        return [(g.row, g.col, g.x, g.y, g.z or 0.0) for g in frame.gcps]

    def numbers(frame: Frame) -> dict[str, list[float]]:
        return {key: _floats(value) for key, value in (frame.rpcs or {}).items()}

    ours, theirs = numbers(wanted), numbers(found)
    return places(wanted) == places(found) and all(
        # A TIFF holds them in binary; GDAL prints them with 15 digits.
        len(ours[key]) == len(theirs.get(key, []))
        and np.allclose(ours[key], theirs[key], rtol=1e-13, atol=0)
        for key in ours
    )


def _floats(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        return []


def _colors(frame: Frame) -> tuple[str, ...]:
    # A TIFF has no first band without meaning; it becomes grey, which says as little.
    first = "gray" if frame.color_interp[0] == "undefined" else frame.color_interp[0]
    return (first, *frame.color_interp[1:])


def _lost_tags(wanted: Frame, found: Frame) -> list[str]:
    lost: dict[str, list[str]] = {}
    bands = zip(wanted.band_tags, found.band_tags, strict=True)
    for owner, (ours, theirs) in [
        ("the file", (wanted.tags, found.tags)),
        *((f"band {band}", pair) for band, pair in enumerate(bands, start=1)),
    ]:
        for domain, tags in ours.items():
            there = theirs.get(domain, {})
            missing = [key for key, value in sorted(tags.items()) if there.get(key) != value]
            if not wanted.crs_wkt:
                missing = [key for key in missing if key != _POINT_TAG]
            if missing:
                what = f"tags {', '.join(missing)} in domain {domain or 'default'}"
                lost.setdefault(what, []).append(owner)
    return [
        f"{what} of {owners[0]}" + (f" and {len(owners) - 1} more bands" if len(owners) > 1 else "")
        for what, owners in lost.items()
    ]
