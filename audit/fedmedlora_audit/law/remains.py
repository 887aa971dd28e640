"""The state of a log whose entries were partly deleted: what is left of it (AUDIT "Retention").

Nobody can fold a study whose events are gone. What can be known is the tree, for the hashes stay, where the
authors stand that still speak, and what the log says of its own keeping. That is enough to write and to judge
further retention events by the same rules as ever, and for nothing else.
"""

from typing import Any

from fedmedlora_audit.chain import Chain
from fedmedlora_audit.errors import LawError
from fedmedlora_audit.events import Entry
from fedmedlora_audit.law.fold import KEPT_FOLDS
from fedmedlora_audit.law.retention_rules import RULES
from fedmedlora_audit.law.state import State


def pass_over(state: State, leaf: bytes) -> None:
    """Take an entry of which only the leaf hash (32 bytes) is left."""
    state.positions[leaf.hex()] = state.tree.append(leaf)


def recall(state: State, entry: Entry) -> list[LawError]:
    """Take an entry that is left; returns what is wrong with it as far as retention goes.

    Args:
        state: What is left of the log before this entry; changed.
        entry: The entry; whether its author signed it is for the caller.
    """
    event = entry.event
    found = []
    data: Any = event.data
    for rule in RULES.get(event.type, ()):
        try:
            rule(state, event, data)
        except LawError as error:
            found.append(error)
    if event.type in KEPT_FOLDS:
        KEPT_FOLDS[event.type](state, entry, data)
    state.run = event.run
    state.chains[event.actor.id] = Chain(event.seq, entry.leaf.hex())
    state.seen[event.actor.id] = event.saw.size
    pass_over(state, entry.leaf)
    return found
