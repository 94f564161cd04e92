# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker started the way QGIS starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start workers; those left over are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start_worker(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-u", "-X", "utf8", "-m", "dehaze_core.worker"]
            + [str(argument) for argument in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_worker
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def write_job(tmp_path: Path) -> Callable[..., Path]:
    """Write a job file."""

    def write(content: object) -> Path:
        path = tmp_path / "job.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def endless_job(tmp_path: Path) -> Path:
    """A job file that never ends: the worker waits in it after its hello."""
    path = tmp_path / "job.fifo"
    os.mkfifo(path)
    return path
