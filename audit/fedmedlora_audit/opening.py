"""Events opened one after another, their signatures checked on several cores (ADR 0028).

Checking signatures is more than half of what judging a log costs, and needs nothing but bytes: that part
goes to worker processes, in chunks, while this process reads the next events and the law judges the ones
before. What comes out, and in what order, does not depend on how many there are.
"""

import gc
import multiprocessing
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final

from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.events import Actor, Event, UnverifiedEvent, parse_event
from fedmedlora_audit.note import Claim, VerifierKey, holds

PARALLEL_FROM: Final = 2000
"""Events below which starting a process costs more than it saves."""
CHUNK: Final = 128
"""Events whose signatures are checked in one go."""

KeyOf = Callable[[Actor], VerifierKey | None]
Learn = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of one event.

    Attributes:
        event: What it says, unless its form is wrong.
        problem: (check, sentence) if its form or its signature is wrong.
    """

    event: Event | None
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """An event that was read, whose signature is being checked unless something was wrong before."""

    opened: Opened
    unverified: UnverifiedEvent | None = None
    key: VerifierKey | None = None
    claim: Claim | None = None

    def judged(self, held: bool) -> Opened:
        """Return what became of it, given whether its claim holds."""
        if self.unverified is None or self.key is None:
            return self.opened
        try:
            return Opened(self.unverified.taken(self.key, held=held))
        except AuditError as error:
            return Opened(self.unverified.event, (error.check, error.sentence))


def open_events(
    notes: Sequence[bytes], key_of: KeyOf, workers: int = 1, learn: Learn = lambda event: None
) -> Iterator[Opened]:
    """Open the events of a log in order.

    Args:
        notes: The signed notes.
        key_of: The key an author is trusted to sign with, None for a stranger.
        workers: Processes to use, this one included; short logs are opened in this one alone.
            With more than one, the program's start must be guarded, as `multiprocessing` asks.
        learn: Told of every event once its key was asked for, before the next one's: keys change on the way.

    Yields:
        One result per note, the same for any number of workers.
    """
    rest = iter(notes)
    with ExitStack() as stack:
        pool = _pool(workers if len(notes) >= PARALLEL_FROM else 1, stack)
        waiting: deque[tuple[list[_Read], Future[bytes] | None]] = deque()
        while chunk := [_read(note, key_of, learn) for note in islice(rest, CHUNK)]:
            waiting.append((chunk, _submit(pool, chunk)))
            while waiting and _is_ready(waiting[0][1]):
                yield from _judged(*waiting.popleft())
        while waiting:
            yield from _judged(*waiting.popleft())


def check_claims(claims: Sequence[Claim]) -> bytes:
    """Check signatures in a worker; returns one byte each, 1 where it holds."""
    return bytes(map(holds, claims))


def _pool(workers: int, stack: ExitStack) -> ProcessPoolExecutor | None:
    if workers < 2:
        return None
    pool = ProcessPoolExecutor(workers - 1, mp_context=multiprocessing.get_context(_start_method()))
    stack.callback(pool.shutdown, cancel_futures=True)
    return pool


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause Python's search for cycles: a log's events hold none, and every search walks all of them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _start_method() -> str:
    """Fork where that is safe, which takes milliseconds; a fresh start reads the program again, a second."""
    alone = threading.active_count() == 1 and "fork" in multiprocessing.get_all_start_methods()
    return "fork" if alone and sys.platform == "linux" else "spawn"  # a forked copy has the caller's locks


def _read(note: bytes, key_of: KeyOf, learn: Learn) -> _Read:
    try:
        unverified = parse_event(note)
    except AuditError as error:
        return _Read(Opened(None, (error.check, error.sentence)))
    actor = unverified.event.actor
    key = key_of(actor)
    learn(unverified.event)
    if key is None:
        return _Read(Opened(unverified.event, ("E2", f"{actor.id} has no trusted key")))
    try:
        claim = unverified.claim(key)
    except AuditError as error:
        return _Read(Opened(unverified.event, (error.check, error.sentence)))
    return _Read(Opened(unverified.event), unverified, key, claim)


def _claims(chunk: Sequence[_Read]) -> list[Claim]:
    return [read.claim for read in chunk if read.claim is not None]


def _submit(pool: ProcessPoolExecutor | None, chunk: Sequence[_Read]) -> Future[bytes] | None:
    if pool is None:
        return None
    try:
        return pool.submit(check_claims, _claims(chunk))
    except BrokenProcessPool:
        return None


def _is_ready(future: Future[bytes] | None) -> bool:
    return future is None or future.done()


def _judged(chunk: Sequence[_Read], future: Future[bytes] | None) -> Iterator[Opened]:
    """Yield what became of a chunk; a worker that died leaves its part to this process."""
    try:
        held = check_claims(_claims(chunk)) if future is None else future.result()
    except BrokenProcessPool:
        held = check_claims(_claims(chunk))
    answers = iter(held)
    for read in chunk:
        yield read.judged(bool(next(answers)) if read.claim is not None else False)
