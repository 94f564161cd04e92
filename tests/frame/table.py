# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/frame.md: `python -m tests.frame.table` in the folder of the repository."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dehaze_core.engine.output.formats import OutputFormat
from tests.frame.carrying import Outcome, carry
from tests.frame.cases import CASES
from tests.frame.rasters import Case

TABLE = Path(__file__).parents[2] / "docs" / "frame.md"
LISTED: tuple[OutputFormat, ...] = ("gtiff", "zarr")

HEAD = """# The frame contract

What dehazing leaves alone, trait by trait: everything about a raster except the values of its valid
pixels, and tags of our own whose names begin with `DEHAZE_`. This page is made by the test that
checks it (`python -m tests.frame.table`): each line is a raster of that kind which was written in
each format and read again with rasterio and xarray alone. The same test dehazes every one of them
to a COG, and finds it to fare like a plain GeoTIFF.

- **kept**: the output carries it unchanged.
- **kept, said**: carried, but with a sidecar file, or with less meaning; a warning says how.
- **lost, said**: the format cannot hold it; a warning before the work starts says so.
- **refused**: no output; an error with this code says why and what to do.

| Trait | Kind | GeoTIFF, COG | zarr |
|---|---|---|---|
"""

NOTES = """
## What counts as the same

- A CRS is the same when GDAL takes it for equal. GeoTIFF writes a CRS as numbered keys; names of a
  custom CRS may be shortened.
- What a GeoTIFF has no place for but GDAL's sidecar `OUTPUT.aux.xml` has stands there: a CRS that
  keys cannot express (local grids, rotated poles), nodata values that differ between bands or need
  more than 53 bits. GDAL and QGIS read the sidecar first; a warning says to keep it with the file.
- Colour interpretation "undefined" of a first band becomes "grey" in a TIFF.
- RPCs agree to 13 digits, as many as GDAL prints.
- Layout is not part of the frame: outputs are tiled and have overviews of their own (zarr has
  none), whatever the input has.

## What is left out on purpose

- Statistics and histograms (`STATISTICS_*`, ...): they describe the hazy pixels.
- Domains that describe the file and not the picture: `IMAGE_STRUCTURE`, `DERIVED_SUBDATASETS`,
  `xml:VRT` and the like.

## Limits to know

- Where a raster declares no nodata, no mask and no alpha, pixels that are exactly zero in all bands
  count as fill and stay zero, as black stays black. All its other pixels count as valid.
- Where a raster declares nodata, a valid pixel never becomes the nodata value: it is moved by one
  step.
- Masks say valid or missing. Values between 0 and 255 in a mask count as valid and become 255;
  alpha bands keep all their values.
- Compression with loss (JPEG, WEBP, LERC with an error above 0) is refused where a number in the
  pixels marks the missing ones. Where nothing does, a warning says that fill may change.
- Metadata text that is not UTF-8 is left behind, with a warning.
- float16 has no place in a GeoTIFF; choose zarr.

## zarr

An output whose path ends in `.zarr` is a group in zarr format 3 with the variable `image` (band, y,
x), compressed with zstd and a checksum in every chunk. CRS and transform stand in `spatial_ref` as
rioxarray and CF write them; `_FillValue`, `scale_factor`, `add_offset`, `units` and `long_name` as
CF has them where all bands agree. What CF has no word for stands in attributes of `image`:
`nodata`, `scales`, `offsets` (one number per band, where bands differ), `color_interp`, `rpcs`,
`tags` (by domain), `band_tags`; GCPs in `spatial_ref` as rioxarray writes them. A mask is the
variable `mask` (0 missing, 1 valid), named in `ancillary_variables`. `open_scene` reads all of it
back. Attributes of a zarr input that are not text come back with their type; in a GeoTIFF they are
JSON in the domain `ZARR`, those of the group in `ZARR_GROUP`.
"""


def as_markdown(cases: Sequence[Case], outcomes: Mapping[tuple[str, OutputFormat], Outcome]) -> str:
    """Return the page."""
    rows = [
        " | ".join(
            ["", case.trait, case.name, *(_word(outcomes[case.id, f]) for f in LISTED), ""]
        ).strip()
        for case in cases
    ]
    return HEAD + "\n".join(rows) + "\n" + NOTES


def _word(outcome: Outcome) -> str:
    if outcome.refused:
        return f"refused: `{outcome.refused}`"
    if outcome.lost:
        return "lost, said"
    return "kept, said" if outcome.warnings else "kept"


def main() -> int:
    """Make every raster in every format and write the page."""
    outcomes = {}
    for case in CASES:
        for format_name in LISTED:
            with tempfile.TemporaryDirectory() as folder:
                outcomes[case.id, format_name] = carry(case, format_name, Path(folder))
    TABLE.write_text(as_markdown(CASES, outcomes), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
