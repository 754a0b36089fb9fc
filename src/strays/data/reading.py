"""Reading ahead: the next frames are decoded by threads of their own while one is worked on."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from strays.errors import InputError

__all__ = ["AHEAD", "read_ahead"]

AHEAD = 4
"""So many frames are kept read or in the reading: enough for a fast GPU, and a known amount of memory everywhere."""

_THREAD_NAME = "strays-reading"

Item = TypeVar("Item")
Value = TypeVar("Value")


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Value], workers: int | None = None, ahead: int = AHEAD
) -> Iterator[tuple[Item, Value]]:
    """Yield every item with what ``read`` makes of it, in order, while the next ones are read by other threads.

    Beyond the value that was yielded last never more than ``ahead`` are read or being read. What ``read`` raises comes
    at the place of its item, after everything before it, and ends the iteration. When that, the caller or a keyboard
    interrupt ends it early, readings that have not begun are dropped and those that have are waited for.

    Args:
        items: what is read; taken up to ``ahead`` items early, in the caller's thread.
        read: must bear to be called by several threads at once.
        workers: so many threads read; by default one per core, ``ahead`` at most.
        ahead: so many values are prepared.

    Raises:
        InputError: if there are no workers, or nothing may be prepared.

    Example:
        >>> list(read_ahead("abc", str.upper))
        [('a', 'A'), ('b', 'B'), ('c', 'C')]
    """
    workers = min(_cores(), ahead) if workers is None else workers
    if min(workers, ahead) < 1:
        raise InputError(f"expected at least one worker and one frame ahead, got {workers} and {ahead}")
    iterator, coming = iter(items), deque[tuple[Item, Future[Value]]]()
    pool = ThreadPoolExecutor(workers, _THREAD_NAME)

    def submit(count: int) -> None:
        coming.extend((item, pool.submit(read, item)) for item in islice(iterator, count))

    def first() -> tuple[Item, Value]:  # a function, so that nothing here holds on to the value once it is yielded
        item, future = coming.popleft()
        value = future.result()
        submit(1)
        return item, value

    try:
        submit(ahead)
        while coming:
            yield first()
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Return how many cores this process may use; not every system tells less than how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
