# SPDX-License-Identifier: GPL-3.0-or-later
"""Write wholly, or say why it could not be, with the numbers that matter."""

from __future__ import annotations

import errno
import os
import re
import shutil
from io import FileIO
from math import ceil
from pathlib import Path

from dehaze_core.errors import OutputError
from dehaze_core.grid.window import Window

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_FAILED_WRITE = re.compile("[Ww]rite error|IO error writing")
_MIB = 1 << 20


def write_failure(
    path: Path, needed: int, cause: BaseException, window: Window | None = None
) -> OutputError:
    """Describe a failed write.

    Args:
        path: The file or folder that was being written.
        needed: Bytes that the write needed, as far as known.
        cause: What the library or the system raised.
        window: The part of the raster that was being written, if it was one.
    """
    what = f"{path}" if window is None else f"{_place(window)} of {path}"
    free = free_bytes(path)
    # GDAL numbers its own errors under the same attribute.
    number = cause.errno if isinstance(cause, OSError) else None
    reason = _innermost(cause)
    # GDAL hides the system's reason; a failed write nearly always means a full disk or a limit.
    full = number in _FULL or (number is None and (_FAILED_WRITE.search(reason) or free < needed))
    if full:
        return OutputError(
            f"{what} cannot be written: about {needed / _MIB:.0f} MiB ({needed} bytes) are needed, "
            f"{free / _MIB:.0f} MiB ({free} bytes) are free, or a file size limit is reached: "
            f"{reason}",
            hint="Free some space or choose another folder, then run again.",
            code="OUTPUT_DISK_FULL",
        )
    if number in _FORBIDDEN:
        return OutputError(
            f"{what} cannot be written: {reason}",
            hint="Choose a folder in which you may create files.",
            code="OUTPUT_PERMISSION",
        )
    if number == errno.ENAMETOOLONG:
        return OutputError(
            f"{what} cannot be written: its name, or that of a file beside it, is too long.",
            hint="Choose a shorter name or a folder that is not so deep.",
            code="OUTPUT_NAME",
        )
    return OutputError(
        f"{what} cannot be written: {reason} ({needed} bytes needed, {free} bytes free)",
        hint="Check the disk and the path.",
        code="OUTPUT_WRITE",
    )


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of some bytes to an unbuffered file, which may take them piece by piece."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk that holds `path` or its nearest existing parent."""
    folder = path
    # Not Path.exists: it raises where a name is too long to exist.
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def bytes_on_disk(state: os.stat_result) -> int:
    """Return the bytes that a file takes; one with holes, as token files have, takes fewer."""
    # Only Windows does not count blocks.
    return getattr(state, "st_blocks", ceil(state.st_size / 512)) * 512


def _place(window: Window) -> str:
    return (
        f"Rows {window.row} to {window.row_stop - 1}, columns {window.col} to {window.col_stop - 1}"
    )


def _innermost(cause: BaseException) -> str:
    texts = []
    error: BaseException | None = cause
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    return texts[-1] or type(cause).__name__
