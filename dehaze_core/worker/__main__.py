# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of the worker: `python -I -u -X utf8 -m dehaze_core.worker JOB`.

Nothing heavy is imported here: the first line must reach the parent within a blink.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from dehaze_core import __version__
from dehaze_core.errors import DehazeError
from dehaze_core.worker.channel import Channel, ChannelProgress
from dehaze_core.worker.lifeline import watch_stdin
from dehaze_core.worker.protocol import (
    PROTOCOL,
    Failure,
    Hello,
    Job,
    Message,
    ProtocolError,
    Result,
)

EXIT_INTERNAL = 70
EXIT_USAGE = 64
EXIT_INTERRUPTED = 130
EXIT_MEMORY = 6


def main(arguments: Sequence[str]) -> int:
    """Run one job and return the exit status.

    Args:
        arguments: The path of the job file, and nothing else.
    """
    channel = Channel.claim_stdout()
    channel.send(Hello(PROTOCOL, __version__, os.getpid()))
    watch_stdin()
    if len(arguments) != 1:
        channel.send(Failure("USAGE", f"Expected one job file, got {len(arguments)} arguments."))
        return EXIT_USAGE
    status, message = _answer(arguments[0], ChannelProgress(channel))
    channel.send(message)
    return status


def _answer(job_file: str, progress: ChannelProgress) -> tuple[int, Message]:
    """Do the job and turn whatever happens into an exit status and a last message."""
    try:
        job = _read_job(job_file)
        from dehaze_core.worker.tasks import TASKS

        return 0, Result(TASKS[job.task](job.parameters, progress))
    except DehazeError as problem:
        return problem.exit_code, Failure(problem.code, problem.message, problem.hint)
    except ProtocolError as problem:
        return EXIT_USAGE, Failure("PROTOCOL", str(problem), "Update the plugin and the engine.")
    except MemoryError:
        traceback.print_exc()
        return EXIT_MEMORY, Failure(
            "MEMORY",
            "The memory of this machine did not suffice.",
            "Set a memory limit or a smaller block size, or close other programs.",
        )
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED, Failure("INTERRUPTED", "The run was interrupted.")
    except BaseException as problem:  # noqa: BLE001 - process boundary: nothing may end silently
        traceback.print_exc()
        text = " ".join(str(problem).split()) or "no further text"
        return EXIT_INTERNAL, Failure(
            "INTERNAL",
            f"The engine met an unexpected {type(problem).__name__}: {text}.",
            "Please report it together with the log.",
        )


def _read_job(job_file: str) -> Job:
    try:
        with open(job_file, encoding="utf-8") as file:
            return Job.from_json(file.read())
    except (OSError, UnicodeDecodeError) as problem:
        raise ProtocolError(f"The job file cannot be read: {problem}.") from problem


if __name__ == "__main__":
    exit_status = main(sys.argv[1:])
    sys.stderr.flush()
    # Skips the teardown of torch, GDAL and thread pools: it takes longer than many a job, and the
    # result is already on disk.
    os._exit(exit_status)
