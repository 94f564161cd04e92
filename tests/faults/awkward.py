# SPDX-License-Identifier: GPL-3.0-or-later
"""Real files of many makers: a part of each is dehazed, or it is refused at once."""

from __future__ import annotations

import random
import time
from pathlib import Path

from dehaze_core.errors import DehazeError
from dehaze_core.scene import open_scene
from tests.faults.rig import Rig, Tally, Unavailable
from tests.frame.test_shared_files import FOLDER, extent_of_middle, names

# The promise is 2 s on a quiet machine; the slowest is printed. This is no machine's bad day.
_MOST_SECONDS = 20.0


def shared_rasters(folder: Path, repetitions: int, seed: int) -> Tally:
    """Run on the middle of each shared file, and measure how long a refusal takes."""
    every = names()
    if not every:
        raise Unavailable("the folder shared/data/io_cases is not here")
    rig, tally = Rig.make(folder, side=64, block=64), Tally()
    random.Random(seed).shuffle(every)
    refusals: dict[str, float] = {}
    for number in range(repetitions):
        rig.clear()
        name = every[number % len(every)]
        start = time.monotonic()
        try:
            with open_scene(str(FOLDER / name)) as scene:
                extent = extent_of_middle(scene.frame)
            rig.start(source=str(FOLDER / name), extent=extent, block_size=256)
        except DehazeError:
            refusals[name] = time.monotonic() - start
            late = refusals[name] > _MOST_SECONDS
            failure = f"refused after {refusals[name]:.1f} s" if late else rig.why_not_untouched()
        else:
            left = {path.name for path in rig.folder.iterdir()}
            expected = {rig.out.name, rig.thickness.name}
            failure = None if left == expected else f"left {sorted(left)}"
        tally.add(failure and f"{name}: {failure}")
    slowest = max(refusals.values(), default=0.0)
    tally.remark = (
        f"{repetitions - len(refusals)} done, {len(refusals)} refused with a code; slowest "
        f"refusal {slowest:.2f} s"
    )
    return tally
