# SPDX-License-Identifier: GPL-3.0-or-later
"""Read, compute and write at the same time, one block each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from dehaze_core.engine.memory import release_freed_memory

RELEASE_EVERY = 16
"""Items after which freed memory goes back to the system. Holes that nothing fits add up otherwise,
and a raster of more blocks would take more memory."""

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")


def run_blocks(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    compute: Callable[[Item, Loaded], Result],
    store: Callable[[Item, Result], None],
) -> Iterator[Item]:
    """Work through items in order, loading the next and storing the last while one is computed.

    At most one loaded item waits and at most one result is being stored, so memory is bounded
    by three items. The first error of any stage is raised here, after the other threads have
    come to rest.

    Args:
        items: What to work on.
        load: Runs in its own thread.
        compute: Runs in the caller's thread.
        store: Runs in its own thread.

    Yields:
        Every item once its result is stored.
    """
    with ThreadPoolExecutor(1, "load") as loader, ThreadPoolExecutor(1, "store") as storer:
        queue, done = iter(items), 0
        item = next(queue, None)
        loading = None if item is None else loader.submit(load, item)
        storing: tuple[Item, Future[None]] | None = None
        while item is not None and loading is not None:
            loaded = loading.result()
            following = next(queue, None)
            loading = None if following is None else loader.submit(load, following)
            result = compute(item, loaded)
            del loaded
            if storing is not None:
                storing[1].result()
                yield storing[0]
            storing = (item, storer.submit(store, item, result))
            del result
            item = following
            done += 1
            if done % RELEASE_EVERY == 0:
                release_freed_memory()
        if storing is not None:
            storing[1].result()
            yield storing[0]
