"""Rules of a round: plan, readiness, refusals, failed deliveries, closing and aborting."""

from collections.abc import Mapping
from typing import Final

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.event_data import (
    Base,
    Data,
    DeliveryFailed,
    InSession,
    RolledBack,
    RoundClosed,
    StepRefused,
    UpdateReady,
)
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.duties import answered
from fedmedlora_audit.law.member_rules import enough_remain
from fedmedlora_audit.law.rule import Rule, named_round, need, open_round, summed_session
from fedmedlora_audit.law.state import Session, State
from fedmedlora_audit.law.validation_rules import closes_after_counting
from fedmedlora_audit.law.vote_rules import closes_unless_voted_down, rolls_back_if_voted_down


def one_plan_per_round(state: State, event: Event, _data: Base) -> None:
    """R1: rounds follow each other, one plan each, within the charter's number."""
    need(state.run_opened, "R1", "a round is planned before the run is open")
    need(state.round is None, "R1", f"round {event.round} is planned while another is open")
    expected = len(state.rounds) + 1
    need(event.round == expected, "R1", f"the next round is {expected}, not {event.round}")
    need(expected <= state.terms.rounds, "R1", f"the charter ends with round {state.terms.rounds}")


def plan_starts_from_the_last_aggregate(state: State, _event: Event, data: Base) -> None:
    """A2: the base of a plan is the adapter that the last closed round led to."""
    need(data.base == state.base, "A2", "the plan starts from another adapter than the last accepted one")


def answers_the_plan(state: State, event: Event, data: Base | UpdateReady) -> None:
    """R1, E9: a site speaks of the open round's plan and base, and refers to the plan."""
    current = named_round(state, event)
    need(data.base == current.base, "A2", f"{event.actor.id} speaks of another base than the plan's")
    need(current.plan.leaf.hex() in event.refs, "E9", f"{event.type} does not refer to the plan")


def accepts_once(state: State, event: Event, _data: Base) -> None:
    """R3: one acceptance of a plan per member."""
    current = named_round(state, event)
    need(event.actor.id not in current.accepted, "R3", f"{event.actor.id} accepted this plan before")


def ready_once_after_accepting(state: State, event: Event, _data: UpdateReady) -> None:
    """R3: one update per member and round, after accepting the plan."""
    current = named_round(state, event)
    need(event.actor.id in current.accepted, "R1", f"{event.actor.id} trained without accepting the plan")
    need(event.actor.id not in current.ready, "R3", f"{event.actor.id} was ready before")


def commits_to_a_contribution(state: State, event: Event, data: UpdateReady) -> None:
    """G44: with a graph, every site commits to its part in the order before any session shows another's."""
    wanted = state.terms.graph is not None
    need((data.graph is not None) == wanted, "G44", f"{event.actor.id} commits to no graph, or without one")


def closes_an_accepted_aggregate(state: State, event: Event, data: RoundClosed) -> None:
    """A2 (decision 15): at least T survivors found the published aggregate, and none found another."""
    session = summed_session(state, event)
    if session.published is None:
        raise LawError("R1", "a round is closed before its aggregate was published")
    need(data.accepted == tuple(sorted(session.accepted)), "A2", "the list of acceptances is not the log's")
    # R4.4.3
    need(len(data.accepted) >= state.terms.threshold, "A2", "too few acceptances")
    need(not session.disputed, "A2", "a survivor found another aggregate than the published one")
    need(data.next_base == session.published.next_base, "A2", "the round closes on another base")


def silent_survivors_are_named(state: State, event: Event, _data: RoundClosed | RolledBack) -> None:
    """R4: a survivor that neither accepted nor refused the sum, or a count, has a delivery.failed."""
    current = open_round(state, event)
    for session, step in ((current.summed, "aggregate"), (current.vote, "count"), (current.counts, "tally")):
        for site in session.u3 if session is not None and session.is_told else ():
            spoke = session is not None and (site in session.accepted or session.refused.get(site) == step)
            named = (site, step) in current.failed
            need(spoke or named, "R4", f"{site} neither answered the {step} nor has a delivery.failed")


def abort_keeps_the_base(state: State, event: Event, data: Base | RolledBack) -> None:
    """A2: a round that is aborted or rolled back changes no adapter."""
    current = open_round(state, event)
    need(data.base == current.base, "A2", "such a round leaves the base as it was")


def failed_site_was_silent(state: State, event: Event, data: DeliveryFailed) -> None:
    """R4: only a member that did not answer the step is reported as silent, once."""
    current = open_round(state, event)
    need(data.site in state.terms.members, "R2", f"{data.site} is no member of this charter")
    need(data.site not in answered(state, data.step), "R4", f"{data.site} did answer {data.step}")
    need(
        (data.site, data.step) not in current.failed, "R3", f"{data.site} was reported at {data.step} before"
    )


def erases_own_secrets_once(state: State, event: Event, data: InSession) -> None:
    """G38: a site erases what it made for a session in which it advertised, once."""
    session = _known_session(state, event, data)
    late = session.sid in state.unspent.get(event.actor.id, ())  # keys that came too late are secrets as well
    held = late or event.actor.id in session.advertised
    need(held, "G38", f"{event.actor.id} holds no secrets of this session")
    need(event.actor.id not in session.erased, "R3", f"{event.actor.id} erased this session before")


def evidence_of_a_published_sum(state: State, event: Event, data: InSession) -> None:
    """G48: evidence is kept of published sums only; uploads of aborted sessions are not evidence."""
    session = _known_session(state, event, data)
    need(session.published is not None, "G48", "evidence of a session that was never published")


def kept_before_shredded(state: State, event: Event, data: InSession) -> None:
    """G48, R4.6.10: evidence is kept at most once, and shredded at most once; what is gone stays gone."""
    said = _known_session(state, event, data).evidence
    need(said != "shredded", "G48", "the evidence of this session was shredded before")
    need((event.type, said) != ("evidence.kept", "kept"), "G48", "the evidence was said to be kept before")


def shreds_after_the_round(state: State, event: Event, data: InSession) -> None:
    """G48, R4.6.10: evidence stays while the members still check the sum."""
    outcome = state.rounds[_known_session(state, event, data).round].outcome
    need(outcome is not None, "G48", "evidence is shredded while its round is open")


def refuses_in_a_known_round(state: State, event: Event, _data: StepRefused) -> None:
    """R1: a refusal may come at any time, for a round that was planned."""
    need(event.round is None or event.round in state.rounds, "R1", f"round {event.round} was never planned")


def refuses_in_a_session_of_its_round(state: State, event: Event, data: StepRefused) -> None:
    """G36, R1: a refusal names no session, or one of its round; else names would be free to make up.

    One exception: who was away finds a closed round's sum wrong when a later round is on, and names both.
    """
    if data.sid is None:
        return
    session = state.sids.get(data.sid)
    if session is None:
        raise LawError("G36", "step.refused names a session that was never opened")
    before = (c.sid for c in reversed(state.closed_rounds) if c.round < (event.round or 0))
    missed = data.step == "aggregate" and data.sid == next(before, None)
    need(missed or session.round == event.round, "R1", f"the session belongs to round {session.round}")


# R5.2.5
def refuses_once(state: State, event: Event, data: StepRefused) -> None:
    """R3: a step is refused once for a round and session, for whatever reason: a log costs everybody."""
    said = (event.actor.id, data.step, event.round, data.sid) in state.refusals
    need(not said, "R3", f"{event.actor.id} refused this {data.step} before")


def _known_session(state: State, event: Event, data: InSession) -> Session:
    session = state.sids.get(data.sid)
    if session is None:
        raise LawError("G36", f"{event.type} names a session that was never opened")
    need(event.round == session.round, "R1", f"the session belongs to round {session.round}")
    return session


def _always(_state: State, _event: Event, _data: Data) -> None:
    """A receipt is judged wholly by `envelope.receipt_comes_next`."""


RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "round.plan": (one_plan_per_round, plan_starts_from_the_last_aggregate, enough_remain),
    "plan.accepted": (answers_the_plan, accepts_once),
    "update.ready": (answers_the_plan, ready_once_after_accepting, commits_to_a_contribution),
    "round.closed": (
        closes_an_accepted_aggregate,
        closes_unless_voted_down,
        closes_after_counting,
        silent_survivors_are_named,
    ),
    "round.aborted": (abort_keeps_the_base,),
    "round.rolled_back": (rolls_back_if_voted_down, abort_keeps_the_base, silent_survivors_are_named),
    "receipt": (_always,),
    "step.refused": (refuses_in_a_known_round, refuses_in_a_session_of_its_round, refuses_once),
    "attempt.erased": (erases_own_secrets_once,),
    "delivery.failed": (failed_site_was_silent,),
    "evidence.kept": (evidence_of_a_published_sum, kept_before_shredded),
    "evidence.shredded": (evidence_of_a_published_sum, kept_before_shredded, shreds_after_the_round),
}
