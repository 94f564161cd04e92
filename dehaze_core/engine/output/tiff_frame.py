# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a frame onto a new GeoTIFF, and find what a written one lacks."""

from __future__ import annotations

import html
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from dehaze_core.engine.output.aside import SIDECAR
from dehaze_core.scene.crs import crs_to_write, same_crs, wkt2
from dehaze_core.scene.frame import Frame, same_number
from dehaze_core.scene.gdal_source import quiet_open

COLOR_PROFILE = "COLOR_PROFILE"
"""The domain of ICC profiles, which GDAL wants to know when it creates a file."""

_EXACT_INTEGERS = 2.0**53
_POINT_TAG = "AREA_OR_POINT"
# GDAL (seen in 3.10) copies either all domains but the bands' default one, or default domains
# alone. So the bands' default tags travel under this name, which is blanked in the finished file.
STAND_IN = "DEHAZE_STANDS_FOR_DEFAULT"


def apply_frame(
    dataset: Any,  # noqa: ANN401 - rasterio is untyped
    frame: Frame,
    provenance: Mapping[str, str],
    band_domain: str,
) -> None:
    """Set everything but pixels on a dataset just created, before its first pixel is written.

    Args:
        dataset: A rasterio dataset open for writing, of the frame's size and type.
        frame: What to carry over.
        provenance: Tags of our own for the default domain.
        band_domain: The domain for the bands' default tags: "", or `STAND_IN` in a file that will
            be copied.
    """
    # The colours must be known before pixels come, or GDAL fixes its own guess.
    dataset.colorinterp = [ColorInterp[name] for name in frame.color_interp]
    if frame.crs_wkt and _crs_counts(frame):
        dataset.crs = crs_to_write(frame.crs_wkt)
    if frame.is_georeferenced:
        dataset.transform = Affine(*frame.transform)
    if frame.gcps:
        points = [
            GroundControlPoint(row=g.row, col=g.col, x=g.x, y=g.y, z=g.z, id=g.id, info=g.info)
            for g in frame.gcps
        ]
        dataset.gcps = points, crs_to_write(frame.gcp_crs_wkt) if frame.gcp_crs_wkt else CRS()
    if frame.rpcs:
        dataset.update_tags(ns="RPC", **frame.rpcs)
    nodata = _carried_nodata(frame)
    if nodata is not None:
        dataset.nodata = nodata
    dataset.scales = frame.scales
    dataset.offsets = frame.offsets
    dataset.descriptions = frame.descriptions
    dataset.units = [unit or "" for unit in frame.units]
    _apply_tags(dataset, frame, provenance, band_domain)


def differences(wanted: Frame, found: Frame) -> tuple[list[str], list[str]]:
    """Compare the frame of an output with the one it should have.

    Returns:
        Traits that make the output wrong (size, type, georeference, nodata, mask), and traits that
        are merely lost (names, units, colours, tags), each described in a few words.
    """
    if found.count != wanted.count:
        return [f"there are {found.count} bands, not {wanted.count}"], []
    wrong = [
        f"{trait} is {getattr(found, trait)!r}, not {getattr(wanted, trait)!r}"
        for trait in ("width", "height", "dtype", "transform", "alpha_band")
        if getattr(found, trait) != getattr(wanted, trait)
    ]
    if _crs_counts(wanted) and not same_crs(wanted.crs_wkt, found.crs_wkt):
        wrong.append(f"CRS is {found.crs_wkt!r}, not {wanted.crs_wkt!r}")
    if not same_crs(wanted.gcp_crs_wkt, found.gcp_crs_wkt):
        wrong.append(
            f"CRS of the control points is {found.gcp_crs_wkt!r}, not {wanted.gcp_crs_wkt!r}"
        )
    if (wanted.mask == "internal") != (found.mask == "internal"):
        wrong.append(f"mask is {found.mask}, not {wanted.mask}")
    if not _same_positions(wanted, found):
        wrong.append("ground control points or RPCs differ")
    lost: list[str] = []
    if not all(map(same_number, wanted.nodata, found.nodata)):
        carried = _carried_nodata(wanted)
        is_known = all(same_number(carried, value) for value in found.nodata)
        (lost if is_known and carried is None else wrong).append(
            f"nodata is {found.nodata!r}, not {wanted.nodata!r}"
        )
    lost += [
        f"{trait} {getattr(wanted, trait)!r}, which read back as {getattr(found, trait)!r}"
        for trait in ("scales", "offsets", "descriptions", "units")
        if getattr(wanted, trait) != getattr(found, trait)
    ]
    if _colors(wanted) != _colors(found):
        lost.append(f"colour interpretation {wanted.color_interp!r}")
    if _point_names(wanted) != _point_names(found):
        lost.append("ids and remarks of the ground control points")
    lost += _lost_tags(wanted, found)
    return wrong, lost


def keep_beside(path: Path, frame: Frame) -> tuple[str, ...]:
    """Put what a finished GeoTIFF could not hold into GDAL's sidecar file beside it.

    GeoTIFF writes a CRS as keys that know neither local systems nor all projections, and has one
    nodata value for all bands. GDAL, and so QGIS, reads the sidecar first.

    Returns:
        What the sidecar holds, a few words each.
    """
    sidecar = Path(f"{path}{SIDECAR}")
    held: tuple[str, ...] = ("all of its metadata",) if sidecar.exists() else ()
    entries: list[str] = []
    if frame.crs_wkt and _crs_counts(frame):
        with quiet_open(path) as dataset:
            is_lost = not same_crs(frame.crs_wkt, wkt2(dataset.crs))
        if is_lost:
            wkt = html.escape(frame.crs_wkt)
            entries.append(f'<SRS dataAxisToSRSAxisMapping="1,2">{wkt}</SRS>')
            held += ("this CRS",)
    if not all(same_number(_carried_nodata(frame), value) for value in frame.nodata):
        entries += [
            f'<PAMRasterBand band="{band}"><NoDataValue>{_as_text(value, frame)}</NoDataValue>'
            "</PAMRasterBand>"
            for band, value in enumerate(frame.nodata, start=1)
            if value is not None
        ]
        held += ("these nodata values",)
    if entries:
        text = sidecar.read_text("utf-8") if sidecar.exists() else "<PAMDataset>\n</PAMDataset>\n"
        added = "\n  ".join(["<PAMDataset>", *entries])
        sidecar.write_text(text.replace("<PAMDataset>", added, 1), "utf-8")
    return held


def restore_band_tags(path: Path, frame: Frame) -> None:
    """Give the bands' default tags their domain back in a finished GeoTIFF.

    The metadata of a TIFF is XML text near its beginning: an attribute is overwritten with as many
    blanks, so that nothing moves and the file stays cloud-optimised.
    """
    expected = sum(len(domains.get("", {})) for domains in frame.band_tags)
    if not expected:
        return
    text = f'domain="{STAND_IN}"'.encode()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        place = content.find(text)
        while place >= 0 and expected:
            content[place : place + len(text)] = b" " * len(text)
            expected -= 1
            place = content.find(text, place) if expected else -1


def _carried_nodata(frame: Frame) -> float | None:
    """Return the nodata value that a GeoTIFF written by rasterio can hold itself, or None.

    It has one for all bands, and only the first digits of 64-bit integers beyond float64 survive.
    """
    first = frame.nodata[0]
    too_long = frame.dtype in ("int64", "uint64") and abs(first or 0.0) > _EXACT_INTEGERS
    is_one = all(same_number(first, value) for value in frame.nodata)
    return first if is_one and not too_long else None


def _as_text(value: float, frame: Frame) -> str:
    is_whole = np.dtype(frame.dtype).kind in "iu" and float(value).is_integer()
    return str(int(value)) if is_whole else repr(float(value))


def _apply_tags(
    dataset: Any,  # noqa: ANN401
    frame: Frame,
    provenance: Mapping[str, str],
    band_domain: str,
) -> None:
    for domain, tags in frame.tags.items():
        if domain == COLOR_PROFILE:
            continue
        # With a pixel reference but no CRS GDAL would make up a local coordinate system.
        kept = {key: value for key, value in tags.items() if key != _POINT_TAG or frame.crs_wkt}
        dataset.update_tags(0, ns=domain or None, **_as_items(domain, kept))
    for band, domains in enumerate(frame.band_tags, start=1):
        for domain, tags in domains.items():
            dataset.update_tags(band, ns=domain or band_domain or None, **_as_items(domain, tags))
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


def _point_names(frame: Frame) -> list[tuple[str, str]]:
    return [(g.id, g.info or "") for g in frame.gcps]


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
            if not wanted.crs_wkt and tags.get(_POINT_TAG) != "Point":
                # Area is what every raster without the tag is taken for.
                missing = [key for key in missing if key != _POINT_TAG]
            if missing:
                what = f"tags {', '.join(missing)} in domain {domain or 'default'}"
                lost.setdefault(what, []).append(owner)
    return [
        f"{what} of {owners[0]}" + (f" and {len(owners) - 1} more bands" if len(owners) > 1 else "")
        for what, owners in lost.items()
    ]
