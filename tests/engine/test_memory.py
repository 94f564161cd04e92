# SPDX-License-Identifier: GPL-3.0-or-later
"""How the process is handed its memory."""

from __future__ import annotations

import mmap
import subprocess
import sys

import pytest

MAKE_LARGE_TENSOR = "import dehaze_core, torch; print(torch.empty(1 << 20).data_ptr())"


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch aligns to pages on Linux only")
def test_large_tensors_begin_at_whole_pages_so_that_their_holes_fit_the_next_ones() -> None:
    # A process of its own: PyTorch decides at its first tensor.
    command = [sys.executable, "-c", MAKE_LARGE_TENSOR]
    address = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert address % mmap.PAGESIZE == 0
