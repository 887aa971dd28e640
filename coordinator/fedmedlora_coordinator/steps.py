"""What the coordinator says at each step: pure functions from the log's state to a draft (PROTOCOL §5.3).

Nothing is decided here and nothing is written; given the same log, a restarted coordinator drafts the same
words.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import (
    AggregatePublished,
    Base,
    Data,
    DeliveryFailed,
    Enrolled,
    Genesis,
    IdDigest,
    KeysBroadcast,
    LeftOut,
    ModelReleased,
    RolledBack,
    RoundClosed,
    RunClosed,
    RunOpened,
    SessionOpened,
    SharesFixed,
    SurvivorsFixed,
    UnmaskRequest,
    VotesCounted,
)
from fedmedlora_audit.events import Object
from fedmedlora_audit.law import Round, Session, State
from fedmedlora_audit.law.duties import ASKED, answered
from fedmedlora_audit.law.state import COUNTS
from fedmedlora_audit.law.validation_rules import chosen_round
from fedmedlora_audit.session import session_id, view_of
from fedmedlora_audit.validation_data import ValidationCounted
from fedmedlora_coordinator.errors import StateError
from fedmedlora_coordinator.model import Step


@dataclass(frozen=True)
class Draft:
    """An event of the coordinator before it is numbered and signed."""

    type: str
    data: Data
    round: int | None = None
    refs: tuple[str, ...] = ()
    objects: tuple[Object, ...] = ()
    reason: str | None = None


def open_round(state: State) -> Round:
    """Return the open round; asking without one is our mistake."""
    if state.round is None:
        raise StateError("no round is open")
    return state.round


def live_session(state: State) -> Session:
    """Return the live session; asking without one is our mistake."""
    if state.session is None:
        raise StateError("no session is open")
    return state.session


def summed_session(state: State) -> Session:
    """Return the open round's session of updates; asking before it was summed is our mistake."""
    session = open_round(state).summed
    if session is None:
        raise StateError("the round has no aggregate")
    return session


def published(state: State) -> AggregatePublished:
    """Return what the open round published; asking before is our mistake."""
    found = summed_session(state).published
    if found is None:
        raise StateError("the round has no aggregate")
    return found


def preamble(terms: CharterTerms, software: str) -> list[Draft]:
    """Return the first entries of a log: the genesis, then each member with its keys."""
    genesis = Genesis(
        charter=terms.digest,
        log_vkey=terms.log_vkey,
        coordinator_vkey=terms.coordinator_vkey,
        software=software,
    )
    members = [
        Enrolled(site=site, event_vkey=keys.event_vkey, witness_vkey=keys.witness_vkey)
        for site, keys in terms.members.items()
    ]
    return [Draft("log.genesis", genesis), *(Draft("site.enrolled", member) for member in members)]


def run_opened(state: State) -> Draft:
    """Open the run from the charter's adapter."""
    return Draft("run.opened", RunOpened(charter=state.terms.digest, base=state.terms.initial_adapter))


def plan(state: State) -> Draft:
    """Plan the next round from the last accepted adapter."""
    return Draft("round.plan", Base(base=state.base), len(state.rounds) + 1)


def session_opened(state: State, ready: Iterable[str]) -> Draft:
    """Open the next attempt of the round's sum over the given sites."""
    return _opening(state, ready, purpose="update", base=open_round(state).base)


def vote_opened(state: State, ready: Iterable[str]) -> Draft:
    """Open the next attempt of the vote on the published adapter over the given sites (PROTOCOL §4.7)."""
    return _opening(state, ready, purpose="score", base=published(state).next_base)


def counts_opened(state: State, ready: Iterable[str]) -> Draft:
    """Open the next attempt of the validation counts of the published adapter (PROTOCOL §4.15)."""
    return _opening(state, ready, purpose=COUNTS, base=published(state).next_base)


def _opening(state: State, ready: Iterable[str], *, purpose: str, base: str) -> Draft:
    current, terms = open_round(state), state.terms
    attempt = current.attempts(purpose) + 1
    sid = session_id(
        origin=terms.origin,
        charter=terms.digest,
        round_number=current.number,
        attempt=attempt,
        purpose=purpose,
        base=base,
        suite=terms.suite,
    )
    data = SessionOpened.model_validate(
        {
            "sid": sid,
            "attempt": attempt,
            "purpose": purpose,
            "suite": terms.suite,
            "base": base,
            "ready": tuple(sorted(ready)),
        }
    )
    return Draft("session.opened", data, current.number)


def keys_broadcast(state: State, admitted: Iterable[str], refused: Mapping[str, str]) -> Draft:
    """Fix U1: the sites whose keys may be used; every other one is named with the reason."""
    session = live_session(state)
    inside = {site for site in admitted if not session.is_out(site)}
    u1 = _rows({site: session.advertised[site] for site in inside})
    left_out = tuple(
        LeftOut.model_validate({"id": site, "reason": _left_out_reason(session, site, refused)})
        for site in sorted(set(session.ready) - inside)
    )
    data = KeysBroadcast(sid=session.sid, view=view_of(session.sid, u1), u1=u1, left_out=left_out)
    return Draft("keys.broadcast", data, session.round)


def shares_fixed(state: State) -> Draft:
    """Fix U2: the sites that dealt shares and have not left since."""
    session = live_session(state)
    u2 = _rows({site: digest for site, digest in session.shares.items() if not session.is_out(site)})
    return Draft("shares.fixed", SharesFixed(sid=session.sid, view=session.view, u2=u2), session.round)


def survivors_fixed(state: State) -> Draft:
    """Fix U3: every upload counts, but those of sites that took theirs back by a refusal."""
    session = live_session(state)
    u3 = _rows({site: digest for site, digest in session.updates.items() if site not in session.refused})
    data = SurvivorsFixed(sid=session.sid, view=session.view, u3=u3)
    return Draft("survivors.fixed", data, session.round)


def unmask_request(state: State) -> Draft:
    """Ask those who consented for one share of each site, showing their consents."""
    session = live_session(state)
    signers = tuple(sorted(site for site in session.agreed if not session.is_out(site)))
    data = UnmaskRequest(
        sid=session.sid,
        signers=signers,
        self_of=tuple(sorted(session.u3)),
        pair_of=tuple(sorted(set(session.u2) - set(session.u3))),
    )
    refs = tuple(session.agreed[site] for site in signers)
    return Draft("unmask.request", data, session.round, refs)


def aggregate_published(state: State, step: Step, *, ring: str, ring_bytes: int) -> Draft:
    """Publish the ring sum with what it decodes to."""
    session = live_session(state)
    data = AggregatePublished(
        sid=session.sid,
        inputs=_rows(session.u3),
        weight_sum=step.weight_sum,
        delta=step.delta,
        next_base=step.next_base,
        state_before=step.state_before,
        state=step.state_digest,
    )
    item = Object(role="ring-sum", digest=ring, bytes=ring_bytes)
    return Draft("aggregate.published", data, session.round, objects=(item,))


def round_closed(state: State) -> Draft:
    """Close the round on the accepted aggregate."""
    session = summed_session(state)
    data = RoundClosed(
        sid=session.sid,
        next_base=published(state).next_base,
        accepted=tuple(sorted(session.accepted)),
    )
    return Draft("round.closed", data, session.round)


def votes_counted(state: State, against: int) -> Draft:
    """Publish how many voters found the new adapter worse; nothing else of the opened votes."""
    session = live_session(state)
    data = VotesCounted(sid=session.sid, voters=len(session.u3), against=against)
    return Draft("votes.counted", data, session.round)


def validation_counted(state: State, data: ValidationCounted) -> Draft:
    """Publish the summed counts."""
    return Draft("validation.counted", data, live_session(state).round)


def round_rolled_back(state: State) -> Draft:
    """End the round as its vote says: the base stays."""
    current, session = open_round(state), live_session(state)
    return Draft("round.rolled_back", RolledBack(sid=session.sid, base=current.base), current.number)


def round_aborted(state: State, reason: str) -> Draft:
    """Give the round up; the base stays."""
    current = open_round(state)
    return Draft("round.aborted", Base(base=current.base), current.number, reason=reason)


def deliveries_failed(state: State, step: str) -> list[Draft]:
    """Name each site that was asked at a step and neither answered nor refused."""
    current = open_round(state)
    asked = state.remaining if step == "train" else tuple(ASKED[step][0](live_session(state)))
    silent = sorted(set(asked) - answered(state, step))
    return [
        Draft(
            "delivery.failed",
            DeliveryFailed.model_validate({"site": site, "step": step}),
            current.number,
        )
        for site in silent
        if (site, step) not in current.failed
    ]


def model_released(state: State) -> Draft:
    """Release the adapter that the closed rounds led to, or that of the round that the counts choose."""
    chosen, rounds = chosen_round(state), len(state.closed_rounds)
    if chosen is None:
        return Draft("model.released", ModelReleased(adapter=state.base, rounds=rounds))
    data = ModelReleased(adapter=chosen.next_base, round=chosen.round, rounds=rounds)
    return Draft("model.released", data)


def run_closed(state: State) -> Draft:
    """End the run."""
    return Draft("run.closed", RunClosed(rounds=len(state.closed_rounds)))


def _rows(digests: Mapping[str, str]) -> tuple[IdDigest, ...]:
    return tuple(IdDigest(id=site, digest=digests[site]) for site in sorted(digests))


def _left_out_reason(session: Session, site: str, refused: Mapping[str, str]) -> str:
    if site not in session.advertised or session.is_out(site):
        return "silent"
    return refused[site]
