# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the process has used."""

from __future__ import annotations

import sys

import psutil

if sys.platform != "win32":
    import resource


def peak_memory_mib() -> int:
    """Return the peak resident memory of this process in MiB."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset) // 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak // 2**20 if sys.platform == "darwin" else peak // 2**10
