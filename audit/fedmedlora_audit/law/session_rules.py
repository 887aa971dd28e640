"""Rules of a session: one secure sum, from the opening to the accepted aggregate (PROTOCOL, G33 to G41).

Each rule closes an attack; the docstring names its check. The order within a tuple is the order of judgement:
first whether the step is right, then who speaks, then what is said.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from fedmedlora_audit.event_data import (
    AggregateAccepted,
    AggregatePublished,
    Data,
    IdDigest,
    InSession,
    KeysBroadcast,
    SessionOpened,
    SharesFixed,
    SharesSent,
    SurvivorsAgreed,
    SurvivorsFixed,
    UnmaskRequest,
    UnmaskResponse,
    UpdateSubmitted,
    VotesCounted,
)
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.ckks_rules import answers_by_custody, publishes_what_was_decrypted
from fedmedlora_audit.law.privacy_rules import upload_is_charged
from fedmedlora_audit.law.rule import Rule, at_step, live_session, named_session, need, not_before, open_round
from fedmedlora_audit.law.state import COUNTS, State
from fedmedlora_audit.law.validation_rules import (
    checks_what_was_tallied,
    counts_a_checked_aggregate,
    counts_over_the_same_sites,
    keeps_the_layout,
    sums_what_sites_can_count,
)
from fedmedlora_audit.law.vote_rules import (
    checks_what_was_counted,
    counts_the_survivors,
    of_purpose,
    one_vote_per_base,
    votes_on_a_checked_aggregate,
)
from fedmedlora_audit.session import session_id, view_of
from fedmedlora_audit.validation_data import ValidationCounted


def not_erased(state: State, event: Event, _data: Data) -> None:
    """G38: a site that erased its secrets of a session sits it out."""
    erased = named_session(state, event).erased
    need(event.actor.id not in erased, "G38", f"{event.actor.id} erased its secrets of this session")


def same_view(state: State, event: Event, data: SharesSent | SharesFixed | UpdateSubmitted) -> None:
    """G36: the message was made under the logged U1, so under the same keys as everybody's."""
    need(data.view == named_session(state, event).view, "G36", f"{event.type} was made under another view")


# -- opening and keys -----------------------------------------------------------------------------------


def opened_in_order(state: State, event: Event, data: SessionOpened) -> None:
    """R1, G13: attempts of a purpose are numbered; none follows once anything of it was opened."""
    current = open_round(state, event)
    expected = current.attempts(data.purpose) + 1
    need(data.attempt == expected, "R1", f"attempt {expected} is next")
    asked = {"score": state.terms.votes_in, COUNTS: state.terms.counts_in}.get(data.purpose)
    need(
        asked is None or asked(current.number),
        "R1",
        f"the charter has no session for {data.purpose} in this round",
    )
    # R5.3.3: what was opened once could be subtracted.
    opened = any(session.responses for session in current.sessions if session.purpose == data.purpose)
    need(not opened, "G13", "a new attempt after shares of an earlier one were opened")


def ready_sites_only(state: State, event: Event, data: SessionOpened) -> None:
    """R2, G33: a session is of at least T members that reported an update ready, or accepted the sum."""
    current = open_round(state, event)
    summed = current.summed  # R4.7.1, R4.15.1: who votes or counts has checked the adapter that it is about
    checked = summed.accepted if summed is not None else {}
    able = current.ready if data.purpose == "update" else checked
    need(all(site in able for site in data.ready), "R2", "the session names a site that is not ready")
    # R2.3.3, R4.1.1: T of the charter, and only sites whose training is over.
    need(len(data.ready) >= state.terms.threshold, "G33", f"fewer than {state.terms.threshold} sites")


def sid_is_recomputed(state: State, event: Event, data: SessionOpened) -> None:
    """G36: the session's name binds log, charter, round, attempt, purpose, base and suite."""
    current, terms = open_round(state, event), state.terms
    need(data.suite == terms.suite, "G33", "the session uses another suite than the charter's")
    own_base = data.base == current.base or data.purpose != "update"  # judged by G42 and G49
    need(own_base, "A2", "the session sums updates of another base")
    expected = session_id(
        origin=terms.origin,
        charter=terms.digest,
        round_number=current.number,
        attempt=data.attempt,
        purpose=data.purpose,
        base=data.base,
        suite=data.suite,
    )
    need(data.sid == expected, "G36", "the session's id is not the one that follows from its terms")


def advertises_once(state: State, event: Event, _data: InSession) -> None:
    """R2, R3: a ready site advertises keys once."""
    session = named_session(state, event)
    need(event.actor.id in session.ready, "R2", f"{event.actor.id} is not in this session")
    need(event.actor.id not in session.advertised, "R3", f"{event.actor.id} advertised keys before")


def earlier_secrets_are_gone(state: State, event: Event, data: InSession) -> None:
    """G37: before advertising again, a site has erased or opened the secrets of every earlier session."""
    # R5.4.1
    left = state.unspent.get(event.actor.id, set()) - {data.sid}
    need(not left, "G37", f"{event.actor.id} has not erased an earlier session")


def u1_is_who_advertised(state: State, event: Event, data: KeysBroadcast) -> None:
    """G35, G33: U1 and the sites left out make up the session, with the keys as logged."""
    session = live_session(state, event)
    _need_logged(data.u1, session.advertised, "G35", "U1")
    need(len(data.u1) >= state.terms.threshold, "G33", f"U1 has fewer than {state.terms.threshold} sites")
    named = {row.id for row in data.u1} | {row.id for row in data.left_out}
    both = len(data.u1) + len(data.left_out)
    need(
        named == set(session.ready) and both == len(named),
        "G35",
        "U1 and left_out do not make up the ready sites",
    )
    for row in data.left_out:
        silent = row.id not in session.advertised or session.is_out(row.id)
        need(row.reason != "silent" or silent, "G35", f"{row.id} did advertise keys and is called silent")
        need(
            row.reason == "silent" or row.id in session.advertised, "G35", f"{row.id} sent no keys to refuse"
        )


def view_is_recomputed(_state: State, _event: Event, data: KeysBroadcast) -> None:
    """G36: the view follows from the session and U1."""
    need(data.view == view_of(data.sid, data.u1), "G36", "the view does not follow from U1")


# -- shares and uploads ---------------------------------------------------------------------------------


def shares_once(state: State, event: Event, _data: SharesSent) -> None:
    """R2, R3: a site of U1 sends shares once."""
    session = named_session(state, event)
    need(event.actor.id in session.u1, "R2", f"{event.actor.id} is not in U1")
    need(event.actor.id not in session.shares, "R3", f"{event.actor.id} sent shares before")


def u2_is_who_shared(state: State, event: Event, data: SharesFixed) -> None:
    """U5, G34, G33: U2 are the logged shares as signed, none kept back, and at least T."""
    session = live_session(state, event)
    _need_logged(data.u2, session.shares, "U5", "U2")
    named = {row.id for row in data.u2}
    for site in session.shares:
        need(site in named or session.is_out(site), "G34", f"the shares of {site} are left out of U2")
    need(len(data.u2) >= state.terms.threshold, "G33", f"U2 has fewer than {state.terms.threshold} sites")


def uploads_once_for_u2(state: State, event: Event, data: UpdateSubmitted) -> None:
    """G34, R3: a site of U2 uploads once, masked with exactly this U2."""
    session = named_session(state, event)
    need(event.actor.id in session.u2, "G34", f"{event.actor.id} is not in U2")
    need(event.actor.id not in session.updates, "R3", f"{event.actor.id} submitted an update before")
    need(data.h_u2 == session.h_u2, "G34", f"{event.actor.id} masked with another U2")


def u3_is_who_uploaded(state: State, event: Event, data: SurvivorsFixed) -> None:
    """R5, R6: the survivors are the logged uploads - none invented, none kept back - and at least T."""
    session = live_session(state, event)
    _need_logged(data.u3, session.updates, "R5", "U3")
    named = {row.id for row in data.u3}
    for site in session.updates:
        need(site in named or session.is_out(site), "R6", f"the upload of {site} is left out of U3")
    need(len(named) >= state.terms.threshold, "R5", f"U3 has fewer than {state.terms.threshold} sites")


def no_subtraction(state: State, _event: Event, data: SurvivorsFixed) -> None:
    """G14: two opened sums from one base never differ by fewer than min_sites sites; of counts by none."""
    session = state.sids[data.sid]
    named = {row.id for row in data.u3}
    least = state.terms.n + 1 if session.purpose == COUNTS else state.terms.min_sites  # R4.15.5
    for earlier in state.consented.get(session.family, ()):
        if earlier is not session and earlier.responses:
            differ = len(named ^ set(earlier.u3))
            need(
                not 0 < differ < least,
                "G14",
                f"differs from an opened sum by {differ} sites",
            )


# -- consent and opening --------------------------------------------------------------------------------


def consents_once_to_what_it_saw(state: State, event: Event, data: SurvivorsAgreed) -> None:
    """G34, U1: a survivor signs the logged U2 and U3, once."""
    session = named_session(state, event)
    need(event.actor.id in session.u3, "G34", f"{event.actor.id} is not a survivor")
    need(event.actor.id not in session.agreed, "R3", f"{event.actor.id} consented before")
    need(data.view == session.view, "G36", f"{event.actor.id} consents under another view")
    same = (data.h_u2, data.h_u3) == (session.h_u2, session.h_u3)
    need(same, "U1", f"{event.actor.id} was shown other lists than the log's")


def one_survivor_set_per_base(state: State, event: Event, data: SurvivorsAgreed) -> None:
    """G37: a second consent from the same base only to the same sites, or once the first cannot be opened.

    T members that erased the first session without opening anything leave fewer than T shares of any secret;
    on a sparse graph T survivors leave too few shares of at least one of them (R6.15.9).
    """
    session = state.sids[data.sid]
    for earlier in state.consented.get(session.family, ()):
        if earlier is session or event.actor.id not in earlier.agreed or set(earlier.u3) == set(session.u3):
            continue
        dead = state.cannot_be_opened(earlier, before=event.saw.size)
        need(dead, "G37", f"{event.actor.id} consented to other survivors of this base before")


def request_shows_consents(state: State, event: Event, data: UnmaskRequest) -> None:
    """U1: the request shows at least T consents to this very U3."""
    session = live_session(state, event)
    need(all(site in session.agreed for site in data.signers), "U1", "a signer has not consented")
    need(len(data.signers) >= state.terms.threshold, "U1", f"fewer than {state.terms.threshold} consents")
    shown = {session.agreed[site] for site in data.signers}
    need(set(event.refs) == shown, "U1", "the request does not refer to its signers' consents")


def never_both_seeds(_state: State, event: Event, data: UnmaskRequest | UnmaskResponse) -> None:
    """U2: of no site are both the self seed and the pair key opened: that would unmask it."""
    need(not set(data.self_of) & set(data.pair_of), "U2", f"{event.type} names both seeds of one site")


def asks_for_survivors_and_dropped(state: State, event: Event, data: UnmaskRequest) -> None:
    """U3: self seeds of exactly U3, pair keys of exactly those of U2 that dropped out."""
    session = live_session(state, event)
    need(data.self_of == tuple(sorted(session.u3)), "U3", "self seeds of others than U3 are asked for")
    dropped = tuple(sorted(set(session.u2) - set(session.u3)))
    need(data.pair_of == dropped, "U3", "pair keys of others than U2 without U3 are asked for")


def opens_what_was_asked(state: State, event: Event, data: UnmaskResponse) -> None:
    """U1, U3: a site that consented opens exactly the shares asked for, once."""
    session = named_session(state, event)
    request = session.request
    need(
        request is not None and event.actor.id in request.signers, "U1", f"{event.actor.id} has not consented"
    )
    need(event.actor.id not in session.responses, "R3", f"{event.actor.id} opened its shares before")
    same = request is not None and (data.self_of, data.pair_of) == (request.self_of, request.pair_of)
    need(same, "U3", f"{event.actor.id} opened other shares than asked for")


def no_late_upload_is_opened(state: State, event: Event, data: UnmaskRequest | AggregatePublished) -> None:
    """R6: an upload that came after the survivors were fixed is never opened, and in no sum."""
    late = {site for type_, site in live_session(state, event).late if type_ == "update.submitted"}
    used = data.self_of if isinstance(data, UnmaskRequest) else [row.id for row in data.inputs]
    need(not late & set(used), "R6", f"{event.type} takes in an upload that came too late")


# -- the aggregate --------------------------------------------------------------------------------------


def published_after_enough_opened(
    state: State, event: Event, _data: AggregatePublished | VotesCounted | ValidationCounted
) -> None:
    """U4: fewer than T openings cannot give the sum; a sum without them comes from elsewhere."""
    opened = len(live_session(state, event).responses)
    need(opened >= state.terms.threshold, "U4", f"only {opened} sites opened their shares")


def sums_the_survivors(state: State, event: Event, data: AggregatePublished) -> None:
    """A1: the inputs are the survivors' uploads, and the weight is one they can have."""
    session = live_session(state, event)
    inputs = {row.id: row.digest for row in data.inputs}
    need(inputs == session.u3, "A1", "the aggregate's inputs are not the survivors' uploads")
    most = len(inputs) * state.terms.weight_max
    need(0 < data.weight_sum <= most, "A1", f"the weight sum lies outside 1 to {most}")


def moves_the_optimiser_on(state: State, _event: Event, data: AggregatePublished) -> None:
    """A2 (R4.9.4): the state of the server's optimiser goes on from the last closed round's, unbroken."""
    if state.terms.initial_state is None:
        need(data.state is data.state_before is None, "A2", "this charter's server has no optimiser")
        return
    need(data.state is not None, "A2", "the state of the server's optimiser is missing")
    need(
        data.state_before == state.optimiser,
        "A2",
        "the server's optimiser starts from another state than the last closed round led to",
    )


def accepts_what_was_published(state: State, event: Event, data: AggregateAccepted) -> None:
    """A2: a survivor that recomputed decode and step found exactly the published digests."""
    session = named_session(state, event)
    need(event.actor.id in session.u3, "R2", f"{event.actor.id} is not a survivor")
    need(event.actor.id not in session.accepted, "R3", f"{event.actor.id} accepted before")
    published = session.published
    found = (data.ring, data.next_base, data.state)
    same = published is not None and found == (session.ring, published.next_base, published.state)
    need(same, "A2", f"{event.actor.id} accepts another aggregate than the published one")


def _need_logged(rows: Iterable[IdDigest], logged: Mapping[str, str], check: str, name: str) -> None:
    for row in rows:
        need(row.id in logged, check, f"{name} names {row.id}, which sent nothing for it")
        need(logged[row.id] == row.digest, check, f"{name} names another digest than {row.id} signed")


RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "session.opened": (
        opened_in_order,
        votes_on_a_checked_aggregate,
        one_vote_per_base,
        counts_a_checked_aggregate,
        counts_over_the_same_sites,
        ready_sites_only,
        sid_is_recomputed,
    ),
    "keys.advertised": (not_before("advertise"), advertises_once, not_erased, earlier_secrets_are_gone),
    "keys.broadcast": (at_step("advertise", "G34"), u1_is_who_advertised, view_is_recomputed),
    "shares.sent": (not_before("share"), shares_once, not_erased, same_view),
    "shares.fixed": (at_step("share", "G34"), same_view, u2_is_who_shared),
    "update.submitted": (
        not_before("upload"),
        not_erased,
        same_view,
        uploads_once_for_u2,
        upload_is_charged,
    ),
    "survivors.fixed": (
        at_step("upload", "G34"),
        same_view,
        u3_is_who_uploaded,
        no_subtraction,
        keeps_the_layout,
    ),
    "survivors.agreed": (
        not_before("survivors"),
        not_erased,
        consents_once_to_what_it_saw,
        one_survivor_set_per_base,
    ),
    "unmask.request": (
        at_step("survivors", "U4"),
        never_both_seeds,
        no_late_upload_is_opened,
        request_shows_consents,
        asks_for_survivors_and_dropped,
    ),
    "unmask.response": (
        not_before("unmask"),
        not_erased,
        never_both_seeds,
        opens_what_was_asked,
        answers_by_custody,
    ),
    "aggregate.published": (
        at_step("unmask", "A1"),
        of_purpose("update"),
        published_after_enough_opened,
        no_late_upload_is_opened,
        sums_the_survivors,
        moves_the_optimiser_on,
        publishes_what_was_decrypted,
    ),
    "aggregate.accepted": (not_before("aggregate"), accepts_what_was_published),
    "votes.counted": (
        at_step("unmask", "G42"),
        of_purpose("score"),
        published_after_enough_opened,
        counts_the_survivors,
    ),
    "votes.checked": (not_before("count"), checks_what_was_counted),
    "validation.counted": (
        at_step("unmask", "G49"),
        of_purpose(COUNTS),
        published_after_enough_opened,
        sums_what_sites_can_count,
    ),
    "validation.checked": (not_before("tally"), checks_what_was_tallied),
}
