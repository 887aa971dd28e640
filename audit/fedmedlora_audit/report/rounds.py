"""Part 4 of the report: rounds, from the state that the law folded (AUDIT "Report")."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from fedmedlora_audit.event_data import DpSpent
from fedmedlora_audit.events import Entry
from fedmedlora_audit.law import Session, State
from fedmedlora_audit.law.state import Round
from fedmedlora_audit.law.validation_rules import counts_of, score
from fedmedlora_audit.report.model import Missing, RoundRow

_SINCE: Final = {
    "plan": "did not accept the plan",
    "train": "had no update ready",
    "ready": "was ready too late",
    "advertise": "gave no keys",
    "share": "gave no shares of its secrets",
    "upload": "uploaded nothing in time",
}
OUTCOMES: Final = {
    "closed": "closed",
    "aborted": "aborted",
    "rolled_back": "rolled back by vote",
    None: "not finished",
}


def round_rows(state: State, entries: Sequence[Entry]) -> tuple[RoundRow, ...]:
    """Return one row a round.

    Args:
        state: Where the log leads.
        entries: Its entries, for what the state does not keep.
    """
    spent = _spent(state, entries)
    return tuple(_row(state, current, spent.get(number)) for number, current in state.rounds.items())


def _spent(state: State, entries: Sequence[Entry]) -> dict[int, int]:
    """Return the largest cumulative epsilon of any site by round, in thousandths; empty without a budget."""
    if state.terms.privacy is None:
        return {}
    charged: dict[int, int] = {}
    for entry in entries:
        number, data = entry.event.round, entry.event.data
        if isinstance(data, DpSpent) and number is not None:
            charged[number] = max(charged.get(number, 0), data.epsilon_milli)
    figures = accumulate((charged.get(number, 0) for number in state.rounds), max)
    return dict(zip(state.rounds, figures, strict=True))


def _row(state: State, current: Round, epsilon_milli: int | None) -> RoundRow:
    updates = [session for session in current.sessions if session.purpose == "update"]
    session = current.summed or (updates[-1] if updates else None)
    vote = current.vote
    counted = vote.counted if vote is not None else None
    sums = counts_of(state, current.number)
    request = session.request if session is not None else None
    published = session.published if session is not None else None
    closed = {done.round: done.next_base for done in state.closed_rounds}
    return RoundRow(
        round=current.number,
        outcome=OUTCOMES.get(current.outcome, str(current.outcome)),
        attempts=len(updates),
        members=tuple(sorted(session.u3)) if session is not None else (),
        missing=_missing(state, current, session),
        threshold=state.terms.threshold,
        self_of=request.self_of if request is not None else (),
        pair_of=request.pair_of if request is not None else (),
        opened_by=tuple(sorted(session.responses)) if session is not None else (),
        aggregate=session.ring if session is not None and published is not None else "",
        next_base=closed.get(current.number, current.base),
        epsilon_milli=epsilon_milli,
        budget_milli=state.terms.privacy.epsilon_milli if state.terms.privacy is not None else None,
        voters=counted.voters if counted is not None else None,
        against=counted.against if counted is not None else None,
        validated_permille=round(1000 * score(sums)) if sums is not None else None,
    )


def _missing(state: State, current: Round, session: Session | None) -> tuple[Missing, ...]:
    """Name every member that is not in the sum, and the first step at which the log lacks it."""
    arrived = session.u3 if session is not None else {}
    gone = [site for site in state.terms.member_ids if site not in arrived]
    return tuple(Missing(site, _since(current, session, site)) for site in gone)


def _since(current: Round, session: Session | None, site: str) -> str:
    if site not in current.ready:
        return _SINCE["train" if site in current.accepted else "plan"]
    if session is None:
        return "no sum was begun"
    steps = (
        ("ready", session.ready),
        ("advertise", session.u1),
        ("share", session.u2),
        ("upload", session.u3),
    )
    for step, fixed in steps:
        if not fixed:
            return "the sum was given up before"
        if site not in fixed:
            return _SINCE[step]
    return "is in the sum"
