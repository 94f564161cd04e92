# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of the process: how it is handed out, and how much was used.

Freed memory is kept for the next block, and has to fit it. PyTorch aligns tensors to 64 bytes; for
this glibc takes a little more than was asked for, and frees both ends again. In 2.36 (bugs 14581
and 30723) the ends go to a cache of small pieces, where they do not grow together with the hole
that the tensor leaves: the next tensor of the same size does not fit, and the heap grows, from
block to block, to twice of what is in use. `dehaze_core` therefore sets THP_MEM_ALLOC_ENABLE, with
which tensors of 2 MiB and more begin at whole pages. Their ends are too large for the cache. They
may lie on huge pages besides, which saves the kernel work.

PyTorch reads the variable when it makes its first tensor. In a process that has made some before
it imports `dehaze_core`, runs take more memory, and are otherwise the same.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import psutil

if sys.platform != "win32":
    import resource


_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def _c_library() -> ctypes.CDLL | None:
    """Return glibc, whose allocator can be tuned, or None elsewhere."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None


def keep_freed_memory() -> None:
    """Let the C library keep freed memory instead of giving it back to the system.

    Tensors of a block are tens of MB. By default glibc maps each anew and the kernel clears every
    page of it again, which doubles the time of the network. And it gives every thread an arena of
    its own, where what one has freed is of no use to the others: a long run, in which all threads
    get to compress a chunk some time, takes more memory than a short one. Other C libraries are
    left alone.
    """
    library = _c_library()
    if library is not None:
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_M_ARENA_MAX, 1)


def release_freed_memory() -> None:
    """Give freed memory back to the system after all, between the steps of a run."""
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def peak_memory_mib() -> int:
    """Return the peak resident memory of this process in MiB."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset) // 2**20
    if sys.platform == "linux":
        # Not getrusage: it charges a process with the memory of the one that started it.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, others in KiB.
    return peak // 2**20 if sys.platform == "darwin" else peak // 2**10
