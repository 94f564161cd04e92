# SPDX-License-Identifier: GPL-3.0-or-later
"""Segments as polygons in a GeoPackage, by pyogrio and shapely, which are optional."""

from __future__ import annotations

import importlib.util
import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.features import shapes

from dehaze_core.engine.disk import write_failure
from dehaze_core.errors import OutputError
from dehaze_core.scene import GDAL_OPTIONS, Frame
from dehaze_core.segmentation.picture import Segments

LAYER = "segments"
"""Name of the layer."""

_FIELDS = ("label", "code", "area", "score")
_PACKAGES = ("pyogrio", "shapely")


def require_vectors() -> None:
    """Make sure that polygons can be written.

    Raises:
        OutputError: A package is not installed (OUTPUT_PACKAGE).
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise OutputError(
            f"Polygons need the packages {' and '.join(_PACKAGES)}; {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed.",
            hint='Install them with: pip install "dehaze[vectors]". Or leave the polygons out.',
            code="OUTPUT_PACKAGE",
        )


def write_polygons(
    path: Path,
    codes: NDArray[np.uint8],
    segments: Segments,
    frame: Frame,
    provenance: Mapping[str, str],
) -> None:
    """Write every segment that is to be seen as one multipolygon along the borders of its pixels.

    Fields: `label`; `code`, the most frequent of its pixels; `area` in square units of the CRS;
    `score`, how sure the segmenter is, 0 to 1.

    Args:
        path: The GeoPackage; there is none of that name yet.
        codes: Grey codes, uint8 (h, w).
        segments: The segments, labels (h, w).
        frame: Frame of codes and labels.
        provenance: Tags that tell how they were made.

    Raises:
        OutputError: It cannot be written, or does not read back (OUTPUT_VERIFY).
    """
    import shapely
    from pyogrio import raw, read_info
    from pyogrio.errors import DataLayerError, DataSourceError

    polygons = _multipolygons(segments.labels, frame)
    labels = np.array(sorted(polygons), np.int32)
    outlines = np.array([polygons[label] for label in labels.tolist()], dtype=object)
    scores = np.array([region.score for region in segments.regions], np.float64)
    values = [
        labels,
        _codes_of(labels, codes, segments.labels),
        np.asarray(shapely.area(outlines), np.float64),
        scores[labels - 1],
    ]
    try:
        with warnings.catch_warnings():
            # Of a layer without CRS; pictures have none.
            warnings.simplefilter("ignore", UserWarning)
            raw.write(
                path,
                np.asarray(shapely.to_wkb(outlines), dtype=object),
                values,
                list(_FIELDS),
                layer=LAYER,
                driver="GPKG",
                geometry_type="MultiPolygon",
                crs=frame.crs_wkt,
                dataset_metadata=dict(provenance),
            )
        found = read_info(path, layer=LAYER, force_feature_count=True)["features"]
    except (OSError, DataLayerError, DataSourceError) as error:
        raise write_failure(path, 0, error) from error
    if found != len(labels):
        raise OutputError(
            f"{found} polygons can be read back of {len(labels)} that were written.",
            hint="Check the disk and run again.",
            code="OUTPUT_VERIFY",
        )


def _multipolygons(labels: NDArray[np.int32], frame: Frame) -> dict[int, Any]:
    """Return the outline of every label that occurs."""
    import shapely

    parts: defaultdict[int, list[Any]] = defaultdict(list)
    with rasterio.Env(**GDAL_OPTIONS):
        # Connected by sides: by corners, outlines would touch themselves.
        for outline, label in shapes(
            labels, mask=labels > 0, connectivity=4, transform=frame.affine
        ):
            shell, *holes = outline["coordinates"]
            parts[int(label)].append(shapely.Polygon(shell, holes))
    return {label: shapely.MultiPolygon(pieces) for label, pieces in parts.items()}


def _codes_of(
    wanted: NDArray[np.int32], codes: NDArray[np.uint8], labels: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return the most frequent code of every label; sums of codes may differ within one."""
    seen = labels > 0
    pairs, counts = np.unique(labels[seen].astype(np.int64) * 256 + codes[seen], return_counts=True)
    order = np.lexsort((pairs, counts))
    table = np.zeros(int(wanted.max(initial=0)) + 1, np.int32)
    # Of several assignments to one place the last, most frequent one stays.
    table[pairs[order] // 256] = pairs[order] % 256
    return table[wanted]
