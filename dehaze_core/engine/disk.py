# SPDX-License-Identifier: GPL-3.0-or-later
"""Say why something could not be written, with the numbers that matter."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from dehaze_core.errors import OutputError

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_MIB = 1 << 20


def write_failure(path: Path, needed: int, cause: BaseException) -> OutputError:
    """Describe a failed write.

    Args:
        path: The file or folder that was being written.
        needed: Bytes that the write needed, as far as known.
        cause: What the library or the system raised.
    """
    free = free_bytes(path)
    # GDAL numbers its own errors under the same attribute.
    number = cause.errno if isinstance(cause, OSError) else None
    reason = _innermost(cause)
    # GDAL hides the system's reason; a failed write nearly always means a full disk or a limit.
    full = number in _FULL or (number is None and ("rite error" in reason or free < needed))
    if full:
        return OutputError(
            f"{path} cannot be written: about {needed / _MIB:.0f} MiB ({needed} bytes) are needed, "
            f"{free / _MIB:.0f} MiB ({free} bytes) are free, or a file size limit is reached: "
            f"{reason}",
            hint="Free some space or choose another folder, then run again.",
            code="OUTPUT_DISK_FULL",
        )
    if number in _FORBIDDEN:
        return OutputError(
            f"{path} cannot be written: {reason}",
            hint="Choose a folder in which you may create files.",
            code="OUTPUT_PERMISSION",
        )
    return OutputError(
        f"{path} cannot be written: {reason} ({needed} bytes needed, {free} bytes free)",
        hint="Check the disk and the path.",
        code="OUTPUT_WRITE",
    )


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk that holds `path` or its nearest existing parent."""
    folder = path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _innermost(cause: BaseException) -> str:
    texts = []
    error: BaseException | None = cause
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    return texts[-1] or type(cause).__name__
