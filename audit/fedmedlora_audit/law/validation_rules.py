"""Rules of the summed validation counts, and of the round that they choose (PROTOCOL §4.15, decision G49).

A sum of counts is one more secure sum, with purpose "statistics" and the new adapter as its base. What only
it has: every opened sum of a study is over the same sites. A site's held-out notes are the same in every
round, so two sums over sets that differ by one site would show that site's notes, and nearly its score.
"""

from collections.abc import Collection
from fractions import Fraction

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.event_data import Data, ModelReleased, RoundClosed, SessionOpened
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.rule import live_session, named_session, need, open_round
from fedmedlora_audit.law.state import COUNTS, ClosedRound, Round, Session, State
from fedmedlora_audit.law.vote_rules import checked_count
from fedmedlora_audit.validation_data import TypeCounts, ValidationCounted
from fedmedlora_audit.validation_terms import COUNT_MAX

# -- what follows from the log --------------------------------------------------------------------------


def counted_over(state: State) -> frozenset[str] | None:
    """Return the sites that every sum of counts is over: those of the first that anything was opened of."""
    for session in state.consented.get(("", COUNTS), ()):
        if session.responses:
            return frozenset(session.u3)
    return None


def countable(state: State, current: Round) -> tuple[str, ...]:
    """Return the sites over which a round's counts can be summed; none if the charter asks for no sum in it.

    None, too, if a site that all earlier sums are over has not accepted the aggregate, or no type is
    annotated by enough.
    """
    rules, summed = state.terms.validation, current.summed
    if rules is None or summed is None or not state.terms.counts_in(current.number):
        return ()
    sites = counted_over(state) or frozenset(summed.accepted)
    asked = sites <= summed.accepted.keys() and may_be_asked(state, sites)
    return tuple(sorted(sites)) if asked else ()


def may_be_asked(state: State, sites: Collection[str]) -> bool:
    """Say whether a session of counts may be opened: with the sites of all earlier sums, of some type."""
    rules = state.terms.validation
    same = counted_over(state) in (None, frozenset(sites))
    return rules is not None and same and rules.length(sites, state.terms.threshold) > 0


def may_be_counted(state: State, session: Session, sites: Collection[str]) -> bool:
    """Say whether a session of counts may go on with these sites: a list of it, or one that would be.

    They have to be those of every earlier sum, and enough of them annotate each type with a place.
    """
    rules = state.terms.validation
    same = counted_over(state) in (None, frozenset(sites))
    return rules is not None and same and rules.bears(session.ready, sites, state.terms.threshold)


def counts_of(state: State, round_number: int) -> ValidationCounted | None:
    """Return a round's summed counts, if T sites have checked any: others choose nothing (R4.15.6)."""
    found = state.rounds[round_number].counts
    checked = found is not None and len(found.accepted) >= state.terms.threshold
    return found.tallied if found is not None and checked else None


def score(counts: ValidationCounted) -> Fraction:
    """Return what rounds are compared by: the mean of the tasks' micro F1, over tasks with any count."""
    tasks = [_micro(rows) for rows in (counts.entities, counts.relations)]
    found = [Fraction(2 * all_.tp, 2 * all_.tp + all_.fp + all_.fn) for all_ in tasks if any(_values(all_))]
    return sum(found, Fraction(0)) / len(found) if found else Fraction(0)


def chosen_round(state: State) -> ClosedRound | None:
    """Return the round whose adapter the counts choose, the earlier of equal ones; None for the last (M1).

    The choice needs the counts of the last closed round. Otherwise a site that stays away from one session
    after another would have the adapter of an early round released.
    """
    rules = state.terms.validation
    if rules is None or not rules.chooses or not state.closed_rounds:
        return None
    found = [(closed, counts_of(state, closed.round)) for closed in state.closed_rounds]
    if found[-1][1] is None:  # R4.15.8
        return None
    known = [(closed, score(counts)) for closed, counts in found if counts is not None]
    return max(known, key=lambda pair: (pair[1], -pair[0].round))[0]


# -- rules ----------------------------------------------------------------------------------------------


def counts_a_checked_aggregate(state: State, event: Event, data: SessionOpened) -> None:
    """G49: counts are taken of the open round's sum, which T survivors have checked, after its vote."""
    if data.purpose != COUNTS:
        return
    current = open_round(state, event)
    summed = current.summed
    if summed is None or summed.published is None:
        raise LawError("G49", "counts before the round has an aggregate")
    enough = len(summed.accepted) >= state.terms.threshold
    need(enough, "G49", "counts of an aggregate that too few survivors have checked")
    need(not current.disputed, "G49", "counts while a site disputes the aggregate or the vote")
    need(data.base == summed.published.next_base, "G49", "counts of another adapter than the published one")
    if state.terms.votes_in(current.number):
        need(not checked_count(state, event).rejected, "G49", "counts of an adapter that was voted down")


def counts_over_the_same_sites(state: State, _event: Event, data: SessionOpened) -> None:
    """G49: whoever was in the first opened sum is asked again, nobody else; and some type has a place."""
    rules = state.terms.validation
    if data.purpose != COUNTS or rules is None:
        return
    same = counted_over(state)
    need(
        same in (None, frozenset(data.ready)), "G49", "counts over other sites than the study's earlier ones"
    )
    places = rules.length(data.ready, state.terms.threshold)
    need(places > 0, "G49", "no type is annotated by enough of these sites")


def keeps_the_layout(state: State, event: Event, _data: Data) -> None:
    """G49: every type in the sum is annotated by T of the survivors, or the sum is not opened."""
    session, rules = live_session(state, event), state.terms.validation
    if session.purpose != COUNTS or rules is None:
        return
    sites = {row.id for row in getattr(event.data, "u3", ())}
    bears = rules.bears(session.ready, sites, state.terms.threshold)
    need(bears, "G49", "a type in the sum is annotated by fewer survivors than the threshold")


def sums_what_sites_can_count(state: State, event: Event, data: ValidationCounted) -> None:
    """G49: one row for each type with a place, over the session's survivors, within what they can have."""
    session, rules = live_session(state, event), state.terms.validation
    need(rules is not None, "G49", "the charter asks for no counts")
    if rules is None:
        return
    sites = len(session.u3)
    need(data.sites == sites, "G49", f"{sites} sites counted, not {data.sites}")
    rows = (len(data.entities), len(data.relations))
    need(rows == rules.placed(session.ready, state.terms.threshold), "G49", "other types than have a place")
    most = sites * COUNT_MAX
    values = [value for row in (*data.entities, *data.relations) for value in _values(row)]
    need(all(value <= most for value in values), "G49", f"a count lies outside 0 to {most}")


def checks_what_was_tallied(state: State, event: Event, data: ValidationCounted) -> None:
    """G49: a site that summed the counts again itself found exactly the published ones, once."""
    session, site = named_session(state, event), event.actor.id
    need(site in session.u3, "R2", f"{site} is not in this sum")
    need(site not in session.accepted, "R3", f"{site} checked these counts before")
    need(data == session.tallied, "G49", f"{site} finds other counts than published")


def closes_after_counting(state: State, event: Event, _data: RoundClosed) -> None:
    """G49: counts that the charter asks for are tried, and nobody finds other ones than published."""
    current = open_round(state, event)
    tried = current.counts is not None or not countable(state, current)
    need(tried, "G49", "the round closes without trying the charter's counts")
    need(
        not any(s.disputed for s in current.sessions if s.purpose == COUNTS),
        "G49",
        "a site finds other counts",
    )


def releases_the_chosen_round(state: State, _event: Event, data: ModelReleased) -> None:
    """M1: the released adapter is the last accepted one, or that of the round with the best summed counts."""
    need(bool(state.closed_rounds), "M1", "a model is released before any round was closed")
    chosen = chosen_round(state)
    if chosen is None:
        need(data.adapter == state.base, "M1", "the released adapter is not the last accepted one")
        need(data.round is None, "M1", "a round is named, and no counts choose one")
    else:
        need(data.round == chosen.round, "M1", f"the summed counts choose round {chosen.round}")
        need(data.adapter == chosen.next_base, "M1", "the released adapter is not the chosen round's")


def _values(row: TypeCounts) -> tuple[int, int, int]:
    return row.tp, row.fp, row.fn


def _micro(rows: tuple[TypeCounts, ...]) -> TypeCounts:
    return TypeCounts(
        tp=sum(row.tp for row in rows), fp=sum(row.fp for row in rows), fn=sum(row.fn for row in rows)
    )
