# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed runs: resumed, they end with the bytes of an unbroken one, and nothing shows before."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

from dehaze_core.engine import RunSettings
from tests.faults.child import Child, killed_at, killed_in_rename, plain
from tests.faults.rig import Content, Rig, Tally, content, remove

_BETWEEN_LOOKS = 0.002
# Places in finalising two outputs and taking the workspace away: which call of which function of
# `os`, and whether before or after it.
_CALLS = {"replace": 2, "fsync": 4, "unlink": 6, "rmdir": 2}
_PLACES = [
    (name, nth, after)
    for name, calls in _CALLS.items()
    for nth in range(calls)
    for after in (False, True)
]


class Watcher:
    """Looks at the outputs all the time; each change of a file is read once."""

    def __init__(self, rig: Rig) -> None:
        self._files = ((rig.out, rig.expected[0]), (rig.thickness, rig.expected[1]))
        self._states: list[tuple[int, int, int] | None] = [None, None]
        self.seen: set[Content] = set()

    def look(self) -> None:
        """Note what is under the outputs' names now."""
        for number, (path, expected) in enumerate(self._files):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if state != self._states[number]:
                self._states[number] = state
                self.seen.add(content(path, expected))


def kill_and_resume(folder: Path, repetitions: int, seed: int) -> Tally:
    """Kill runs at random moments of their life, some of them twice, then let them end.

    Where there is no old file, they may replace none, also not when they go on.
    """
    rig, chance, tally = Rig.make(folder), random.Random(seed), Tally()
    seconds = _seconds_of_a_run(rig)
    resumed = kills = blocks = 0
    while tally.repetitions < repetitions:
        old = tally.repetitions % 2 == 1
        rig.clear(old=old)
        settings = rig.settings(overwrite=old)
        watcher, died = Watcher(rig), 0
        for _ in range(chance.choice((1, 1, 2))):
            died += _kill_once(settings, watcher, chance.uniform(0, seconds))
        if not died:
            # The run was faster than the killer.
            continue
        kills += died
        answer = _end(settings, watcher)
        if isinstance(answer, int):
            resumed += bool(answer)
            blocks += answer
        tally.add(_judge(rig, watcher, answer))
    tally.remark = (
        f"{kills} kills within the {seconds:.2f} s of a run; {resumed} runs found finished blocks "
        f"and did not compute {blocks} of them again"
    )
    return tally


def kill_in_finalise(folder: Path, repetitions: int, seed: int, *, name: str = "out.tif") -> Tally:
    """Kill runs before and after each rename and flush, and at every step of the last phase."""
    rig, chance, tally = Rig.make(folder, side=256), random.Random(seed), Tally()
    rig = replace(rig, out=rig.folder / name)
    survivors = 0
    while tally.repetitions < repetitions:
        number = tally.repetitions + survivors
        # A file is no zarr folder, and would not be replaced by one.
        old = number % 2 == 1 and name.endswith(".tif")
        rig.clear(old=old)
        settings = rig.settings(overwrite=old)
        watcher = Watcher(rig)
        if number % 4 == 3:
            child = Child(killed_at, settings, chance.uniform(0.84, 1.0))
        else:
            child = Child(killed_in_rename, settings, *chance.choice(_PLACES))
        while child.is_running:
            watcher.look()
            time.sleep(_BETWEEN_LOOKS)
        if child.wait() == 0:
            # This call does not happen so often.
            survivors += 1
            continue
        watcher.look()
        failure = _judge_names(rig, watcher)
        tally.add(failure or _judge(rig, watcher, _end(settings, watcher)))
    tally.remark = "before and after each rename, flush and removal, and between the steps"
    return tally


def _kill_once(settings: RunSettings, watcher: Watcher, moment: float) -> bool:
    """Start or resume the run and kill it at a moment; return False if it had ended by then."""
    child = Child(plain, settings)
    start = time.monotonic()
    while time.monotonic() - start < moment and child.is_running:
        watcher.look()
        time.sleep(_BETWEEN_LOOKS)
    died = child.kill()
    watcher.look()
    return died


def _end(settings: RunSettings, watcher: Watcher) -> object:
    """Let the run end; return how many blocks it did not compute again, or how it failed."""
    child = Child(plain, settings)
    while child.is_running and not child.connection.poll():
        watcher.look()
        time.sleep(_BETWEEN_LOOKS)
    return child.answer()


def _judge(rig: Rig, watcher: Watcher, answer: object) -> str | None:
    watcher.look()
    if isinstance(answer, tuple) and answer[0] == "OUTPUT_EXISTS":
        # All was done but for taking the workspaces away; that is left to `dehaze clean`.
        for workspace in rig.folder.glob(".*.dehaze"):
            remove(workspace)
    failure = _judge_names(rig, watcher) or rig.why_not_whole()
    return failure and f"{failure}; the resumed run said {answer}"


def _judge_names(rig: Rig, watcher: Watcher) -> str | None:
    return f"an output was seen {sorted(watcher.seen)}" if "broken" in watcher.seen else None


def _seconds_of_a_run(rig: Rig) -> float:
    rig.clear()
    child = Child(plain, rig.settings())
    start = time.monotonic()
    child.answer()
    return time.monotonic() - start
