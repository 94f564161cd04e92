# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker must not outlive the process that started it, however that process ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess  # nosec B404
import sys
import threading
from typing import NoReturn

ORPHANED = 75
"""Exit status of a worker whose parent is gone."""


def watch_stdin() -> None:
    """End this process and its children as soon as standard input ends.

    The parent keeps the other end open and never writes. The kernel closes it when the parent
    dies, whether it could clean up or not.
    """
    threading.Thread(target=_wait_for_end, name="dehaze-lifeline", daemon=True).start()


def _wait_for_end() -> None:
    # A closed or broken pipe means the same as its end.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    end_group()


def end_group() -> NoReturn:
    """End this process and everything it started, at once."""
    if sys.platform == "win32":
        taskkill = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "taskkill")
        subprocess.run(  # nosec B603
            [taskkill, "/T", "/F", "/PID", str(os.getpid())], check=False, capture_output=True
        )
    elif os.getpgrp() == os.getpid():
        # Only a group of our own: started from a shell, the group may be the user's session.
        os.killpg(0, signal.SIGKILL)
    os._exit(ORPHANED)
