"""Rules of the study: genesis, enrolment, signatures under the charter, opening and closing the run."""

from collections.abc import Mapping
from typing import Final

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.event_data import (
    CharterSigned,
    Data,
    Enrolled,
    Genesis,
    LogHead,
    ModelReleased,
    RunClosed,
    RunOpened,
)
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.rule import Rule, need
from fedmedlora_audit.law.state import State
from fedmedlora_audit.law.validation_rules import releases_the_chosen_round


def genesis_of_the_charter(state: State, _event: Event, data: Genesis) -> None:
    """K1: the log begins by naming the charter and the keys that the charter names."""
    terms = state.terms
    named = (data.charter, data.log_vkey, data.coordinator_vkey)
    right = named == (terms.digest, terms.log_vkey, terms.coordinator_vkey)
    need(right, "K1", "the genesis names another charter, log key or coordinator key")


def enrolled_as_the_charter_says(state: State, _event: Event, data: Enrolled) -> None:
    """K1, G32: members enter in charter order with the charter's keys; nobody else enters."""
    need(data.site in state.terms.members, "K1", f"{data.site} is no member")
    order = state.terms.member_ids
    place = len(state.enrolled)
    need(place < len(order) and order[place] == data.site, "K1", "members enter once, in charter order")
    keys = state.terms.members[data.site]
    right = (data.event_vkey, data.witness_vkey) == (keys.event_vkey, keys.witness_vkey)
    need(right, "K1", f"{data.site} is enrolled with keys that are not the charter's")


def signed_once_after_all_enrolled(state: State, event: Event, data: CharterSigned) -> None:
    """K1: each member signs this charter, once, when the whole roster is in the log."""
    need(data.charter == state.terms.digest, "K1", f"{event.actor.id} signed another charter")
    need(len(state.enrolled) == state.terms.n, "K1", "a charter is signed when all members are enrolled")
    need(event.actor.id not in state.signed, "R3", f"{event.actor.id} signed the charter before")


def run_opened_when_all_signed(state: State, _event: Event, data: RunOpened) -> None:
    """K1: training starts only from the charter's adapter, when every member has signed."""
    need(not state.run_opened, "R1", "the run is open already")
    # R2.2.3
    need(len(state.signed) == state.terms.n, "K1", "a run opens when every member has signed the charter")
    need(data.charter == state.terms.digest, "K1", "the run is opened under another charter")
    need(
        data.base == state.terms.initial_adapter,
        "A2",
        "the run starts from another adapter",
    )


def between_rounds(state: State, event: Event, _data: Data) -> None:
    """R1: releases and the end of the run stand between rounds."""
    need(state.run_opened and state.round is None, "R1", f"{event.type} while a round is open or none was")


def released_once_after_all_rounds(state: State, _event: Event, data: ModelReleased) -> None:
    """M1, R3: one release, which says how many rounds were closed."""
    need(data.rounds == len(state.closed_rounds), "M1", f"{len(state.closed_rounds)} rounds were closed")
    need(state.released is None, "R3", "the model was released before")


def closes_the_run(state: State, _event: Event, data: RunClosed) -> None:
    """R1: the run ends once, and says how many rounds were closed."""
    need(data.rounds == len(state.closed_rounds), "R1", f"{len(state.closed_rounds)} rounds were closed")


def names_a_true_head(state: State, _event: Event, data: LogHead) -> None:
    """C6: a head that the coordinator quotes is a head of this log."""
    need(data.size <= state.size, "C6", f"the log has {state.size} entries, not {data.size}")
    need(data.root == state.tree.root(data.size).hex(), "C6", "the head quoted is of another history")


def not_in_this_release(_state: State, event: Event, _data: Data) -> None:
    """K1: the schema knows the type, but no rule admits it yet; so nobody may say it."""
    raise LawError("K1", f"no rule admits {event.type} under this charter")


RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "log.genesis": (genesis_of_the_charter,),
    "site.enrolled": (enrolled_as_the_charter_says,),
    "charter.signed": (signed_once_after_all_enrolled,),
    "run.opened": (run_opened_when_all_signed,),
    "model.released": (between_rounds, releases_the_chosen_round, released_once_after_all_rounds),
    "run.closed": (between_rounds, closes_the_run),
    "audit.exported": (names_a_true_head,),
    "log.closed": (names_a_true_head,),
    "key.revoked": (not_in_this_release,),
}
