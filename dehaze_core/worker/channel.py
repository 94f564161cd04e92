# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's only way to speak: lines on the descriptor that standard output was at the start."""

from __future__ import annotations

import os
import sys
import threading
import time

from dehaze_core.worker.protocol import Log, Message, Progress, Warn, encode

PROGRESS_INTERVAL_S = 0.1
"""A reader that draws a bar needs no more than ten updates a second."""


class Channel:
    """Write messages to a descriptor, whole lines only, from any thread.

    Args:
        descriptor: An open file descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    def claim_stdout(cls) -> Channel:
        """Keep standard output for messages and send everything else there to standard error.

        Done on the descriptor, so that prints of compiled libraries cannot break a message either.
        """
        sys.stdout.flush()
        descriptor = os.dup(1)
        os.dup2(2, 1)
        return cls(descriptor)

    def send(self, message: Message) -> None:
        """Write one message.

        Raises:
            BrokenPipeError: The reader is gone.
        """
        rest = memoryview((encode(message) + "\n").encode("ascii"))
        with self._lock:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


class ChannelProgress:
    """The engine's progress, sent over a channel.

    Values never go back, and no more than one in `PROGRESS_INTERVAL_S` is sent, except for a new
    text and the end.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._value = 0.0
        self._text = ""
        self._sent_at = float("-inf")

    def update(self, fraction: float, text: str) -> None:
        """Report that `fraction` (0 to 1) of the task is done."""
        with self._lock:
            self._value = max(self._value, min(100.0, 100.0 * fraction))
            now = time.monotonic()
            is_due = now - self._sent_at >= PROGRESS_INTERVAL_S
            if not (is_due or text != self._text or self._value >= 100.0):
                return
            self._sent_at = now
            self._text = text
            self._channel.send(Progress(round(self._value, 2), text))

    def log(self, message: str) -> None:
        """Send a line for the log."""
        self._channel.send(Log(message))

    def warning(self, message: str) -> None:
        """Send a line for the log that deserves attention."""
        self._channel.send(Warn(message))
