"""A whole federation's log without a network: every party signs its own events, the law judges each.

`StudyLog.play()` is a lawful run; `say` adds one event and lets the law judge it; `force` adds one that the
law would refuse, which is how attacks on the auditor are built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rfc8785

from fedmedlora_audit import event_data as of
from fedmedlora_audit.chain import Author, Chain
from fedmedlora_audit.charter import CharterTerms, threshold_of
from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.events import Entry, Object, Saw, entry_of, parse_event
from fedmedlora_audit.law import Session, State, apply, check, fold, waiting
from fedmedlora_audit.merkle import Tree, leaf_hash
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_audit.session import session_id, view_of
from fedmedlora_testkit.audit_charges import charge_of

ORIGIN = "test.example/study-1"
START = hashlib.sha256(b"adapter 0").hexdigest()


def digest_of(*parts: object) -> str:
    """A digest that stands for a blob."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def seed_of(name: str) -> bytes:
    return hashlib.sha256(b"test seed " + name.encode()).digest()


def witness_of(site: str) -> NoteSigner:
    """The witness key of a member."""
    return NoteSigner.from_seed(site, seed_of(site + "/w"), algorithm=ALG_COSIGNATURE)


def charter_table(n: int = 4, **changes: Any) -> dict[str, Any]:
    """A charter's table; `changes` replaces whole sections."""
    ids = [f"site-{chr(ord('a') + place)}" for place in range(n)]
    c = n // 3
    members = [
        {
            "id": site,
            "event_vkey": NoteSigner.from_seed(site, seed_of(site)).vkey,
            "witness_vkey": witness_of(site).vkey,
        }
        for site in ids
    ]
    return {
        "study": {"id": "study-1"},
        "log": {
            "origin": ORIGIN,
            "log_vkey": NoteSigner.from_seed(ORIGIN, seed_of("log")).vkey,
            "coordinator_vkey": NoteSigner.from_seed("coordinator", seed_of("coordinator")).vkey,
        },
        "members": members,
        "secure_aggregation": {
            "mode": "masks",
            "key_agreement": "hybrid",
            "colluding_sites": c,
            "threshold": threshold_of(n, c),
            "min_sites": 3,
        },
        "training": {"rounds": 3},
        "aggregation": {"weight_max": 100},
        "adapter": {"initial_digest": START},
        **changes,
    }


class StudyLog:
    """The log of one study, and the keys of everybody in it."""

    def __init__(self, n: int = 4, **changes: Any) -> None:
        self.charter: bytes = rfc8785.dumps(charter_table(n, **changes))
        self.terms = CharterTerms.from_json(self.charter)
        self.sites = self.terms.member_ids
        self.log_signer = NoteSigner.from_seed(ORIGIN, seed_of("log"))
        self.authors = {site: self._author(site, "site") for site in self.sites}
        self.authors["coordinator"] = self._author("coordinator", "coordinator")
        self.state = State.begin(self.terms)
        self.chains: dict[str, Chain] = {}
        self.tree = Tree()
        self.entries: list[Entry] = []
        self.minute = 0

    @staticmethod
    def _author(name: str, role: Any) -> Author:
        return Author(name, role, NoteSigner.from_seed(name, seed_of(name)), ORIGIN)

    # -- one event

    def head(self) -> Saw:
        return Saw(size=self.tree.size, root=self.tree.root().hex())

    def checkpoint(self) -> bytes:
        return self.head_note(self.tree.size)

    def head_note(self, size: int) -> bytes:
        return sign_checkpoint(Checkpoint(ORIGIN, size, self.tree.root(size)), self.log_signer)

    def draft(self, actor: str, type_: str, data: of.Data, **fields: Any) -> bytes:
        """Sign the actor's next event without adding it; fields may override what is filled in."""
        author = fields.pop("author", None) or self.authors[actor]
        chain = fields.pop("chain", self.chains.get(actor, Chain()))
        fields.setdefault("saw", self.head())
        fields.setdefault("time", f"2026-03-01T{self.minute // 60 % 24:02d}:{self.minute % 60:02d}:00Z")
        note: bytes
        note, _ = author.draft(chain, type=type_, data=data, **fields)
        return note

    def judge(self, note: bytes) -> None:
        """Let the law judge a note as the next entry, changing nothing."""
        parsed = parse_event(note)
        check(self.state, parsed.verify(self.state.key_of(parsed.event.actor)), leaf_hash(note))

    def add(self, note: bytes, *, lawful: bool = True, receipt: bool = True) -> Entry:
        """Add a note; the law judges it unless told not to, and a site's event gets its receipt."""
        event = parse_event(note).event
        entry = entry_of(self.tree.size, note, event)
        if lawful:
            parsed = parse_event(note)
            parsed.verify(self.state.key_of(parsed.event.actor))
            apply(self.state, entry)
        self.tree.append(entry.leaf)
        self.entries.append(entry)
        self.chains[event.actor.id] = Chain(event.seq, entry.leaf.hex())
        self.minute += 1
        if event.actor.role == "site" and receipt:
            data = of.Receipt(site=event.actor.id, seq=event.seq, type=event.type)
            fields = {"round": event.round} if event.round is not None else {}
            note = self.draft("coordinator", "receipt", data, refs=[entry.leaf.hex()], **fields)
            self.add(note, lawful=lawful)
        return entry

    def say(self, actor: str, type_: str, data: of.Data, **fields: Any) -> Entry:
        """Add one lawful event (and its receipt)."""
        return self.add(self.draft(actor, type_, data, **fields))

    def force(self, actor: str, type_: str, data: of.Data, **fields: Any) -> Entry:
        """Add one event that the law refuses; the state takes it all the same."""
        note = self.draft(actor, type_, data, **fields)
        entry = entry_of(self.tree.size, note, parse_event(note).event)
        fold(self.state, entry)
        self.tree.append(entry.leaf)
        self.entries.append(entry)
        self.chains[actor] = Chain(entry.event.seq, entry.leaf.hex())
        self.minute += 1
        if entry.event.actor.role == "site":
            data = of.Receipt(site=actor, seq=entry.event.seq, type=type_)
            self.say("coordinator", "receipt", data, refs=[entry.leaf.hex()], round=entry.event.round)
        return entry

    # -- the parts of a run

    def set_up(self) -> StudyLog:
        terms = self.terms
        data: of.Data = of.Genesis(
            charter=terms.digest,
            log_vkey=terms.log_vkey,
            coordinator_vkey=terms.coordinator_vkey,
            software="fedmedlora-0.1.0",
        )
        self.say("coordinator", "log.genesis", data)
        for site, keys in terms.members.items():
            data = of.Enrolled(site=site, event_vkey=keys.event_vkey, witness_vkey=keys.witness_vkey)
            self.say("coordinator", "site.enrolled", data)
        for site in self.sites:
            self.say(site, "charter.signed", of.CharterSigned(charter=terms.digest))
        data = of.RunOpened(charter=terms.digest, base=terms.initial_adapter)
        self.say("coordinator", "run.opened", data)
        return self

    @property
    def number(self) -> int:
        return len(self.state.rounds)

    @property
    def session(self) -> Session:
        session = self.state.session
        assert session is not None
        return session

    def plan(self) -> Entry:
        return self.say("coordinator", "round.plan", of.Base(base=self.state.base), round=self.number + 1)

    def accept_plan(self, site: str) -> Entry:
        plan = self.state.rounds[self.number].plan.leaf.hex()
        return self.say(site, "plan.accepted", of.Base(base=self.state.base), round=self.number, refs=[plan])

    def charge(self, site: str, **changes: Any) -> Entry:
        """Let a site say what its training costs, with lies if any."""
        return self.say(site, "dp.spent", charge_of(self.state, site, **changes), round=self.number)

    def ready(self, site: str) -> Entry:
        """Let a site train; in a private study it charges the training first, unless it did."""
        if self.terms.privacy is not None and site not in self.state.rounds[self.number].charged:
            self.charge(site)
        return self.ready_uncharged(site)

    def ready_uncharged(self, site: str) -> Entry:
        plan = self.state.rounds[self.number].plan.leaf.hex()
        data = of.UpdateReady(base=self.state.base, graph=self.commitment(site))
        return self.say(site, "update.ready", data, round=self.number, refs=[plan])

    def commitment(self, site: str) -> str | None:
        """What a site commits to for this round's graph, if the charter has one."""
        return None if self.terms.graph is None else digest_of("graph", site, self.number)

    def open_session(self, ready: Iterable[str] | None = None, **changes: Any) -> Entry:
        return self.say("coordinator", "session.opened", self.opening(ready, **changes), round=self.number)

    def opening(self, ready: Iterable[str] | None = None, **changes: Any) -> of.SessionOpened:
        terms = self.terms
        current = self.state.rounds[self.number]
        fields: dict[str, Any] = {
            "attempt": current.attempts(changes.get("purpose", "update")) + 1,
            "purpose": "update",
            "suite": terms.suite,
            "base": current.base,
            "ready": tuple(sorted(current.ready if ready is None else ready)),
            **changes,
        }
        sid = session_id(
            origin=ORIGIN,
            charter=terms.digest,
            round_number=self.number,
            attempt=fields["attempt"],
            purpose=fields["purpose"],
            base=fields["base"],
            suite=fields["suite"],
        )
        return of.SessionOpened(**{"sid": sid, **fields})

    def advertise(self, site: str) -> Entry:
        return self.say(
            site, "keys.advertised", of.InSession(sid=self.session.sid), **self.blob(site, "keys")
        )

    def blob(self, site: str, role: str) -> dict[str, Any]:
        digest = digest_of(role, site, self.session.sid)
        item = Object(role=role, digest=digest, bytes=1000)  # type: ignore[arg-type]
        return {"round": self.number, "objects": [item]}

    def rows(self, logged: Mapping[str, str], without: Sequence[str] = ()) -> tuple[of.IdDigest, ...]:
        return tuple(of.IdDigest(id=i, digest=d) for i, d in sorted(logged.items()) if i not in without)

    def u1_data(self, **changes: Any) -> of.KeysBroadcast:
        session = self.session
        u1 = changes.pop("u1", self.rows(session.advertised))
        silent = sorted(set(session.ready) - {row.id for row in u1})
        fields = {
            "sid": session.sid,
            "view": view_of(session.sid, u1),
            "u1": u1,
            "left_out": tuple(of.LeftOut(id=site, reason="silent") for site in silent),
        }
        return of.KeysBroadcast(**{**fields, **changes})

    def share(self, site: str) -> Entry:
        data = of.SharesSent(sid=self.session.sid, view=self.session.view)
        return self.say(site, "shares.sent", data, **self.blob(site, "shares"))

    def u2_data(self, **changes: Any) -> of.SharesFixed:
        session = self.session
        fields = {"sid": session.sid, "view": session.view, "u2": self.rows(session.shares)}
        return of.SharesFixed(**{**fields, **changes})

    def update_data(self, **changes: Any) -> of.UpdateSubmitted:
        session = self.session
        return of.UpdateSubmitted(
            **{"sid": session.sid, "view": session.view, "h_u2": session.h_u2, **changes}
        )

    def upload(self, site: str) -> Entry:
        return self.say(site, "update.submitted", self.update_data(), **self.blob(site, "masked-update"))

    def u3_data(self, **changes: Any) -> of.SurvivorsFixed:
        session = self.session
        fields = {"sid": session.sid, "view": session.view, "u3": self.rows(session.updates)}
        return of.SurvivorsFixed(**{**fields, **changes})

    def consent_data(self, **changes: Any) -> of.SurvivorsAgreed:
        session = self.session
        fields = {"sid": session.sid, "view": session.view, "h_u2": session.h_u2, "h_u3": session.h_u3}
        return of.SurvivorsAgreed(**{**fields, **changes})

    def agree(self, site: str) -> Entry:
        return self.say(site, "survivors.agreed", self.consent_data(), round=self.number)

    def request_fields(self, **changes: Any) -> dict[str, Any]:
        session = self.session
        signers = tuple(sorted(changes.pop("signers", session.agreed)))
        fields = {
            "sid": session.sid,
            "signers": signers,
            "self_of": tuple(sorted(session.u3)),
            "pair_of": tuple(sorted(set(session.u2) - set(session.u3))),
        }
        refs = changes.pop("refs", [session.agreed.get(site, digest_of(site)) for site in signers])
        return {"data": of.UnmaskRequest(**{**fields, **changes}), "refs": refs, "round": self.number}

    def response_data(self, **changes: Any) -> of.UnmaskResponse:
        request = self.session.request
        assert request is not None
        fields = {"sid": request.sid, "self_of": request.self_of, "pair_of": request.pair_of}
        return of.UnmaskResponse(**{**fields, **changes})

    def respond(self, site: str) -> Entry:
        return self.say(site, "unmask.response", self.response_data(), **self.blob(site, "opened-shares"))

    def published_data(self, **changes: Any) -> of.AggregatePublished:
        session = self.session
        fields = {
            "sid": session.sid,
            "inputs": self.rows(session.u3),
            "weight_sum": 10 * len(session.u3),
            "delta": digest_of("delta", session.sid),
            "next_base": digest_of("base", session.sid),
            "state_before": self.state.optimiser,
            "state": digest_of("state", session.sid) if self.terms.initial_state else None,
        }
        return of.AggregatePublished(**{**fields, **changes})

    def accept(self, site: str) -> Entry:
        return self.say(site, "aggregate.accepted", self.accepted_data(), round=self.number)

    def accepted_data(self, **changes: Any) -> of.AggregateAccepted:
        session = self.session
        assert session.published is not None
        published = session.published
        fields = {
            "sid": session.sid,
            "ring": session.ring,
            "next_base": published.next_base,
            "state": published.state,
        }
        return of.AggregateAccepted(**{**fields, **changes})

    def closed_data(self, **changes: Any) -> of.RoundClosed:
        session = self.session
        fields = {
            "sid": session.sid,
            "next_base": digest_of("base", session.sid),
            "accepted": tuple(sorted(session.accepted)),
        }
        return of.RoundClosed(**{**fields, **changes})

    def coordinate(self) -> Entry:
        """Add the coordinator's next event of the live session, as the step asks."""
        session, number = self.session, self.number
        if session.step == "advertise":
            return self.say("coordinator", "keys.broadcast", self.u1_data(), round=number)
        if session.step == "share":
            return self.say("coordinator", "shares.fixed", self.u2_data(), round=number)
        if session.step == "upload":
            return self.say("coordinator", "survivors.fixed", self.u3_data(), round=number)
        if session.step == "survivors":
            fields = self.request_fields()
            return self.say("coordinator", "unmask.request", fields.pop("data"), **fields)
        if session.step == "unmask":
            blob = self.blob("coordinator", "ring-sum")
            return self.say("coordinator", "aggregate.published", self.published_data(), **blob)
        for site in session.u3:
            if site not in session.accepted:
                data = of.DeliveryFailed(site=site, step="aggregate")
                self.say("coordinator", "delivery.failed", data, round=number)
        return self.say("coordinator", "round.closed", self.closed_data(), round=number)

    def answer(self, step: str, site: str) -> Entry:
        """Add a site's answer to a step."""
        acts = {
            "advertise": self.advertise,
            "share": self.share,
            "upload": self.upload,
            "survivors": self.agree,
            "unmask": self.respond,
            "aggregate": self.accept,
        }
        return acts[step](site)

    def erase(self, site: str, sid: str) -> Entry:
        number = self.state.sids[sid].round
        return self.say(site, "attempt.erased", of.InSession(sid=sid), round=number)

    def refuse(self, site: str, step: str, reason: str, **fields: Any) -> Entry:
        sid = fields.pop("sid", self.state.session.sid if self.state.session else None)
        data = of.StepRefused(step=step, reason=reason, sid=sid)  # type: ignore[arg-type]
        return self.say(site, "step.refused", data, **fields)

    def to_step(self, step: str, drop: Mapping[str, Iterable[str]] | None = None) -> StudyLog:
        """Play until `step`'s answers are awaited; `drop` maps a step to sites gone from it."""
        gone: set[str] = set((drop or {}).get("train", ()))
        for site in self.sites:
            for sid in sorted(self.state.unspent.get(site, ())):
                self.erase(site, sid)
        self.plan()
        for site in self.sites:
            if site not in gone:
                self.accept_plan(site)
                self.ready(site)
        self.open_session()
        while self.session.step != step:
            self.answer_all(gone, drop)
            self.coordinate()
        return self

    def answer_all(self, gone: set[str], drop: Mapping[str, Iterable[str]] | None = None) -> None:
        """Let everybody who is awaited and not gone answer the live step."""
        awaited = waiting(self.state)
        gone |= set((drop or {}).get(awaited.step, ()))
        for site in awaited.expected:
            if site not in gone and site not in awaited.arrived:
                self.answer(awaited.step, site)

    def play_round(self, drop: Mapping[str, Iterable[str]] | None = None) -> StudyLog:
        """Play one whole round."""
        self.to_step("aggregate", drop)
        self.answer_all({site for sites in (drop or {}).values() for site in sites}, drop)
        self.coordinate()
        return self

    def abort(self, reason: str = "below_threshold") -> Entry:
        base = of.Base(base=self.state.base)
        return self.say("coordinator", "round.aborted", base, round=self.number, reason=reason)

    def finish(self) -> StudyLog:
        """Release the model and close the run."""
        count = len(self.state.closed_rounds)
        released = of.ModelReleased(adapter=self.state.base, rounds=count)
        self.say("coordinator", "model.released", released)
        self.say("coordinator", "run.closed", of.RunClosed(rounds=count))
        return self

    def play(self, rounds: int = 2, drop: Mapping[str, Iterable[str]] | None = None) -> StudyLog:
        """Play a whole run; the drop-outs are in the second round."""
        self.set_up()
        for number in range(1, rounds + 1):
            self.play_round(drop if number == 2 else None)
        return self.finish()
