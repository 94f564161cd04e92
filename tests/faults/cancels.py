# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are cancelled again and again in one process."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.child import Child, cancelled
from tests.faults.rig import Rig, Tally

WARM = 10
"""Runs that fill the caches of the libraries before memory is compared."""

MOST_MIB = 50.0


def cancel_again_and_again(folder: Path, repetitions: int, seed: int) -> Tally:
    """Cancel a run at random places in one process: nothing grows, nothing is left but its state.

    Every repetition fails if the process has grown, for it cannot be told which one was to blame.
    """
    rig, chance, tally = Rig.make(folder, side=256), random.Random(seed), Tally()
    fractions = [chance.uniform(0.01, 0.99) for _ in range(WARM + repetitions)]
    answer = Child(cancelled, rig.settings(thickness=None), fractions, WARM).answer()
    if answer is None:
        failure: str | None = "the process died"
    else:
        mib, threads, files = answer
        tally.remark = (
            f"memory {mib:+.1f} MiB, threads {threads:+d}, open files {files:+d} between run "
            f"{WARM} and run {WARM + repetitions}"
        )
        grown = mib > MOST_MIB or threads > 0 or files > 0
        failure = tally.remark if grown else rig.why_not_untouched()
    if failure is None:
        left = sorted(
            p.name for p in rig.workspace.rglob("*") if p.name.endswith((".part", ".partial"))
        )
        failure = f"temporary files left: {left}" if left else None
    if failure is None:
        rig.start()
        failure = rig.why_not_whole()
    for _ in range(repetitions):
        tally.add(failure)
    return tally
