"""Rules of the vote on a new adapter, and of rolling a round back (PROTOCOL §4.7, decisions G42 and 14).

A vote is one more secure sum, with purpose "score" and the new adapter as its base: what `session_rules` says
of lists, consents and openings holds for it word for word. Here is what only a vote has: when it may be
opened and by whom, what a count may say, and how the round ends after it.
"""

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.event_data import Data, RolledBack, RoundClosed, SessionOpened, VotesCounted
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.rule import Rule, live_session, named_session, need, open_round
from fedmedlora_audit.law.state import Session, State


def of_purpose(purpose: str) -> Rule:
    """Make the rule that an event belongs to sessions of one purpose: a vote gives no adapter (R1)."""

    def rule(state: State, event: Event, _data: Data) -> None:
        session = live_session(state, event)
        need(session.purpose == purpose, "R1", f"{event.type} in a session for {session.purpose}")

    return rule


def votes_on_a_checked_aggregate(state: State, event: Event, data: SessionOpened) -> None:
    """G42: a vote is on the open round's sum, which T survivors have checked and nobody disputes."""
    if data.purpose != "score":
        return
    summed = open_round(state, event).summed
    if summed is None or summed.published is None:
        raise LawError("G42", "a vote before the round has an aggregate")
    enough = len(summed.accepted) >= state.terms.threshold
    need(enough, "G42", "a vote on an aggregate that too few survivors have checked")
    need(not summed.disputed, "G42", "a vote on an aggregate that a survivor disputes")
    need(data.base == summed.published.next_base, "G42", "a vote on another adapter than the published one")


def one_vote_per_base(state: State, _event: Event, data: SessionOpened) -> None:
    """G42: an adapter is voted on once; a second count over other voters would show a single vote."""
    if data.purpose != "score":
        return
    opened = any(session.responses for session in state.consented.get((data.base, "score"), ()))
    need(not opened, "G42", "this very adapter was voted on before")


def counts_the_survivors(state: State, event: Event, data: VotesCounted) -> None:
    """G42: every survivor of the session has one vote, and no more are against than voted."""
    voters = len(live_session(state, event).u3)
    need(data.voters == voters, "G42", f"{voters} sites voted, not {data.voters}")
    need(data.against <= data.voters, "G42", "more votes against than voters")


def checks_what_was_counted(state: State, event: Event, data: VotesCounted) -> None:
    """G42: a voter that counted the opened votes itself found exactly the published count, once."""
    session, site = named_session(state, event), event.actor.id
    need(site in session.u3, "R2", f"{site} is not a voter of this session")
    need(site not in session.accepted, "R3", f"{site} checked this count before")
    counted = session.counted
    same = counted is not None and (data.voters, data.against) == (counted.voters, counted.against)
    need(same, "G42", f"{site} counts other votes than published")


def closes_unless_voted_down(state: State, event: Event, _data: RoundClosed) -> None:
    """G42: where the charter asks for a vote, a round closes only on one that did not refuse the adapter."""
    if not state.terms.votes_in(open_round(state, event).number):
        return
    counted = checked_count(state, event)
    need(not counted.rejected, "G42", "the round closes on an adapter that the majority voted down")


def rolls_back_if_voted_down(state: State, event: Event, data: RolledBack) -> None:
    """G42: a round is rolled back by its own vote only, and only when the majority was against."""
    counted = checked_count(state, event)
    need(data.sid == counted.sid, "G42", "the round is rolled back by another session than its vote")
    need(counted.rejected, "G42", "the round is rolled back without a majority against it")


def checked_count(state: State, event: Event) -> VotesCounted:
    """Return the open round's count, which T voters have checked and nobody disputes."""
    vote: Session | None = open_round(state, event).vote
    if vote is None or vote.counted is None:
        raise LawError("G42", f"{event.type} in a round whose votes were not counted")
    need(len(vote.accepted) >= state.terms.threshold, "G42", "too few voters have checked the count")
    need(not vote.disputed, "G42", "a voter counts other votes than published")
    return vote.counted
