# SPDX-License-Identifier: GPL-3.0-or-later
"""Offer every hostile checkpoint to the importer and the registry and note what happens.

`python -m tests.faults.checkpoint_cases` prints the outcomes and the peak of memory as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dehaze_core.engine.memory import peak_memory_mib
from dehaze_core.errors import ModelError
from dehaze_core.models import load_model
from dehaze_core.models.importer import import_model
from tests.faults.pickle_cases import ARCHIVES, PICKLES
from tests.faults.safetensors_cases import FILES, FOLDERS, NAME, TINY, make_folder

Act = Callable[[Path], object]


class Outcome(NamedTuple):
    """What became of one hostile checkpoint.

    Attributes:
        name: What is wrong with it.
        refused: It ended in a `ModelError`, and nothing was left in the model folder.
        executed: Code in it ran.
        seconds: Time until it was refused.
        code: The error's code.
    """

    name: str
    refused: bool
    executed: bool
    seconds: float
    code: str


def cases() -> Iterator[tuple[str, Callable[[Path], Act]]]:
    """Yield names of cases, and functions that make the case in a folder and return the act."""
    for name, make in (PICKLES | ARCHIVES).items():
        yield f"checkpoint: {name}", _importing(".pth", lambda folder, m=make: m(_canary(folder)))
    for name, content in FILES.items():
        yield f"safetensors: {name}", _importing(".safetensors", lambda folder, c=content: c())
    for name, spoil in FOLDERS.items():
        yield f"model folder: {name}", _loading(spoil)
    for name, odd in (("folder", Path.mkdir), ("pipe", os.mkfifo), ("64 GiB of nothing", _sparse)):
        yield f"file: {name}", _importing(".pth", odd)


def run_checkpoint_cases() -> list[Outcome]:
    """Run all cases in this process, one after the other."""
    with tempfile.TemporaryDirectory(prefix="dehaze-hostile-") as folder:
        return [
            run_case(name, make, Path(folder) / str(number))
            for number, (name, make) in enumerate(cases())
        ]


def run_case(name: str, make: Callable[[Path], Act], folder: Path) -> Outcome:
    """Make one case in a new folder and offer it."""
    folder.mkdir()
    act = make(folder)
    code, start = "", time.monotonic()
    try:
        act(folder)
    except ModelError as error:
        code = error.code
    seconds = time.monotonic() - start
    imported = folder / "models"
    refused = bool(code) and not (imported.exists() and any(imported.iterdir()))
    return Outcome(name, refused, _canary(folder).exists(), seconds, code)


def _canary(folder: Path) -> Path:
    return folder / "canary"


def _importing(suffix: str, make: Callable[[Path], object]) -> Callable[[Path], Act]:
    """Return a maker of a file that is then imported.

    `make` gets the case's folder and returns bytes, or gets the file's path and makes it itself.
    """

    def prepare(folder: Path) -> Act:
        path = folder / f"hostile{suffix}"
        if make in (Path.mkdir, os.mkfifo, _sparse):
            make(path)
        else:
            path.write_bytes(make(folder))  # type: ignore[arg-type]
        return lambda place: import_model(
            path, NAME, config=TINY.as_dict(), folder=place / "models"
        )

    return prepare


def _loading(spoil: Callable[[Path], object]) -> Callable[[Path], Act]:
    def prepare(folder: Path) -> Act:
        make_folder(folder, spoil)
        return lambda place: load_model(NAME, place)

    return prepare


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(64 << 30)


def main() -> None:
    """Print outcomes and the peak of this process and its children, MiB."""
    outcomes = run_checkpoint_cases()
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    peaks = [peak_memory_mib(), children]
    json.dump({"outcomes": outcomes, "peak_mib": max(peaks)}, sys.stdout)


if __name__ == "__main__":
    main()
