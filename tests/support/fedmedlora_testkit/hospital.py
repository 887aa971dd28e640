"""The players of a ward: a scripted hospital, a clock that tests move, a store that dies at a write."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from fedmedlora_audit.law import Session
from fedmedlora_audit.note import ALG_COSIGNATURE, ALG_COSIGNATURE_MLDSA, NoteSigner
from fedmedlora_coordinator.database import Database
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import LogStore
from fedmedlora_core.packing import Packing
from fedmedlora_core.scores import MatchScore
from fedmedlora_core.scores.counts import Counts
from fedmedlora_core.study import Study
from fedmedlora_core.validation_counts import CountLayout, ValidationCounts
from fedmedlora_core.vote import encode_vote, vote_packing
from fedmedlora_crypto.secagg.party import Party


class Killed(BaseException):
    """The coordinator was killed at a write (a BaseException: nothing may handle it)."""


class FlakyStore(LogStore):
    """A store that dies at chosen appends, before or after they are there for the next process.

    It does not wait for the disk: a killed process loses nothing that it wrote, only a power cut does.
    """

    def __init__(self, database: Database, head_path: Path) -> None:
        super().__init__(database, head_path)
        if not isinstance(database, SqliteDatabase):
            return
        with self._engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")  # no change of this setting within a transaction
            connection.exec_driver_sql("PRAGMA synchronous = OFF")
            connection.exec_driver_sql("BEGIN")

    appends = 0
    die_at: int | None = None
    after = False
    every: int | None = None
    deaths: tuple[int, ...] = ()

    def append(self, start: int, entries: Any, *, head: bytes, size: int) -> None:
        """Append, or die at the chosen one."""
        FlakyStore.appends += 1
        hit = FlakyStore.appends == FlakyStore.die_at
        if hit and not FlakyStore.after:
            raise Killed
        super().append(start, entries, head=head, size=size)
        if hit:
            raise Killed

    @classmethod
    def arm(cls, die_at: int | None, *, after: bool = False, every: int | None = None) -> None:
        """Choose the append to die at, counted from now; with `every` each so many durable ones again."""
        cls.appends, cls.die_at, cls.after, cls.every, cls.deaths = 0, die_at, after, every, ()

    @classmethod
    def disarm(cls) -> set[int]:
        """Die no more; returns at which appends it died."""
        deaths = set(cls.deaths)
        cls.arm(None)
        return deaths

    @classmethod
    def died(cls) -> None:
        """Note the death and choose the next one, if there is to be one."""
        if cls.die_at is None:
            return
        cls.deaths = (*cls.deaths, cls.die_at)
        if not cls.after:
            cls.appends -= 1  # the one that was not made is made by the next process, under the same number
        cls.die_at = None if cls.every is None else cls.die_at + cls.every


class Clock:
    """Monotonic seconds and the date, moved by the test."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.seconds

    def now(self) -> dt.datetime:
        """The date that goes with the seconds."""
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=self.seconds)


class Hospital:
    """A scripted member: does its duties in order, without disk or network."""

    def __init__(self, site: str, number: int) -> None:
        self.site = site
        self.number = number
        self.signer = NoteSigner.from_seed(site, bytes([number]) * 32)
        self.witness = NoteSigner.from_seed(site, bytes([100 + number]) * 32, algorithm=ALG_COSIGNATURE)
        self.alive = True
        self.refuses: set[str] = set()  # steps at which it stays silent
        self.parties: dict[str, Party] = {}
        self.outbox: bytes | None = None  # signed and not yet acknowledged: sent again as it is
        self.cut_off = False  # its calls do not get through, though its stream is open
        self.cosigns = True  # it cosigns heads of the log
        self.charges = True  # in a private study: it logs what its training costs
        self.against = False  # it finds the new adapter worse
        self.finds: dict[int, int] = {}  # round -> how many of its mentions of each type it finds

    def post_quantum_witness(self) -> NoteSigner:
        """A witness key of the other kind."""
        seed = bytes([100 + self.number]) * 32
        return NoteSigner.from_seed(self.site, seed, algorithm=ALG_COSIGNATURE_MLDSA)

    def restart(self) -> None:
        """Lose everything that lives in memory."""
        self.parties.clear()

    def graph_secret(self, round_number: int) -> bytes:
        """Where this hospital's chain of contributions of a round starts."""
        return hashlib.sha256(f"{self.site} {round_number}".encode()).digest()

    def vote(self, study: Study) -> np.ndarray[Any, Any]:
        """Write this hospital's vote into a slot of its own."""
        return encode_vote(self.against, slot=1000 * self.number, n=len(study.members))

    def counts(self, study: Study, round_number: int) -> ValidationCounts:
        """What this hospital finds in its held-out notes: 10 mentions of each type that it annotates."""
        annotated = next(member.annotated for member in study.members if member.id == self.site)
        tp = self.finds.get(round_number, 5)
        score = MatchScore({label: Counts(tp, self.number, 10 - tp) for label in annotated})
        return ValidationCounts(score, score)

    def counted(self, study: Study, round_number: int, layout: CountLayout) -> np.ndarray[Any, Any]:
        """Write this hospital's validation counts of a round's adapter."""
        return layout.encode(self.counts(study, round_number))

    def summed(self, study: Study, session: Session) -> np.ndarray[Any, Any]:
        """What this hospital adds to the sum of a session."""
        if session.purpose == "score":
            return self.vote(study)
        if session.purpose == "statistics":
            return self.counted(study, session.round, CountLayout.of(study, session.ready))
        return self.update(study, session.round)

    def weight(self) -> int:
        """The weight this hospital declares."""
        return 64 * self.number

    def update(self, study: Study, round_number: int) -> np.ndarray[Any, Any]:
        """Encode this hospital's update of a round; the same in every attempt."""
        values = np.full(
            study.update_dimension(round_number), 0.001 * self.number * round_number, dtype=np.float32
        )

        def words(_start: int, count: int) -> np.ndarray[Any, Any]:
            return np.zeros(count, dtype=np.uint32)

        return study.codec().encode(values, weight=self.weight(), words=words, extras=(self.number,))


def packing_of(study: Study, session: Session) -> Packing:
    """Frames of what is summed in a session."""
    if session.purpose == "score":
        return vote_packing(len(study.members))
    if session.purpose == "statistics":
        return CountLayout.of(study, session.ready).packing
    return study.packing(session.round)
