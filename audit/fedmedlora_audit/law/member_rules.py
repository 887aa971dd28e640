"""Rules of members and their keys over time: rotation, leaving, and who must remain (PROTOCOL §2.5).

Each of these holds at a later entry if it held at an earlier one, for an event of an honest member: what it
has signed finds its place in the log whatever the others said meanwhile (ADR 0011).
"""

from collections.abc import Mapping
from typing import Final

from fedmedlora_audit.errors import LawError, NoteError
from fedmedlora_audit.event_data import Base, Data, KeyRotated, SiteLeft
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.rule import Rule, need
from fedmedlora_audit.law.state import State
from fedmedlora_audit.member_keys import check_proof, rotation_message
from fedmedlora_audit.note import ALG_ED25519, WITNESS_ALGORITHMS, VerifierKey

ALGORITHMS: Final[Mapping[str, frozenset[int]]] = {
    "event": frozenset({ALG_ED25519}),
    "witness": frozenset(WITNESS_ALGORITHMS.values()),
}
"""What a key of each kind may be."""


def has_not_left(state: State, event: Event, _data: Data) -> None:
    """K3: who left says nothing more, not even late."""
    need(event.actor.id not in state.book.left, "K3", f"{event.actor.id} left this study and speaks again")


def while_the_run_lasts(state: State, event: Event, _data: Data) -> None:
    """R1: until the run is open the charter's keys and members are what everybody signs."""
    need(state.run_opened, "R1", f"{event.type} before the run was opened")


# R2.5.3
def brings_in_a_fresh_key(state: State, event: Event, data: KeyRotated) -> None:
    """K2: the new key is of the member's name and the kind's algorithm, and nobody ever had it."""
    key, site = _key(data), event.actor.id
    need(key.name == site, "K2", f"the new key of {site} bears another name")
    need(key.algorithm in ALGORITHMS[data.key], "K2", f"the new {data.key} key of {site} is of another kind")
    need(key.public not in state.book.used, "K2", f"the new key of {site} was somebody's before")


# R2.5.2
def proves_possession(state: State, event: Event, data: KeyRotated) -> None:
    """K2: the new key signed for this log, member and elder key; the elder witness key has to agree."""
    site, new = event.actor.id, _key(data)
    old = state.book.key_of(site, data.key)
    terms = state.terms
    message = rotation_message(
        origin=terms.origin, charter=terms.digest, site=site, kind=data.key, old=old, new=new
    )
    need((data.consent is None) == (data.key == "event"), "K2", "the old witness key agrees to the new one")
    try:
        check_proof(new, message, data.possession)
        if data.consent is not None:
            check_proof(old, message, data.consent)
    except NoteError:
        raise LawError("K2", f"a proof for the new {data.key} key of {site} does not hold") from None


# R2.5.4
def once_a_round(state: State, event: Event, data: KeyRotated) -> None:
    """R3: of each kind one new key between two plans."""
    before = state.rotated.get((event.actor.id, data.key), -1)
    need(before < len(state.rounds), "R3", f"{event.actor.id} changed this key before in this round")


def leaves_this_study(state: State, event: Event, data: SiteLeft) -> None:
    """K3: a member leaves the charter that it signed, and no other."""
    need(data.charter == state.terms.digest, "K3", f"{event.actor.id} leaves another charter")


# R2.5.7
def enough_remain(state: State, _event: Event, _data: Base) -> None:
    """K3: no round is planned that those who remain cannot carry."""
    need(not state.shortage, "K3", state.shortage)


def _key(data: KeyRotated) -> VerifierKey:
    try:
        return VerifierKey.parse(data.vkey)
    except NoteError as error:
        raise LawError("K2", f"the new key is none: {error.sentence}") from None


RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "key.rotated": (while_the_run_lasts, brings_in_a_fresh_key, proves_possession, once_a_round),
    "site.left": (while_the_run_lasts, leaves_this_study),
}
