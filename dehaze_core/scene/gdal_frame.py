# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the frame of a raster that GDAL opens."""

from __future__ import annotations

import logging
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from dehaze_core.errors import InputError
from dehaze_core.scene.crs import wkt2
from dehaze_core.scene.frame import Frame, Gcp, MaskKind, Tags

# Domains that describe the file's encoding or are derived, and would be wrong in another file.
_ENCODING_DOMAINS = {
    "IMAGE_STRUCTURE",
    "DERIVED_SUBDATASETS",
    "SUBDATASETS",
    "RPC",
    "LocationInfo",
    "Pixel",
    "TIFF",
    "xml:VRT",
}
# More than any imaging spectrometer has; GDAL takes minutes for files that claim 50,000.
_MOST_BANDS = 4096
_SAMPLE_SIDE = 64
_SKIPPED = re.compile(r"Failed to decode metadata item.*item=b['\"](.{1,80})")
STALE_TAG = re.compile(r"^(STATISTICS_|OVR_|HISTOGRAM|LAYER_TYPE$)")
"""Statistics of the hazy pixels, which QGIS would take for those of the result."""


def read_frame(dataset: Any) -> Frame:  # noqa: ANN401 - rasterio's reader is untyped
    """Return the frame of an open rasterio dataset.

    Raises:
        InputError: The raster is of a kind that haze removal makes no sense for.
    """
    refuse_unsuitable(dataset)
    lost: list[str] = []
    # First of all: `declared_nodata` makes GDAL forget the tags of some formats (GeoPackage).
    tags = _tags(dataset, 0, lost)
    band_tags = tuple(_tags(dataset, band, lost) for band in dataset.indexes)
    names = tuple(interp.name for interp in dataset.colorinterp)
    alpha = names.index("alpha") if "alpha" in names else None
    nodata = declared_nodata(dataset)
    gcps, gcp_crs = dataset.gcps
    kind = _mask_kind(dataset, nodata, alpha)
    if _has_graded_mask(dataset, kind):
        lost.append("values between 0 and 255 in the mask")
    return Frame(
        width=dataset.width,
        height=dataset.height,
        count=dataset.count,
        dtype=dataset.dtypes[0],
        crs_wkt=wkt2(dataset.crs),
        transform=tuple(dataset.transform)[:6],
        nodata=nodata,
        mask=kind,
        alpha_band=alpha,
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        descriptions=_texts(dataset, "descriptions", lost),
        units=_texts(dataset, "units", lost),
        color_interp=names,
        tags=tags,
        band_tags=band_tags,
        gcps=tuple(Gcp(g.row, g.col, g.x, g.y, g.z, str(g.id), g.info or None) for g in gcps),
        gcp_crs_wkt=wkt2(gcp_crs) if gcps else None,
        rpcs=_domain(dataset, 0, "RPC", lost) or None,
        block_shape=dataset.block_shapes[0],
        left_behind=tuple(lost),
    )


def refuse_unsuitable(dataset: Any) -> None:  # noqa: ANN401
    """Raise InputError for containers, palettes, complex and mixed sample types."""
    name = dataset.name
    if dataset.count == 0:
        _refuse_container(name, list(dataset.subdatasets))
    if dataset.count > _MOST_BANDS:
        raise InputError(
            f"{name} has {dataset.count} bands; at most {_MOST_BANDS} are expected.",
            hint="Pick bands into a virtual raster (gdalbuildvrt -b) and use that.",
            code="INPUT_BANDS",
        )
    types = sorted(set(dataset.dtypes))
    if any("complex" in kind for kind in types):
        raise InputError(
            f"{name} holds complex numbers ({', '.join(types)}); real pixel values are needed.",
            hint="Convert it to amplitude or intensity first.",
            code="INPUT_COMPLEX",
        )
    if len(types) > 1:
        raise InputError(
            f"The bands of {name} differ in data type ({', '.join(types)}); one type is needed.",
            hint="Pick bands of one type into a virtual raster (gdalbuildvrt -b) and use that.",
            code="INPUT_DTYPE",
        )
    if ColorInterp.palette in dataset.colorinterp:
        raise InputError(
            f"{name} stores palette numbers, not brightness.",
            hint="Expand it first: 'PCT to RGB' in the toolbox, or gdal_translate -expand rgb.",
            code="INPUT_PALETTE",
        )


def _refuse_container(name: str, parts: list[str]) -> None:
    if parts:
        listed = ", ".join(parts[:4]) + (", ..." if len(parts) > 4 else "")
        raise InputError(
            f"{name} is a container of {len(parts)} rasters, not one raster.",
            hint=f"Name one of them: {listed}",
            code="INPUT_CONTAINER",
        )
    raise InputError(
        f"{name} holds no raster band.", hint="Choose a raster image.", code="INPUT_EMPTY"
    )


def declared_nodata(dataset: Any) -> tuple[float | None, ...]:  # noqa: ANN401
    """Return the nodata value of each band as the file declares it.

    rasterio hides values outside the range of the data type; GDAL's description of the dataset as
    a virtual raster still tells them.
    """
    values: list[float | None] = list(dataset.nodatavals)
    if all(value is not None for value in values):
        return tuple(values)
    try:
        with tempfile.TemporaryDirectory(prefix="dehaze-") as folder:
            copy = Path(folder) / "frame.vrt"
            rasterio.shutil.copy(dataset, str(copy), driver="VRT", strict=False)
            text = copy.read_text(encoding="utf-8", errors="replace")
    except (RasterioError, CPLE_BaseError, UnicodeError, OSError):
        return tuple(values)
    bands = re.split(r"<VRTRasterBand\b", text)[1:]
    for index, band in enumerate(bands[: len(values)]):
        found = re.search(r"<NoDataValue>([^<]+)</NoDataValue>", band)
        if values[index] is None and found:
            values[index] = float(found.group(1))
    return tuple(values)


def _mask_kind(dataset: Any, nodata: tuple[float | None, ...], alpha: int | None) -> MaskKind:  # noqa: ANN401
    if alpha is not None:
        return "alpha"
    flags = dataset.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags and MaskFlags.nodata not in flags:
        return "internal"
    if all(value is not None for value in nodata):
        return (
            "nan" if all(math.isnan(value) for value in nodata if value is not None) else "nodata"
        )
    return "none"


def _has_graded_mask(dataset: Any, kind: MaskKind) -> bool:  # noqa: ANN401
    """Tell whether samples of a stored mask hold more than valid (255) and missing (0)."""
    if kind != "internal":
        return False
    steps = (0.0, 0.5, 1.0)
    for row, col in product(steps, steps):
        start = int(row * (dataset.height - 1)), int(col * (dataset.width - 1))
        window = [
            (at, min(at + _SAMPLE_SIDE, end)) for at, end in zip(start, dataset.shape, strict=True)
        ]
        sample = dataset.read_masks(1, window=tuple(window))
        if not np.isin(sample, (0, 255)).all():
            return True
    return False


def _tags(dataset: Any, band: int, lost: list[str]) -> dict[str, Tags]:  # noqa: ANN401
    found: dict[str, Tags] = {}
    try:
        domains = ["", *dataset.tag_namespaces(band)]
    except UnicodeError:
        domains = [""]
        lost.append(f"metadata domains with names that are not UTF-8 text ({_owner(band)})")
    for domain in domains:
        if domain in _ENCODING_DOMAINS:
            continue
        tags = _domain(dataset, band, domain, lost)
        kept = {key: value for key, value in tags.items() if not STALE_TAG.match(key)}
        if kept:
            found[domain] = kept
    return found


def _domain(dataset: Any, band: int, domain: str, lost: list[str]) -> dict[str, str]:  # noqa: ANN401
    try:
        with _skipped_items() as skipped:
            tags = dict(dataset.tags(band, ns=domain or None))
        where = f"{_owner(band)}, domain {domain or 'default'}"
        lost.extend(f"a tag that is not UTF-8 text ({where}): {item}" for item in skipped)
        return tags
    except UnicodeError:
        # Old files hold text that is not UTF-8, and rasterio then gives none of the domain. That
        # must not stop the work; the one tag that says where pixels lie can still be asked for.
        lost.append(f"tags that are not UTF-8 text ({_owner(band)}, domain {domain or 'default'})")
        point = None if band or domain else dataset.get_tag_item("AREA_OR_POINT")
        return {"AREA_OR_POINT": point} if point else {}


@contextmanager
def _skipped_items() -> Iterator[list[str]]:
    """Collect the metadata items that rasterio leaves out, of which only its log tells."""
    skipped: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = _SKIPPED.search(record.getMessage())
            if found:
                skipped.append(found.group(1).rstrip("'\""))

    log, listener = logging.getLogger("rasterio._base"), Listener(logging.WARNING)
    log.addHandler(listener)
    try:
        yield skipped
    finally:
        log.removeHandler(listener)


def _texts(dataset: Any, name: str, lost: list[str]) -> tuple[str | None, ...]:  # noqa: ANN401
    try:
        return tuple(text or None for text in getattr(dataset, name))
    except UnicodeError:
        lost.append(f"{name} of the bands, which are not UTF-8 text")
        return (None,) * int(dataset.count)


def _owner(band: int) -> str:
    return f"band {band}" if band else "the file"
