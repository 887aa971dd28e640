"""Work on ranges of a vector, on a few threads that live as long as the process.

numpy and hashlib release the interpreter's lock while they compute, so two threads use two cores. Every range
begins at a whole block, and no result depends on how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

BLOCK = 1 << 18
"""Values that a thread takes at least: below that, starting it costs more than it saves."""


def over_ranges(work: Callable[[int, int], None], count: int, threads: int, *, block: int = BLOCK) -> None:
    """Call `work(first, last)` on ranges that cover 0..count, at most `threads` of them at a time.

    Args:
        work: Handles values first .. last-1; what it writes lies in its range.
        count: Values in all.
        threads: Ranges; >= 1. One range is worked on in the calling thread.
        block: Every range begins at a multiple of it.

    Raises:
        ValueError: `threads` is below 1 (the caller's mistake).
        Exception: What `work` raised, once no range is being worked on any more.
    """
    if threads < 1:
        raise ValueError("threads is at least 1")
    blocks = -(-count // block)
    step = -(-blocks // threads) * block
    if blocks <= 1 or step >= count:
        if count:
            work(0, count)
        return
    parts = [(first, min(first + step, count)) for first in range(0, count, step)]
    running = [_pool(threads).submit(work, first, last) for first, last in parts]
    errors = [done.exception() for done in running]
    for error in errors:
        if error is not None:
            raise error


@cache
def _pool_of(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="vector")


def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the pool of this size, which lives as long as the process; a forked child gets its own."""
    return _pool_of(os.getpid(), threads)
