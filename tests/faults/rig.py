# SPDX-License-Identifier: GPL-3.0-or-later
"""What the faults share: a small hazy raster, runs on it, and what they must end with."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from dehaze_core.engine import Report, RunSettings, Silent, run
from dehaze_core.errors import DehazeError
from dehaze_core.haze.noise import fractal_noise
from dehaze_core.haze.synthesis import HazeRecipe, add_haze
from dehaze_core.scene import open_scene
from dehaze_core.scene.srgb import encode_uint8
from tests.conftest import write_raster

SIDE, BLOCK = 512, 128
OLD = b"the file that was there before"

Pixels = NDArray[Any]
Content = Literal["absent", "old", "new", "broken"]


class Unavailable(Exception):
    """This machine does not let the fault be made; the text says what is missing."""


@dataclass
class Tally:
    """Result of a fault.

    Attributes:
        repetitions: How often it was made.
        failures: What went wrong, one text for each repetition that was not survived.
        remark: What was counted or measured beside that.
    """

    repetitions: int = 0
    failures: list[str] = field(default_factory=list)
    remark: str = ""

    @property
    def survived(self) -> int:
        """Repetitions without a failure."""
        return self.repetitions - len(self.failures)

    def add(self, failure: str | None) -> None:
        """Count a repetition and, unless None, how it failed."""
        self.repetitions += 1
        if failure is not None:
            self.failures.append(failure)


@dataclass(frozen=True)
class Fault:
    """A kind of accident, made many times.

    Attributes:
        name: What happens, as the table says it.
        make: Makes it in an empty folder, so many times, from a seed.
        few: Repetitions that tell a broken program from a sound one.
        many: Repetitions of the full run.
    """

    name: str
    make: Callable[[Path, int, int], Tally]
    few: int
    many: int


class Interruption(Exception):
    """Stands for a crash at some point of a run."""


class Steps(Silent):
    """Calls back once, when a run has come far enough, and remembers warnings."""

    def __init__(self, fraction: float, action: Callable[[], None]) -> None:
        self.fraction = fraction
        self.action: Callable[[], None] | None = action
        self.warnings: list[str] = []

    def update(self, fraction: float, text: str) -> None:
        if self.action is not None and fraction >= self.fraction:
            action, self.action = self.action, None
            action()

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def interrupt() -> None:
    """End a run the way a cancelled one ends."""
    raise Interruption


@cache
def hazy(side: int = SIDE) -> Pixels:
    """Return a hazy scene, (3, side, side) uint8, with texture and uneven haze."""
    rng = np.random.default_rng(7)
    rows, cols = np.meshgrid(np.arange(side) / 80.0, np.arange(side) / 80.0, indexing="ij")
    ground = np.stack([fractal_noise(rows, cols, seed, 6) for seed in (1, 2, 3)])
    clear = 0.12 + 0.04 * ground + 0.01 * rng.standard_normal(ground.shape)
    recipe = HazeRecipe(kind="patchy", thickness=0.7, wavelength=300.0, seed=5)
    return encode_uint8(add_haze(np.clip(clear, 0.01, 1.0).astype(np.float32), recipe).hazy)


@dataclass(frozen=True)
class Rig:
    """A source, the outputs of runs on it, and the pixels an unbroken run gives.

    Attributes:
        folder: Holds the output, and the source unless made elsewhere.
        source: The raster.
        out: The dehazed raster.
        expected: Digests of the pixels of output and thickness after an unbroken run.
        block: Side of a block, px.
    """

    folder: Path
    source: Path
    out: Path
    expected: tuple[str, str]
    block: int = BLOCK

    @classmethod
    def make(cls, folder: Path, side: int = SIDE, block: int = BLOCK) -> Rig:
        """Write the raster into a new folder; outputs go into a folder in there."""
        folder.mkdir(parents=True)
        source, work = folder / "scene.tif", folder / "work"
        write_raster(source, data=hazy(side))
        work.mkdir()
        return cls(work, source, work / "out.tif", unbroken(side, block), block)

    @property
    def thickness(self) -> Path:
        """Path of the haze thickness."""
        return self.out.with_name(f"{self.out.stem}-thickness.tif")

    @property
    def workspace(self) -> Path:
        """Folder of the unfinished run."""
        return self.out.with_name(f".{self.out.name}.dehaze")

    def settings(self, **changes: Any) -> RunSettings:
        """Return settings of a run on one thread."""
        values = {
            "source": str(self.source),
            "destination": str(self.out),
            "thickness": str(self.thickness),
            "block_size": self.block,
            "threads": 1,
            **changes,
        }
        return RunSettings(**values)

    def start(self, progress: Silent | None = None, **changes: Any) -> Report:
        """Run in this process."""
        return run(self.settings(**changes), progress or Silent())

    def stop_at(self, fraction: float, **changes: Any) -> None:
        """Run until so much is done."""
        try:
            self.start(Steps(fraction, interrupt), **changes)
        except Interruption:
            return
        raise AssertionError(f"the run never came to {fraction}")

    def digests(self) -> tuple[str, str]:
        """Return digests of the pixels of output and thickness."""
        return digest(self.out), digest(self.thickness)

    def look(self) -> Content:
        """Tell what is under the output's name."""
        return content(self.out, self.expected[0])

    def why_not_whole(self) -> str | None:
        """Return what is wrong after a run that should have succeeded, or None."""
        if self.look() != "new" or content(self.thickness, self.expected[1]) != "new":
            return f"output {self.look()}, expected the pixels of the unbroken run"
        left = {path.name for path in self.folder.iterdir()} - {self.out.name, self.thickness.name}
        return f"left behind: {sorted(left)}" if left else None

    def why_not_untouched(self, *, layer_done: bool = False) -> str | None:
        """Return what is wrong after a run that should have failed, or None.

        Args:
            layer_done: It failed when the thickness, which comes before the output, was complete.
        """
        if self.look() != "absent":
            return f"output {self.look()} after a failed run"
        known = {self.workspace.name}
        if layer_done and content(self.thickness, self.expected[1]) == "new":
            known.add(self.thickness.name)
        left = {path.name for path in self.folder.iterdir()} - known
        return f"left behind: {sorted(left)}" if left else None

    def clear(self, old: bool = False) -> None:
        """Remove outputs and unfinished state; optionally put an old file under the name."""
        remove(self.folder)
        self.folder.mkdir()
        if old:
            self.out.write_bytes(OLD)


@cache
def unbroken(side: int, block: int) -> tuple[str, str]:
    """Return digests of what an unbroken run makes of the scene, output and thickness."""
    with TemporaryDirectory() as folder:
        source = Path(folder, "scene.tif")
        write_raster(source, data=hazy(side))
        rig = Rig(Path(folder), source, Path(folder, "out.tif"), ("", ""), block)
        rig.start()
        if digest(source) == digest(rig.out):
            raise AssertionError("a run that changes no pixel proves nothing")
        return rig.digests()


def remove(folder: Path) -> None:
    """Delete a folder and all it holds."""
    shutil.rmtree(folder)


def digest(path: Path) -> str:
    """Return a digest of all pixels of a raster, a file or a zarr folder."""
    if path.is_dir():
        with open_scene(str(path)) as scene:
            pixels = scene.read(scene.frame.window)[0]
    else:
        with rasterio.open(path) as raster:
            pixels = raster.read()
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def content(path: Path, expected: str) -> Content:
    """Tell what a file holds: nothing, what was there before, the right pixels, or rubbish."""
    try:
        if path.is_file() and path.stat().st_size == len(OLD) and path.read_bytes() == OLD:
            return "old"
        if not path.exists():
            return "absent"
        return "new" if digest(path) == expected else "broken"
    except (OSError, rasterio.errors.RasterioError):
        # It may have been replaced between two looks.
        return "broken" if path.exists() else "absent"


def refusal(action: Callable[[], Any], *codes: str, names: tuple[str, ...] = ()) -> str | None:
    """Return what is wrong with how an action was refused, or None.

    Args:
        action: Should raise a coded error.
        codes: One of these is expected; any will do if none is given.
        names: What the message must name.
    """
    try:
        action()
    except DehazeError as error:
        if codes and error.code not in codes:
            return f"{error}: expected one of {codes}"
        missing = [name for name in names if name not in error.message]
        return f"{error}: does not name {missing}" if missing else None
    except Exception as error:  # noqa: BLE001 - anything else is a failure to be counted
        return f"{type(error).__name__} without a code: {error}"
    return "not refused"
