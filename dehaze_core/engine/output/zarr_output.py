# SPDX-License-Identifier: GPL-3.0-or-later
"""From the result store to a zarr group: written aside, verified whole, then moved in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from dehaze_core.engine.output.aside import put_folder, temporary_folder, write_errors
from dehaze_core.engine.output.cog_options import bytes_per_pixel, one_of, parsed_option
from dehaze_core.engine.output.read_back import Checksum, Read, refuse_wrong, windows_of
from dehaze_core.errors import InputError, SettingsError
from dehaze_core.scene.crs import same_crs
from dehaze_core.scene.frame import Frame, same_number
from dehaze_core.scene.scene import open_scene
from dehaze_core.scene.zarr_frame import IMAGE, MASK, template

_CHUNK, _SMALLEST_CHUNK, _CHUNK_BYTES = 1024, 128, 8 << 20
_LEVELS = tuple(str(level) for level in range(1, 23))
_AFTER_PIXELS = 0.7
_NOT_COMPARED = {"crs_wkt", "gcp_crs_wkt", "nodata", "block_shape", "left_behind", "tags"}


def write_zarr(  # noqa: PLR0913 - the whole recipe of one output
    store_read: Read,
    frame: Frame,
    mask_read: Read | None,
    destination: Path,
    *,
    provenance: Mapping[str, str],
    creation_options: Sequence[str] = (),
    progress: Callable[[float], None],
    work_folder: Path | None = None,
    overwrite: bool = True,
) -> tuple[str, ...]:
    """Write a zarr group that xarray and rioxarray open, verify it, and only then name it.

    The pixels are one variable `image` (band, y, x); every chunk carries a checksum. A zarr group
    holds every frame, so nothing is lost.

    Arguments, results and errors are those of `finalise.write_cog`; the creation options are
    COMPRESS (ZSTD or NONE), LEVEL (of zstd) and BLOCKSIZE (side of a chunk, px).
    """
    encoding = _encoding(frame, creation_options)
    needed = frame.width * frame.height * bytes_per_pixel(frame)
    with (
        temporary_folder(destination, work_folder) as folder,
        write_errors(destination, needed),
    ):
        made = folder / "result.zarr"
        _create(made, frame, provenance, encoding)
        image = zarr.open_array(made / IMAGE, mode="r+")
        mask_array = zarr.open_array(made / MASK, mode="r+") if mask_read is not None else None
        windows = list(windows_of(frame, max(encoding["chunks"][1:])))
        checksums = []
        for index, window in enumerate(windows):
            pixels = store_read(window)
            image[(slice(None), *window.slices)] = pixels
            mask = None if mask_read is None else mask_read(window)
            if mask_array is not None and mask is not None:
                mask_array[window.slices] = mask.astype(np.uint8)
            checksums.append(Checksum.of(window, pixels, mask))
            progress(_AFTER_PIXELS * (index + 1) / len(windows))
        _verify(made, frame, checksums, progress)
        put_folder(made, destination, overwrite=overwrite)
    progress(1.0)
    return ()


def _create(
    folder: Path, frame: Frame, provenance: Mapping[str, str], encoding: dict[str, Any]
) -> None:
    """Write everything but pixels."""
    group = template(frame, provenance)
    # On the variables, because the argument of that name would drop the grid mapping.
    group[IMAGE].encoding.update(encoding)
    if MASK in group:
        group[MASK].encoding.update({**encoding, "chunks": encoding["chunks"][1:]})
    group.to_zarr(
        folder,
        mode="w-",
        zarr_format=3,
        consolidated=False,
        compute=False,
        # The pixels of the template are one piece that nobody ever computes.
        safe_chunks=False,
    )


def _encoding(frame: Frame, requested: Sequence[str]) -> dict[str, Any]:
    """Return chunks and codecs.

    zstd with its own checksum is read by everything that knows zarr 3, and notices damage.
    """
    asked = dict(parsed_option(text) for text in requested)
    side = int(asked.pop("BLOCKSIZE", _side(frame)))
    method = one_of("COMPRESS", asked.pop("COMPRESS", "ZSTD"), ("ZSTD", "NONE"))
    level = int(one_of("LEVEL", asked.pop("LEVEL", "3"), _LEVELS))
    if asked:
        raise SettingsError(
            f"A zarr output has no creation option {', '.join(asked)}.",
            hint="Known are BLOCKSIZE, COMPRESS (ZSTD, NONE) and LEVEL.",
            code="SETTINGS_OPTION",
        )
    codec: Any = ZstdCodec(level=level, checksum=True) if method == "ZSTD" else Crc32cCodec()
    chunks = (frame.count, min(side, frame.height), min(side, frame.width))
    return {"chunks": chunks, "compressors": (codec,)}


def _side(frame: Frame) -> int:
    side = _CHUNK
    while side > _SMALLEST_CHUNK and side * side * bytes_per_pixel(frame) > _CHUNK_BYTES:
        side //= 2
    return side


def _verify(
    folder: Path, frame: Frame, checksums: list[Checksum], progress: Callable[[float], None]
) -> None:
    """Read the whole group back through our own reader and compare."""
    with _refused_as_output(), open_scene(str(folder)) as scene:
        wrong = frame_differences(frame, scene.frame)
        for index, checksum in enumerate(checksums):
            window = checksum.window
            mask = None if checksum.mask is None else scene.stored_mask(window)
            found = Checksum.of(window, scene.read(window)[0], mask)
            wrong += checksum.differences(found)
            progress(_AFTER_PIXELS + (1 - _AFTER_PIXELS) * (index + 1) / len(checksums))
    refuse_wrong(wrong)


@contextmanager
def _refused_as_output() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        refuse_wrong([error.message])


def frame_differences(wanted: Frame, found: Frame) -> list[str]:
    """Compare the frame of a group with the one it should have; provenance may be added to it."""
    wrong = [
        f"{trait.name} is {getattr(found, trait.name)!r}, not {getattr(wanted, trait.name)!r}"
        for trait in fields(Frame)
        if trait.name not in _NOT_COMPARED
        and getattr(found, trait.name) != getattr(wanted, trait.name)
    ]
    # With control points alone, only their CRS says anything.
    crs_counts = wanted.is_georeferenced or not wanted.gcps
    if crs_counts and not same_crs(wanted.crs_wkt, found.crs_wkt):
        wrong.append(f"CRS is {found.crs_wkt!r}, not {wanted.crs_wkt!r}")
    if not same_crs(wanted.gcp_crs_wkt, found.gcp_crs_wkt):
        wrong.append(f"CRS of the control points is {found.gcp_crs_wkt!r}")
    if not all(map(same_number, wanted.nodata, found.nodata)):
        wrong.append(f"nodata is {found.nodata!r}, not {wanted.nodata!r}")
    wrong += [
        f"tags in domain {domain or 'default'} are {found.tags.get(domain)!r}, not {tags!r}"
        for domain, tags in wanted.tags.items()
        if not tags.items() <= found.tags.get(domain, {}).items()
    ]
    return wrong
