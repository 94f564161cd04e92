# SPDX-License-Identifier: GPL-3.0-or-later
"""Give the engine a task and relay what it says to a Processing feedback."""

from __future__ import annotations

import collections
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qgis.core import QgsProcessingFeedback

from ..dehaze_core.worker.protocol import (
    PROTOCOL,
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
)
from .engine_process import EngineProcess, explain_exit

POLL_S = 0.1
STDERR_TAIL = 15


class EngineFailedError(Exception):
    """The engine could not do its task.

    Args:
        message: What was found and what was expected.
        hint: What to do; may be empty.
        code: Stable upper snake case name; may be empty.
    """

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        """Return message, hint and code as one text."""
        text = f"{self.message} {self.hint}".strip()
        return f"{text} [{self.code}]" if self.code else text


class EngineCancelledError(Exception):
    """The user cancelled; the engine is gone."""


def run_task(
    python: Path, task: str, parameters: Mapping[str, Any], feedback: QgsProcessingFeedback
) -> dict[str, Any]:
    """Let the engine do one task and return its values.

    Call it from the thread that runs the algorithm; nothing of QGIS is touched from another.

    Args:
        python: The engine's interpreter.
        task: A task of the protocol.
        parameters: JSON values by name; paths are absolute.
        feedback: Receives progress and log, and is asked every tenth of a second whether to stop.

    Raises:
        EngineFailedError: The engine is unusable, refused, or crashed.
        EngineCancelledError: The feedback was cancelled.
    """
    with tempfile.TemporaryDirectory(prefix="dehaze-job-") as folder:
        job_file = Path(folder) / "job.json"
        job_file.write_text(Job(task, parameters).to_json(), encoding="utf-8")
        command = [str(python), "-I", "-u", "-X", "utf8", "-m", "dehaze_core.worker", str(job_file)]
        try:
            process = EngineProcess(command)
        except OSError as problem:
            raise EngineFailedError(
                f"The engine's Python {python} cannot be started: {problem.strerror or problem}.",
                "Check the path under Settings > Options > Processing > Providers > Dehaze.",
            ) from problem
        try:
            return _Conversation(process, feedback).hold()
        finally:
            process.stop()


class _Conversation:
    """What one process says until it ends."""

    def __init__(self, process: EngineProcess, feedback: QgsProcessingFeedback) -> None:
        self._process = process
        self._feedback = feedback
        self._said_hello = False
        self._last: Result | Failure | None = None
        self._text = ""
        self._stderr: collections.deque[str] = collections.deque(maxlen=STDERR_TAIL)

    def hold(self) -> dict[str, Any]:
        """Relay until the process ends; return the result's values."""
        while not self._process.is_over:
            if self._feedback.isCanceled():
                raise EngineCancelledError
            line = self._process.next_line(POLL_S)
            if line is None:
                continue
            if line.is_error:
                self._stderr.append(line.text)
                self._feedback.pushDebugInfo(line.text)
            else:
                self._hear(line.text)
        status = self._process.wait()
        if isinstance(self._last, Result):
            return dict(self._last.values)
        if isinstance(self._last, Failure):
            raise EngineFailedError(self._last.message, self._last.hint, self._last.code)
        raise self._silent_end(status)

    def _hear(self, text: str) -> None:
        try:
            message = decode(text)
        except ProtocolError:
            self._feedback.pushDebugInfo(text)
            return
        if isinstance(message, Hello):
            self._check(message)
        elif isinstance(message, (Result, Failure)):
            self._last = message
        else:
            self._relay(message)

    def _check(self, hello: Hello) -> None:
        self._said_hello = True
        if hello.protocol != PROTOCOL:
            older = "engine" if hello.protocol < PROTOCOL else "plugin"
            raise EngineFailedError(
                f"The engine (version {hello.version}) speaks protocol {hello.protocol}, this "
                f"plugin speaks protocol {PROTOCOL}.",
                f"Update the {older}.",
                "PROTOCOL",
            )
        self._feedback.pushDebugInfo(f"Dehaze engine {hello.version}, process {hello.pid}")

    def _relay(self, message: Message) -> None:
        if isinstance(message, Progress):
            self._feedback.setProgress(message.value)
            if message.text and message.text != self._text:
                self._text = message.text
                self._feedback.setProgressText(message.text)
        elif isinstance(message, Warn):
            self._feedback.pushWarning(message.message)
        elif isinstance(message, Log):
            self._feedback.pushInfo(message.message)

    def _silent_end(self, status: int) -> EngineFailedError:
        """Explain a process that ended without a last word."""
        tail = "\n".join(self._stderr)
        if not self._said_hello and "No module named" in tail:
            return EngineFailedError(
                f"The engine's Python does not hold the engine: {self._stderr[-1]}",
                "Install Dehaze there, or choose another Python under Settings > Options > "
                "Processing > Providers > Dehaze.",
                "ENVIRONMENT",
            )
        message, hint = explain_exit(status)
        if tail:
            hint = f"{hint}\nLast lines of the engine:\n{tail}"
        return EngineFailedError(message, hint, "CRASH")
