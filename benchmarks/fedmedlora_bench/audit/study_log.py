"""A lawful, witnessed log of any length, written by a coordinator's real ledger and read by a site's mirror.

Every event is made by its author's own pen and key, judged by the law, written durably with its receipt, and
cosigned by every member where the law asks for it. Nobody trains: payloads are digests of nothing, which
neither the log nor its auditor can tell from others.

What this does not do: drop-outs, votes, payloads, a network.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rfc8785

from fedmedlora_audit import event_data as of
from fedmedlora_audit.bundle import write_bundle
from fedmedlora_audit.chain import Author, Chain
from fedmedlora_audit.charter import CharterTerms, threshold_of
from fedmedlora_audit.cosignature import checkpoint_of, cosign, is_cosigned_after, with_cosignatures
from fedmedlora_audit.events import Object, Saw
from fedmedlora_audit.law import Session, waiting
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_audit.session import session_id, view_of
from fedmedlora_audit.trust import Trust
from fedmedlora_coordinator.ledger import Keys, Ledger
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import LogStore
from fedmedlora_site.mirror import Mirror

ORIGIN = "bench.example/audit"
SECONDS_PER_EVENT = 2
START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
ADAPTER = hashlib.sha256(b"adapter 0").hexdigest()


@dataclass
class Spent:
    """Seconds on the write path by part, and how many events each part took."""

    seconds: dict[str, float] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def on(self, part: str, events: Callable[[], int]) -> Iterator[None]:
        """Count the time until the block ends; `events` is asked afterwards."""
        start = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
        self.events[part] = self.events.get(part, 0) + events()

    def per_event(self, part: str) -> float:
        """Mean seconds of a part for one event."""
        return self.seconds[part] / self.events[part]


def _key(name: str, *, witness: bool = False) -> NoteSigner:
    seed = hashlib.sha256(f"bench key of {name}, witness: {witness}".encode()).digest()
    if witness:
        return NoteSigner.from_seed(name, seed, algorithm=ALG_COSIGNATURE)
    return NoteSigner.from_seed(name, seed)


def charter_of(rounds: int, sites: int) -> bytes:
    """Return the charter of a witnessed study with masks; `sites` >= 4."""
    colluding = (sites - 1) // 3
    ids = [f"site-{number:04d}" for number in range(1, sites + 1)]
    table: dict[str, Any] = {
        "study": {"id": "audit-bench"},
        "log": {
            "origin": ORIGIN,
            "log_vkey": _key(ORIGIN).vkey,
            "coordinator_vkey": _key("coordinator").vkey,
        },
        "members": [
            {"id": site, "event_vkey": _key(site).vkey, "witness_vkey": _key(site, witness=True).vkey}
            for site in ids
        ],
        "secure_aggregation": {
            "mode": "masks",
            "key_agreement": "hybrid",
            "colluding_sites": colluding,
            "threshold": threshold_of(sites, colluding),
            "min_sites": 3,
        },
        "training": {"rounds": rounds},
        "aggregation": {"weight_max": 100},
        "adapter": {"initial_digest": ADAPTER},
        "audit": {"quorum": True},
    }
    return rfc8785.dumps(table)


class StudyLog:
    """One study's log as it grows in a coordinator's folder, with one site that mirrors it.

    Args:
        folder: Empty folder for the ledger's database and the mirror's files.
        rounds: Rounds of the study; >= 1.
        sites: Members; >= 4.
    """

    def __init__(self, folder: Path, *, rounds: int, sites: int) -> None:
        """Open an empty log."""
        self.charter = charter_of(rounds, sites)
        self.terms = CharterTerms.from_json(self.charter)
        self.rounds, self.sites = rounds, self.terms.member_ids
        self.spent = Spent()
        self._store = LogStore(SqliteDatabase(folder / "log.db"), folder / "head")
        self.ledger = Ledger(
            terms=self.terms,
            store=self._store,
            keys=Keys(event=_key("coordinator"), log=_key(ORIGIN)),
            clock=self._now,
        )
        self.mirror = Mirror(folder / "mirror", self.terms, self.sites[0])
        self._authors = {site: Author(site, "site", _key(site), ORIGIN) for site in self.sites}
        self._chains = dict.fromkeys(self.sites, Chain())
        self._witnesses = {site: _key(site, witness=True) for site in self.sites}
        self._own: dict[int, bytes] = {}  # leaf of each event that the mirror's site signed
        self._heads: dict[int, bytes] = {}

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def _now(self) -> dt.datetime:
        return START + dt.timedelta(seconds=SECONDS_PER_EVENT * self.ledger.size)

    # -- one event

    def coordinate(self, type_: str, data: of.Data, **fields: Any) -> None:
        """Let the coordinator write one event."""
        with self.spent.on("coordinator", lambda: 1):
            self.ledger.write(type_, data, **fields)
        if is_cosigned_after(type_):
            self._mirror()
            self._cosign()

    def say(self, site: str, type_: str, data: of.Data, **fields: Any) -> None:
        """Let a site sign one event and the coordinator take it, with its receipt."""
        with self.spent.on("site_sign", lambda: 1):
            saw = Saw(size=self.ledger.size, root=self.ledger.state.tree.root().hex())
            note, chain = self._authors[site].draft(
                self._chains[site], type=type_, data=data, saw=saw, time=self._now(), **fields
            )
        self._chains[site] = chain
        if site == self.sites[0]:
            self._own[chain.seq] = leaf_hash(note)
        with self.spent.on("coordinator", lambda: 2):
            self.ledger.submit(site, note, lambda _: None)

    def _mirror(self) -> None:
        """Let the mirror take what the log has grown by, in the coordinator's batches."""
        while self.mirror.size < self.ledger.size:
            batch = self.ledger.batch(self.mirror.size)
            with self.spent.on("site_mirror", lambda notes=batch.notes: len(notes)):  # type: ignore[misc]
                self.mirror.extend(batch.start, batch.notes, batch.checkpoint, self._own.get)

    def _cosign(self) -> None:
        """Let every member cosign the head as it stands."""
        note = self.ledger.checkpoint()
        moment = int(self._now().timestamp())
        head = checkpoint_of(note)
        lines = [cosign(head, key, time=moment) for key in self._witnesses.values()]
        self._heads[head.size] = with_cosignatures(note, lines)

    # -- a study

    def play(self, on_round: Callable[[], None] = lambda: None) -> StudyLog:
        """Write a whole study; `on_round` is called after each round."""
        self._set_up()
        for number in range(1, self.rounds + 1):
            self._play_round(number)
            on_round()
        base = self.ledger.state.base
        self.coordinate("model.released", of.ModelReleased(adapter=base, rounds=self.rounds))
        self.coordinate("run.closed", of.RunClosed(rounds=self.rounds))
        return self

    def _set_up(self) -> None:
        terms = self.terms
        genesis = of.Genesis(
            charter=terms.digest,
            log_vkey=terms.log_vkey,
            coordinator_vkey=terms.coordinator_vkey,
            software="fedmedlora-bench",
        )
        self.coordinate("log.genesis", genesis)
        for site, keys in terms.members.items():
            enrolled = of.Enrolled(site=site, event_vkey=keys.event_vkey, witness_vkey=keys.witness_vkey)
            self.coordinate("site.enrolled", enrolled)
        for site in self.sites:
            self.say(site, "charter.signed", of.CharterSigned(charter=terms.digest))
        self.coordinate("run.opened", of.RunOpened(charter=terms.digest, base=terms.initial_adapter))

    def _play_round(self, number: int) -> None:
        state = self.ledger.state
        base = of.Base(base=state.base)
        self.coordinate("round.plan", base, round_number=number)
        plan = state.rounds[number].plan.leaf.hex()
        for site in self.sites:
            self.say(site, "plan.accepted", base, round=number, refs=[plan])
            self.say(site, "update.ready", of.UpdateReady(base=state.base), round=number, refs=[plan])
        self.coordinate("session.opened", self._opening(number), round_number=number)
        while (session := state.session) is not None:
            for site in waiting(state).expected:
                self._answer(session, site)
            self._step(session)

    def _opening(self, number: int) -> of.SessionOpened:
        terms, base = self.terms, self.ledger.state.base
        sid = session_id(
            origin=ORIGIN,
            charter=terms.digest,
            round_number=number,
            attempt=1,
            purpose="update",
            base=base,
            suite=terms.suite,
        )
        ready = tuple(sorted(self.sites))
        fields = {"sid": sid, "attempt": 1, "purpose": "update", "suite": terms.suite}
        return of.SessionOpened.model_validate({**fields, "base": base, "ready": ready})

    def _answer(self, session: Session, site: str) -> None:
        """Let a site answer the step that is awaited."""
        sid, view, u2, u3 = session.sid, session.view, session.h_u2, session.h_u3
        answers: dict[str, Callable[[], tuple[str, of.Data, str]]] = {
            "advertise": lambda: ("keys.advertised", of.InSession(sid=sid), "keys"),
            "share": lambda: ("shares.sent", of.SharesSent(sid=sid, view=view), "shares"),
            "upload": lambda: (
                "update.submitted",
                of.UpdateSubmitted(sid=sid, view=view, h_u2=u2),
                "masked-update",
            ),
            "survivors": lambda: (
                "survivors.agreed",
                of.SurvivorsAgreed(sid=sid, view=view, h_u2=u2, h_u3=u3),
                "",
            ),
            "unmask": lambda: (
                "unmask.response",
                of.UnmaskResponse(sid=sid, self_of=tuple(sorted(session.u3)), pair_of=()),
                "opened-shares",
            ),
            "aggregate": lambda: (
                "aggregate.accepted",
                of.AggregateAccepted(sid=sid, ring=session.ring, next_base=_digest("base", sid)),
                "",
            ),
        }
        type_, data, role = answers[session.step]()
        self.say(site, type_, data, round=session.round, objects=_objects(role, site, sid))

    def _step(self, session: Session) -> None:
        """Let the coordinator fix what the step's answers gave."""
        sid, view, number = session.sid, session.view, session.round
        if session.step == "advertise":
            u1 = _rows(session.advertised)
            data: of.Data = of.KeysBroadcast(sid=sid, view=view_of(sid, u1), u1=u1, left_out=())
            self.coordinate("keys.broadcast", data, round_number=number)
        elif session.step == "share":
            data = of.SharesFixed(sid=sid, view=view, u2=_rows(session.shares))
            self.coordinate("shares.fixed", data, round_number=number)
        elif session.step == "upload":
            data = of.SurvivorsFixed(sid=sid, view=view, u3=_rows(session.updates))
            self.coordinate("survivors.fixed", data, round_number=number)
        elif session.step == "survivors":
            signers = tuple(sorted(session.agreed))
            request = of.UnmaskRequest(
                sid=sid, signers=signers, self_of=tuple(sorted(session.u3)), pair_of=()
            )
            refs = [session.agreed[site] for site in signers]
            self.coordinate("unmask.request", request, round_number=number, refs=refs)
        elif session.step == "unmask":
            data = of.AggregatePublished(
                sid=sid,
                inputs=_rows(session.u3),
                weight_sum=10 * len(session.u3),
                delta=_digest("delta", sid),
                next_base=_digest("base", sid),
            )
            blob = _objects("ring-sum", "coordinator", sid)
            self.coordinate("aggregate.published", data, round_number=number, objects=blob)
        else:
            accepted = tuple(sorted(session.accepted))
            data = of.RoundClosed(sid=sid, next_base=_digest("base", sid), accepted=accepted)
            self.coordinate("round.closed", data, round_number=number)

    # -- what the auditor gets

    @property
    def trust(self) -> Trust:
        """The auditor's trust file, as a member would hand it out."""
        return Trust.from_terms(self.terms, genesis=self.ledger.entries[0].leaf)

    def write_bundle(self, folder: Path) -> None:
        """Export the log with every cosigned head."""
        newest = max(self._heads)
        write_bundle(
            folder,
            charter=self.charter,
            entries=self.ledger.entries,
            checkpoint=self._heads[newest],
            signer=_key("coordinator"),
            extra={f"heads/{size}": note for size, note in self._heads.items() if size != newest},
        )


def _digest(*parts: str) -> str:
    """A digest that stands for a payload."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _objects(role: str, author: str, sid: str) -> list[Object]:
    if not role:
        return []
    return [Object.model_validate({"role": role, "digest": _digest(role, author, sid), "bytes": 1000})]


def _rows(digests: dict[str, str]) -> tuple[of.IdDigest, ...]:
    return tuple(of.IdDigest(id=site, digest=digest) for site, digest in sorted(digests.items()))
