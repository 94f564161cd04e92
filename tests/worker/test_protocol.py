# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dehaze_core.worker import protocol
from dehaze_core.worker.protocol import (
    Failure,
    Hello,
    Job,
    Log,
    Message,
    Progress,
    ProtocolError,
    Result,
    Warn,
    decode,
    encode,
)

MESSAGES: list[Message] = [
    Hello(1, "0.1.0", 4711),
    Progress(12.5, "Pass A"),
    Log("Gerät: cpu\nzweite Zeile"),
    Warn("霞"),
    Result({"output": "/tmp/a b.tif", "blocks": 3, "thickness": None}),
    Failure("INPUT_MISSING", "Found nothing.", "Look elsewhere."),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: Message) -> None:
    line = encode(message)

    assert decode(line) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_one_line_of_ascii(message: Message) -> None:
    line = encode(message)

    assert "\n" not in line
    assert line.isascii()


def test_numbers_that_are_not_finite_become_null() -> None:
    line = encode(Result({"mean": float("nan"), "deep": [{"speed": float("inf")}, 1.5]}))

    assert json.loads(line)["values"] == {"mean": None, "deep": [{"speed": None}, 1.5]}


def test_fields_of_a_later_version_are_ignored() -> None:
    line = '{"type":"hello","protocol":2,"version":"9","pid":1,"mood":"good"}'

    assert decode(line) == Hello(2, "9", 1)


@pytest.mark.parametrize(
    "line", ["", "text", "[]", "3", "null", '{"type":"nod"}', '{"type":"log"}']
)
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ProtocolError):
        decode(line)


def test_a_job_survives_its_file() -> None:
    job = Job("run", {"source": "ä.tif", "bands": [3, 2, 1]})

    assert Job.from_json(job.to_json()) == job


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("not json", "not a job"),
        ("[]", "not a job"),
        ('{"protocol": 1}', "not a job"),
        ('{"protocol": 99, "task": "run"}', "protocol 99"),
        ('{"protocol": 1, "task": "dance"}', "'dance'"),
        ('{"protocol": 1, "task": "run", "parameters": [1]}', "not a JSON object"),
    ],
)
def test_a_bad_job_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        Job.from_json(text)


def test_the_protocol_needs_the_standard_library_only() -> None:
    code = (
        "import runpy, sys; before = set(sys.modules);"
        f"runpy.run_path({str(Path(protocol.__file__))!r});"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "sys.exit(', '.join(sorted(new - sys.stdlib_module_names)) or None)"
    )

    ended = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr
