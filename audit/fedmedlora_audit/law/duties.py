"""Who is to speak next: what a site owes, and whom the coordinator waits for.

There is no directive message in the protocol: a site reads the log and acts on `duties`, the coordinator
reads it and acts on `waiting`. Both are functions of the state alone: a killed party goes on where it stood.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fedmedlora_audit.law.rule import STEPS
from fedmedlora_audit.law.state import Round, Session, State

WAITING_STEPS: Final = ("charter", "idle", "train", *STEPS, "closed")
"""Every step that a coordinator can wait in; idle when no round is open."""


@dataclass(frozen=True, slots=True)
class Duty:
    """What a site owes.

    Attributes:
        step: sign, plan, train, advertise, share, upload, survivors, unmask, aggregate, count, tally, erase.
        round: Number of the round; None for sign.
        sid: The session; None before one is opened.
        answers: Indexes of the entries that the site's event answers.
    """

    step: str
    round: int | None
    sid: str | None
    answers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whom the coordinator waits for.

    Attributes:
        step: One of `WAITING_STEPS`.
        round: Number of the open round, or None.
        sid: The live session, or None.
        expected: Ids of the sites that have answered or still can; not of those that refused or erased.
        arrived: Ids of the expected sites that have answered.
        threshold: How many answers the step needs to go on.
    """

    step: str
    round: int | None
    sid: str | None
    expected: tuple[str, ...]
    arrived: tuple[str, ...]
    threshold: int

    @property
    def complete(self) -> bool:
        """Whether nobody is left to wait for."""
        return len(self.arrived) == len(self.expected)

    @property
    def enough(self) -> bool:
        """Whether the step can go on without those still missing."""
        return len(self.arrived) >= self.threshold


_Asked = tuple[Callable[[Session], Iterable[str]], Callable[[Session], Iterable[str]], str]

ASKED: Final[Mapping[str, _Asked]] = {
    # step: (who is asked, who has answered, index of the question)
    "advertise": (lambda s: s.ready, lambda s: s.advertised, "opened_index"),
    "share": (lambda s: s.u1, lambda s: s.shares, "u1_index"),
    "upload": (lambda s: s.u2, lambda s: s.updates, "u2_index"),
    "survivors": (lambda s: s.u3, lambda s: s.agreed, "u3_index"),
    "unmask": (lambda s: s.request.signers if s.request else (), lambda s: s.responses, "request_index"),
    "aggregate": (lambda s: s.u3, lambda s: s.accepted, "published_index"),
    "count": (lambda s: s.u3, lambda s: s.accepted, "counted_index"),
    "tally": (lambda s: s.u3, lambda s: s.accepted, "tallied_index"),
}


def duties(state: State, site: str) -> Duty | None:
    """Return what a site owes now, or None. Erasing comes first: it frees the site for the next session."""
    if site in state.book.left:
        return None
    if not state.run_opened:
        ready = len(state.enrolled) == state.terms.n and site in state.terms.members.keys() - state.signed
        return Duty("sign", None, None, (state.enrolled[site],)) if ready else None
    owed = _to_erase(state, site)
    if owed is not None:
        return Duty("erase", owed.round, owed.sid, (owed.opened_index,))
    current = state.round
    if current is None or state.run_closed:
        return None
    if not current.sessions:
        return _before_the_session(current, site)
    return _in_the_session(current.sessions[-1], site)


def waiting(state: State) -> Waiting:
    """Return whom the coordinator waits for."""
    terms, current = state.terms, state.round
    if not state.run_opened:
        expected = terms.member_ids
        arrived = tuple(site for site in expected if site in state.signed)
        return Waiting("charter", None, None, expected, arrived, terms.n)
    if current is None:
        return Waiting("closed" if state.run_closed else "idle", None, None, (), (), 0)
    if not current.sessions:
        expected = tuple(s for s in state.remaining if s in current.ready or s not in current.refused)
        arrived = tuple(site for site in expected if site in current.ready)
        return Waiting("train", current.number, None, expected, arrived, terms.threshold)
    session = current.sessions[-1]
    asked, given, _ = ASKED[session.step]
    answers = set(given(session))
    expected = tuple(site for site in asked(session) if site in answers or _can_answer(session, site))
    arrived = tuple(site for site in expected if site in answers)
    return Waiting(session.step, current.number, session.sid, expected, arrived, terms.threshold)


def answered(state: State, step: str) -> frozenset[str]:
    """Return who has answered a step of the open round (refusals are answers too)."""
    current, session = state.round, state.session
    if current is None:
        return frozenset()
    if step in ("plan", "train"):
        given = current.accepted if step == "plan" else current.ready
        return frozenset(given) | frozenset(s for s, refused in current.refused.items() if refused == step)
    if session is None or step not in ASKED:
        return frozenset()
    refused_here = frozenset(s for s, refused in session.refused.items() if refused == step)
    return frozenset(ASKED[step][1](session)) | refused_here


def _can_answer(session: Session, site: str) -> bool:
    """Say whether a site can still answer the session's step (accepting needs no secrets)."""
    if session.is_told:
        return session.refused.get(site) != session.step
    return not session.is_out(site)


def _to_erase(state: State, site: str) -> Session | None:
    live = state.session
    for sid in sorted(state.unspent.get(site, ()), key=lambda sid: state.sids[sid].opened_index):
        session = state.sids[sid]
        if session is not live or session.is_told:
            return session
    return None


def _before_the_session(current: Round, site: str) -> Duty | None:
    if site in current.refused or site in current.ready:
        return None
    step = "train" if site in current.accepted else "plan"
    return Duty(step, current.number, None, (current.plan.index,))


def _in_the_session(session: Session, site: str) -> Duty | None:
    asked, given, question = ASKED[session.step]
    if site not in asked(session) or site in given(session) or not _can_answer(session, site):
        return None
    return Duty(session.step, session.round, session.sid, (getattr(session, question),))
