# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dehaze_core import errors
from dehaze_core.worker import __main__ as worker_main
from dehaze_core.worker import channel as channel_module
from dehaze_core.worker import tasks
from dehaze_core.worker.channel import Channel, ChannelProgress
from dehaze_core.worker.protocol import (
    PROTOCOL,
    Failure,
    Hello,
    Log,
    Message,
    Progress,
    Result,
    Warn,
    decode,
)

HEAVY = "{'torch', 'numpy', 'rasterio', 'xarray', 'dask', 'zarr', 'typer'}"


def messages_of(output: str) -> list[Message]:
    return [decode(line) for line in output.splitlines()]


def test_the_entry_point_imports_nothing_heavy() -> None:
    code = (
        "import sys, dehaze_core.worker.__main__;"
        f"sys.exit(', '.join({HEAVY} & {{name.partition('.')[0] for name in sys.modules}}) or None)"
    )

    ended = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr


def test_hello_comes_before_the_job_is_even_read(
    start: Callable[..., Any], endless_job: Path
) -> None:
    process = start(endless_job)

    hello = decode(process.stdout.readline())

    assert isinstance(hello, Hello)
    assert (hello.protocol, hello.pid) == (PROTOCOL, process.pid)


def test_the_worker_ends_when_its_parent_is_gone(
    start: Callable[..., Any], endless_job: Path
) -> None:
    process = start(endless_job)
    process.stdout.readline()

    process.stdin.close()

    assert process.wait(timeout=30) != 0


def test_a_polite_signal_is_enough(start: Callable[..., Any], endless_job: Path) -> None:
    process = start(endless_job)
    process.stdout.readline()

    os.killpg(process.pid, signal.SIGTERM)

    assert process.wait(timeout=30) == -signal.SIGTERM


def test_info_names_versions_and_devices(
    start: Callable[..., Any], write_job: Callable[..., Path]
) -> None:
    process = start(write_job({"protocol": PROTOCOL, "task": "info", "parameters": {}}))

    lines = list(process.stdout)

    result = decode(lines[-1])
    assert process.wait(timeout=60) == 0
    assert isinstance(result, Result)
    assert set(result.values["packages"]) == set(tasks.INFO_PACKAGES)
    assert result.values["devices"][0]["name"] == "cpu"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("no json", "PROTOCOL"),
        ({"protocol": PROTOCOL + 1, "task": "info"}, "PROTOCOL"),
        ({"protocol": PROTOCOL, "task": "run", "parameters": {"colour": 1}}, "SETTINGS"),
        ({"protocol": PROTOCOL, "task": "run", "parameters": {"source": "a.tif"}}, "SETTINGS"),
    ],
)
def test_a_bad_job_ends_with_an_error_message(
    start: Callable[..., Any], write_job: Callable[..., Path], content: object, code: str
) -> None:
    process = start(write_job(content))

    last = decode(list(process.stdout)[-1])

    assert isinstance(last, Failure)
    assert last.code == code
    assert process.wait(timeout=60) != 0
    assert "Traceback" not in process.stderr.read()


def test_a_missing_job_file_is_named(start: Callable[..., Any], tmp_path: Path) -> None:
    process = start(tmp_path / "gone.json")

    last = decode(list(process.stdout)[-1])

    assert isinstance(last, Failure)
    assert "gone.json" in last.message


def test_without_a_job_file_the_usage_is_told(start: Callable[..., Any]) -> None:
    process = start()

    last = decode(list(process.stdout)[-1])

    assert isinstance(last, Failure)
    assert last.code == "USAGE"


@pytest.mark.parametrize(
    ("problem", "code", "status"),
    [
        (errors.InputError("no", code="INPUT_MISSING"), "INPUT_MISSING", 3),
        (errors.OutputError("no"), "OUTPUT", 4),
        (errors.ResourceError("no"), "RESOURCE", 6),
        (errors.SettingsError("no"), "SETTINGS", 2),
        (MemoryError(), "MEMORY", worker_main.EXIT_MEMORY),
        (KeyboardInterrupt(), "INTERRUPTED", worker_main.EXIT_INTERRUPTED),
        (ZeroDivisionError("a\nb"), "INTERNAL", worker_main.EXIT_INTERNAL),
        (SystemExit(3), "INTERNAL", worker_main.EXIT_INTERNAL),
    ],
)
def test_every_end_of_a_task_becomes_a_message(
    monkeypatch: pytest.MonkeyPatch,
    write_job: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
    problem: BaseException,
    code: str,
    status: int,
) -> None:
    def fail(parameters: object, progress: object) -> NoReturn:
        raise problem

    monkeypatch.setitem(tasks.TASKS, "info", fail)
    job = write_job({"protocol": PROTOCOL, "task": "info"})

    ended, message = worker_main._answer(str(job), ChannelProgress(Channel(2)))

    assert ended == status
    assert isinstance(message, Failure)
    assert message.code == code
    assert "\n" not in message.message


def test_stray_prints_go_to_standard_error() -> None:
    code = (
        "import os, sys\n"
        "from dehaze_core.worker.channel import Channel\n"
        "from dehaze_core.worker.protocol import Log\n"
        "sys.stdout.write('early ')\n"
        "channel = Channel.claim_stdout()\n"
        "sys.stdout.write('from Python\\n'); sys.stdout.flush()\n"
        "os.write(1, b'from a library\\n'); os.system('echo from a child')\n"
        "channel.send(Log('message'))\n"
    )

    ended = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )

    assert ended.stdout == 'early {"type":"log","message":"message"}\n'
    assert set(ended.stderr.splitlines()) == {"from Python", "from a library", "from a child"}


@pytest.fixture
def pipe() -> Any:
    reader, writer = os.pipe()

    def read() -> list[Message]:
        os.close(writer)
        with os.fdopen(reader) as file:
            return messages_of(file.read())

    return Channel(writer), read


def test_progress_never_goes_back_and_ends_at_hundred(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, read = pipe
    monkeypatch.setattr(channel_module, "PROGRESS_INTERVAL_S", 0.0)
    progress = ChannelProgress(channel)

    for fraction in (0.1, 0.5, 0.3, 0.6, 1.2):
        progress.update(fraction, "work")

    assert [message.value for message in read()] == [10.0, 50.0, 50.0, 60.0, 100.0]


def test_progress_is_thinned_out_but_new_texts_and_the_end_are_sent(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, read = pipe
    monkeypatch.setattr(channel_module, "PROGRESS_INTERVAL_S", 3600.0)
    progress = ChannelProgress(channel)

    for step in range(1000):
        progress.update(step / 1000, "first" if step < 500 else "second")
    progress.update(1.0, "second")

    assert read() == [Progress(0.0, "first"), Progress(50.0, "second"), Progress(100.0, "second")]


def test_log_and_warning_are_told_apart(pipe: Any) -> None:
    channel, read = pipe
    progress = ChannelProgress(channel)

    progress.log("fine")
    progress.warning("careful")

    assert read() == [Log("fine"), Warn("careful")]
