# SPDX-License-Identifier: GPL-3.0-or-later
"""The one family of errors a user of Dehaze can meet.

Every message says what was found and what was expected; `hint` says what to do about it. `code` is
stable and machine-readable, `exit_code` is what the command line and the worker process end with.
"""

from __future__ import annotations


class DehazeError(Exception):
    """Root of all errors raised on purpose.

    Args:
        message: What was found and what was expected, one or two sentences.
        hint: What the user can do; may be empty.
        code: A finer code than that of the class, upper snake case.
    """

    code = "DEHAZE"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        """Return code, message and hint as one line."""
        text = f"[{self.code}] {self.message}"
        return f"{text} {self.hint}" if self.hint else text


class EngineError(DehazeError):
    """The engine met a state it cannot go on from."""

    code = "ENGINE"
    exit_code = 1


class SettingsError(DehazeError, ValueError):
    """A setting is out of range, or settings contradict each other."""

    code = "SETTINGS"
    exit_code = 2


class InputError(DehazeError, OSError):
    """The source raster cannot be read, or is of a kind that cannot be dehazed."""

    code = "INPUT"
    exit_code = 3

    # OSError.__str__ would ignore ours for some argument patterns.
    __str__ = DehazeError.__str__


class OutputError(DehazeError, OSError):
    """The output cannot be written, or does not verify after writing."""

    code = "OUTPUT"
    exit_code = 4

    __str__ = DehazeError.__str__


class ModelError(DehazeError):
    """A model is unknown, has no weights, or its weights are not what its card says."""

    code = "MODEL"
    exit_code = 5


class ResourceError(DehazeError):
    """Memory, disk or a device does not suffice for the job."""

    code = "RESOURCE"
    exit_code = 6
