# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in processes of their own that can be killed, forked from one that has all loaded.

Loading PyTorch and GDAL takes seconds, a run on a small raster less than one: a server process
loads them once, without starting a thread, and every run is a fork of it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import psutil
import torch

import dehaze_core.engine.output.finalise
import dehaze_core.engine.runner  # noqa: F401 - loaded once for all children
from dehaze_core.engine import RunSettings, Silent, run
from dehaze_core.errors import DehazeError

# A fork keeps no threads, and whoever waits for one of them would wait for ever.
torch.set_num_threads(1)

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])

Target = Callable[..., None]


class Child:
    """A function at work in a process of its own, which has loaded everything and now begins.

    Args:
        target: Called with a connection to this process, then `arguments`.
        arguments: What can be pickled.
    """

    def __init__(self, target: Target, *arguments: Any) -> None:
        self.connection, theirs = _context.Pipe()
        self.process = _context.Process(target=_begin, args=(theirs, target, arguments))
        self.process.start()
        theirs.close()
        self.connection.recv()

    @property
    def is_running(self) -> bool:
        """Tell whether it has not ended yet."""
        return self.process.is_alive()

    def kill(self) -> bool:
        """Kill it as no process can prevent; return False if it had ended before."""
        self.process.kill()
        return self.wait() == -signal.SIGKILL

    def wait(self) -> int | None:
        """Wait for its end and return its exit code, negative for a signal."""
        self.process.join()
        return self.process.exitcode

    def answer(self, seconds: float | None = None) -> Any:
        """Return what it sends; None if it ends without, or is killed for taking too long."""
        try:
            if self.connection.poll(seconds):
                return self.connection.recv()
            self.process.kill()
        except EOFError:
            pass
        finally:
            self.wait()
        return None


def _begin(connection: Connection, target: Target, arguments: tuple[Any, ...]) -> None:
    connection.send("begun")
    target(connection, *arguments)


def plain(connection: Connection, settings: RunSettings) -> None:
    """Run, and send the number of resumed blocks, or the code of the error and its text."""
    try:
        connection.send(run(settings, Silent()).resumed_blocks)
    except DehazeError as error:
        connection.send((error.code, error.message))


def losing(
    connection: Connection, settings: RunSettings, fraction: float, part: Path, away: Path
) -> None:
    """Run, take a file away when so much is done, and send what `plain` sends.

    Args:
        connection: To the starting process.
        settings: The run.
        fraction: When to take it away; below 0 for not at all.
        part: The file.
        away: Its name from then on.
    """

    class Thief(Silent):
        def update(self, done: float, text: str) -> None:
            if 0 <= fraction <= done and not away.exists():
                part.rename(away)

    try:
        connection.send(run(settings, Thief()).resumed_blocks)
    except DehazeError as error:
        connection.send((error.code, error.message))


def killed_at(connection: Connection, settings: RunSettings, fraction: float) -> None:
    """Run, and end by SIGKILL when so much is done."""

    class Killer(Silent):
        def update(self, done: float, text: str) -> None:
            if done >= fraction:
                _die()

    run(settings, Killer())


def killed_in_rename(
    connection: Connection, settings: RunSettings, name: str, nth: int, after: bool
) -> None:
    """Run, and end by SIGKILL at the n-th rename, flush or removal that finalising does.

    Args:
        connection: Not used.
        settings: The run.
        name: Function of `os` in which to die.
        nth: Which of its calls, counted from 0.
        after: Die when the call is done, not before.
    """
    genuine = getattr(os, name)
    calls = 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls - 1 == nth and not after:
            _die()
        result = genuine(*arguments, **options)
        if calls - 1 == nth:
            _die()
        return result

    class Armed(Silent):
        def update(self, done: float, text: str) -> None:
            if text.startswith("Writing") and getattr(os, name) is genuine:
                setattr(os, name, deadly)

    run(settings, Armed())


def held(connection: Connection, settings: RunSettings, fraction: float) -> None:
    """Run until so much is done, say so, and go on when told to."""

    class Holder(Silent):
        waiting = True

        def update(self, done: float, text: str) -> None:
            if self.waiting and done >= fraction:
                self.waiting = False
                connection.send("holding")
                connection.recv()

    connection.send(run(settings, Holder()).resumed_blocks)


def cancelled(
    connection: Connection, settings: RunSettings, fractions: list[float], warm: int
) -> None:
    """Cancel a run again and again, and send what the process has grown by.

    Args:
        connection: Where the growth goes: MiB of memory, threads, open files.
        settings: The run.
        fractions: Where each run is cancelled.
        warm: Runs after which caches count as filled.
    """

    class Cancel(Exception):
        pass

    class Canceller(Silent):
        fraction = 0.0

        def update(self, done: float, text: str) -> None:
            if done >= self.fraction:
                raise Cancel

    process, before, canceller = psutil.Process(), (0.0, 0, 0), Canceller()
    for number, canceller.fraction in enumerate(fractions):
        if number == warm:
            before = _footprint(process)
        try:
            run(settings, canceller)
        except Cancel:
            continue
    after = _footprint(process)
    connection.send(tuple(b - a for a, b in zip(before, after, strict=True)))


def _footprint(process: psutil.Process) -> tuple[float, int, int]:
    # The threads that zarr keeps for reading and writing are few, and come as they are needed.
    names = [thread.name for thread in threading.enumerate()]
    threads = sum(not name.startswith(("zarr", "asyncio")) for name in names)
    return process.memory_info().rss / 2**20, threads, process.num_fds()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("no process outlives this signal")
