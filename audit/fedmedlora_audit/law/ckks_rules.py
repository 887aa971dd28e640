"""Rules of the CKKS suite: who answers with a decrypted sum, and which sum may be published (R6.16.8).

In this suite no share opens anything. The sum is what the holder of the key says, or T members who all hold
it: the coordinator adds nothing of its own, and the log proves it.
"""

from fedmedlora_audit.event_data import AggregatePublished, UnmaskResponse
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.rule import live_session, need
from fedmedlora_audit.law.state import State


def answers_by_custody(state: State, event: Event, _data: UnmaskResponse) -> None:
    """U6: who holds the key answers with the decrypted sum, everybody else with shares."""
    custody = state.terms.custody
    decrypts = custody is not None and custody.decrypts(event.actor.id)
    role = "decrypted-sum" if decrypts else "opened-shares"
    need(event.objects[0].role == role, "U6", f"{event.actor.id} has to answer with {role}")


def publishes_what_was_decrypted(state: State, event: Event, _data: AggregatePublished) -> None:
    """U6: the published sum is the one that the key holder signed, or that T members signed alike."""
    custody = state.terms.custody
    if custody is None:
        return
    responses, ring = live_session(state, event).responses, event.object_digest
    if custody.holder is not None:
        need(responses.get(custody.holder) == ring, "U6", "the key holder decrypted another sum")
        return
    alike = sum(digest == ring for digest in responses.values())
    need(alike >= state.terms.threshold, "U6", f"only {alike} sites decrypted this sum")
