# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage to the state of an unfinished run: noticed, and computed again."""

from __future__ import annotations

import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

from dehaze_core.engine.journal import read_journal
from dehaze_core.engine.result_store import ResultStore
from dehaze_core.engine.sealed import read_sealed
from dehaze_core.grid import Window
from tests.faults.rig import Rig, Tally

_TOGETHER = 10
"""Bits that flip between two runs."""

_RECORDS = ("job.json", "layers.json", "context.json", "blocks.jsonl")
_STORE_RECORDS = ("zarr.json", "journal.json")


def bit_flips(folder: Path, repetitions: int, seed: int) -> Tally:
    """Flip single bits anywhere in the state of a stopped run, see them noticed, and go on."""
    rig, chance, tally = Rig.make(folder), random.Random(seed), Tally()
    stopped = _stopped(rig)
    counts: dict[str, int] = {}
    again = 0
    while tally.repetitions < repetitions:
        _put_back(rig, stopped)
        flips = min(_TOGETHER, repetitions - tally.repetitions)
        unnoticed = []
        for path in _choose(rig.workspace, flips, chance):
            kind = _kind(rig.workspace, path)
            counts[kind] = counts.get(kind, 0) + 1
            _flip_bit(path, chance)
            name = path.relative_to(rig.workspace)
            noticed = _is_noticed(rig.workspace, path, stopped / name)
            unnoticed.append(None if noticed else f"a flipped bit in {name} went unnoticed")
        report = rig.start()
        again += report.blocks - report.resumed_blocks
        wrong = rig.why_not_whole()
        for failure in unnoticed:
            tally.add(failure or wrong)
    tally.remark = (
        ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
        + f"; {again} blocks computed again, {_TOGETHER} flips at a time"
    )
    return tally


def damaged_records(folder: Path, repetitions: int, seed: int) -> Tally:
    """Flip bits in, cut or delete the records of a stopped run, then go on."""
    rig, chance, tally = Rig.make(folder), random.Random(seed), Tally()
    stopped = _stopped(rig)
    names = [
        *_RECORDS,
        *(
            f"{store}/{name}"
            for store in ("result", "thickness", "tokens")
            for name in _STORE_RECORDS
        ),
        "conditions.f32",
    ]
    damages: tuple[Callable[[Path, random.Random], None], ...] = (_flip_bit, _cut, _scribble, _lose)
    for number in range(repetitions):
        _put_back(rig, stopped)
        name = names[number % len(names)]
        damage = damages[number // len(names) % len(damages)]
        damage(rig.workspace / name, chance)
        rig.start()
        wrong = rig.why_not_whole()
        tally.add(wrong and f"{name} {damage.__name__}: {wrong}")
    tally.remark = f"bit flipped, cut, overwritten or deleted: {', '.join(names)}"
    return tally


def lost_chunks(folder: Path, repetitions: int, seed: int) -> Tally:
    """Cut or delete chunks of a stopped run, then go on."""
    rig, chance, tally = Rig.make(folder), random.Random(seed), Tally()
    stopped = _stopped(rig)
    for number in range(repetitions):
        _put_back(rig, stopped)
        path = chance.choice([p for p in _content(rig.workspace) if "c" in p.parts])
        (_cut if number % 2 else _lose)(path, chance)
        rig.start()
        tally.add(rig.why_not_whole())
    return tally


def _stopped(rig: Rig) -> Path:
    """Return a copy of the state of a run that was stopped when all blocks were finished."""
    rig.clear()
    rig.stop_at(0.84)
    copy = rig.folder.with_name("stopped")
    shutil.copytree(rig.workspace, copy)
    return copy


def _put_back(rig: Rig, stopped: Path) -> None:
    rig.clear()
    shutil.copytree(stopped, rig.workspace)


def _content(workspace: Path) -> list[Path]:
    """Return the files whose bits stand for pixels, tokens or sums."""
    names = {*_STORE_RECORDS, "lock", "job.json"}
    return sorted(p for p in workspace.rglob("*") if p.is_file() and p.name not in names)


def _kind(workspace: Path, path: Path) -> str:
    return path.relative_to(workspace).parts[0]


def _choose(workspace: Path, count: int, chance: random.Random) -> list[Path]:
    """Return files to damage: the few that stand for the whole raster, and some chunks."""
    files = _content(workspace)
    few = [path for path in files if path.parent == workspace]
    chunks = [path for path in files if path.parent != workspace]
    few = chance.sample(few, min(len(few), count))
    return few + chance.sample(chunks, count - len(few))


def _is_noticed(workspace: Path, path: Path, whole: Path) -> bool:
    """Tell whether the engine takes a damaged file, or the damaged part of it, for missing."""
    if path.name == "blocks.jsonl":
        return set(read_journal(path)) < set(read_journal(whole))
    if path.name in {"layers.json", "context.json"}:
        return read_sealed(path) is None
    if path.name == "conditions.f32":
        record = read_sealed(whole.with_name("context.json")) or {}
        return record.get("crc32") != zlib.crc32(path.read_bytes())
    store = _open(workspace / _kind(workspace, path))
    size, (_, height, width) = store.chunk, store.shape
    row, col = int(path.parent.name) * size, int(path.name) * size
    return not store.is_complete(Window(row, col, size, size).clipped(height, width))


def _open(folder: Path) -> ResultStore:
    import zarr

    return ResultStore(folder, zarr.open_array(folder, mode="r"), None)


def _flip_bit(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    bit = chance.randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def _cut(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def _scribble(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(path.stat().st_size))


def _lose(path: Path, chance: random.Random) -> None:
    path.unlink()
