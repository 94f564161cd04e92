# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's process: started clean, read without blocking, stopped for certain."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess  # nosec B404
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

STOP_GRACE_S = 1.0
"""Time between the polite and the final signal."""

_DROP_NAMES = frozenset(
    {
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "OSGEO4W_ROOT",
        "QML2_IMPORT_PATH",
        "__PYVENV_LAUNCHER__",
    }
)
_DROP_PREFIXES = ("PYTHON", "PROJ_", "GDAL_", "DYLD_", "QT_", "QGIS_")
# Proxy and credentials for rasters on the web are the user's, not QGIS's.
_KEEP_PREFIXES = ("GDAL_HTTP_",)
_QGIS_ROOTS = ("OSGEO4W_ROOT", "QGIS_PREFIX_PATH")


def scrubbed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without what QGIS and its launchers put there.

    Another library's PROJ database, GDAL drivers or Qt plugins would break the engine in ways that
    look like bad data. Folders of the QGIS installation leave PATH for the same reason.
    """
    clean = {name: value for name, value in environment.items() if not _is_dropped(name)}
    roots = [environment[name] for name in _QGIS_ROOTS if environment.get(name)]
    # "/usr" as prefix is the whole system: nothing to tell apart there.
    roots = [root for root in roots if os.path.normpath(root) not in ("/usr", "/")]
    for name in [name for name in clean if name.upper() == "PATH"]:
        folders = clean[name].split(os.pathsep)
        clean[name] = os.pathsep.join(
            folder for folder in folders if not any(_is_inside(folder, root) for root in roots)
        )
    return clean


def _is_dropped(name: str) -> bool:
    upper = name.upper()
    if upper.startswith(_KEEP_PREFIXES):
        return False
    return upper in _DROP_NAMES or upper.startswith(_DROP_PREFIXES)


def _is_inside(folder: str, root: str) -> bool:
    folder, root = (os.path.normcase(os.path.normpath(path)) for path in (folder, root))
    return folder == root or folder.startswith(root + os.sep)


class Line(NamedTuple):
    """A line the process wrote.

    Args:
        is_error: Whether it came from standard error.
        text: The line without its end.
    """

    is_error: bool
    text: str


class EngineProcess:
    """A child process in a group of its own.

    It lives as long as its standard input is open: when QGIS dies, so does the engine.

    Args:
        command: Program and arguments.

    Raises:
        OSError: The program cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # nosec B603
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=scrubbed_environment(os.environ),
            encoding="utf-8",
            errors="replace",
            **_own_group(),
        )
        self._lines: queue.Queue[Line | None] = queue.Queue()
        self._open_streams = 2
        for stream, is_error in ((self._process.stdout, False), (self._process.stderr, True)):
            threading.Thread(target=self._pump, args=(stream, is_error), daemon=True).start()

    def _pump(self, stream: IO[str], is_error: bool) -> None:
        with stream:
            for text in stream:
                self._lines.put(Line(is_error, text.rstrip("\r\n")))
        self._lines.put(None)

    def next_line(self, timeout_s: float) -> Line | None:
        """Return the next line, or None if none came within `timeout_s`."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            # A stray grandchild may hold the pipes open for ever after the engine has ended.
            if self._process.poll() is not None:
                self._open_streams = 0
            return None
        if line is None:
            self._open_streams -= 1
        return line

    @property
    def is_over(self) -> bool:
        """Whether everything the process wrote has been returned."""
        return self._open_streams <= 0

    def wait(self) -> int:
        """Return the exit status once the process has ended; negative is a signal's number."""
        return self._process.wait()

    def stop(self) -> None:
        """End the process and all its children, politely first, and wait until they are gone."""
        if sys.platform == "win32":
            taskkill = os.path.join(
                os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "taskkill.exe"
            )
            subprocess.run(  # nosec B603
                [taskkill, "/T", "/F", "/PID", str(self._process.pid)],
                check=False,
                capture_output=True,
                **_own_group(),
            )
        else:
            self._signal_group(signal.SIGTERM)
            # The second signal cannot be refused.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_GRACE_S)
            self._signal_group(signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _signal_group(self, number: int) -> None:
        # The group may be gone already; macOS says so with EPERM while a zombie is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _own_group() -> dict[str, Any]:
    """Return what makes `subprocess` start a group, and no console window on Windows."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def explain_exit(status: int) -> tuple[str, str]:
    """Return what an exit status without a result means, and what to do about it."""
    name = _WINDOWS_CRASHES.get(status & 0xFFFFFFFF) if status > 255 or status < -255 else None
    if status < 0 and name is None:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
    if name == "SIGKILL":
        return (
            "The engine was killed from outside (SIGKILL).",
            "Probably the computer ran out of memory: set a memory limit or a smaller block size, "
            "or close other programs, and run again; finished blocks are kept.",
        )
    if name == "SIGTERM":
        return (
            "The engine was ended from outside (SIGTERM).",
            "Run again; finished blocks are kept.",
        )
    if name is not None:
        return (
            f"The engine crashed ({name}).",
            "QGIS is not affected. Run again; if it happens again, try the device 'cpu', and "
            "report the log.",
        )
    return f"The engine ended without a result (exit status {status}).", "The log may tell why."


_WINDOWS_CRASHES = {
    0xC0000005: "access violation",
    0xC000001D: "illegal instruction",
    0xC0000017: "out of memory",
    0xC00000FD: "stack overflow",
    0xC0000135: "a library is missing",
    0xC0000409: "fatal exception",
}
