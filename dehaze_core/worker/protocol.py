# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine's process and the one that started it say to each other.

A job goes in as a JSON file, messages come back as one JSON object a line on standard output. QGIS
imports this module in its own Python: standard library and Python 3.9 only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Union

PROTOCOL = 1
"""Raised whenever one side could misunderstand the other."""

TASKS = ("run", "plan", "models", "info", "synthesize", "segment")


class ProtocolError(ValueError):
    """A job or a line that this protocol does not know."""


@dataclass(frozen=True)
class Job:
    """What to do.

    Args:
        task: One of `TASKS`.
        parameters: JSON values by name; for `run` and `plan` the fields of the run settings,
            for `synthesize` and `segment` those of their settings.
        protocol: Protocol of the side that wrote the job.
    """

    task: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    protocol: int = PROTOCOL

    def to_json(self) -> str:
        """Return the text of the job file."""
        return json.dumps(
            {"protocol": self.protocol, "task": self.task, "parameters": dict(self.parameters)},
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read a job file's text.

        Raises:
            ProtocolError: It is no job, of another protocol, or of an unknown task.
        """
        try:
            content = json.loads(text)
            protocol, task = content["protocol"], content["task"]
            parameters = content.get("parameters", {})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise ProtocolError(f"The job file is not a job: {problem!r}.") from problem
        if protocol != PROTOCOL:
            raise ProtocolError(
                f"The job speaks protocol {protocol!r}, this engine speaks protocol {PROTOCOL}."
            )
        if task not in TASKS:
            raise ProtocolError(f"The job asks for {task!r}, expected one of {', '.join(TASKS)}.")
        if not isinstance(parameters, dict):
            raise ProtocolError("The job's parameters are not a JSON object.")
        return cls(task, parameters)


@dataclass(frozen=True)
class Hello:
    """First line of every worker, sent before anything heavy is imported.

    Args:
        protocol: Protocol of the worker.
        version: Version of the engine.
        pid: Process id of the worker, which leads its own process group.
    """

    protocol: int
    version: str
    pid: int


@dataclass(frozen=True)
class Progress:
    """How far the task is.

    Args:
        value: Percent, 0 to 100.
        text: What is being done; may be empty.
    """

    value: float
    text: str = ""


@dataclass(frozen=True)
class Log:
    """A line for the user's log."""

    message: str


@dataclass(frozen=True)
class Warn:
    """A line of the user's log that deserves attention."""

    message: str


@dataclass(frozen=True)
class Result:
    """The task ended well.

    Args:
        values: JSON values by name.
    """

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """The task ended with an error that has been understood.

    Args:
        code: Stable upper snake case name.
        message: What was found and what was expected.
        hint: What to do; may be empty.
    """

    code: str
    message: str
    hint: str = ""


Message = Union[Hello, Progress, Log, Warn, Result, Failure]

_KINDS: dict[str, type[Message]] = {
    "hello": Hello,
    "progress": Progress,
    "log": Log,
    "warning": Warn,
    "result": Result,
    "error": Failure,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(message: Message) -> str:
    """Return `message` as one line of ASCII JSON, without the line break.

    Numbers that are not finite become null: JSON has no word for them.
    """
    body = {"type": _NAMES[type(message)], **asdict(message)}
    return json.dumps(_finite(body), allow_nan=False, separators=(",", ":"))


def decode(line: str) -> Message:
    """Read one line.

    Fields that a later version added are ignored.

    Raises:
        ProtocolError: The line is no message of this protocol.
    """
    try:
        body = json.loads(line)
        kind = _KINDS[body["type"]]
        known = {entry.name for entry in fields(kind)}
        return kind(**{name: value for name, value in body.items() if name in known})
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ProtocolError(f"Not a message: {line[:200]!r}") from problem


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return `value` with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value
