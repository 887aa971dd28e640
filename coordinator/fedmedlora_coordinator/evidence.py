"""What stays on the coordinator's disk of a finished session (PROTOCOL §4.6, decision G48).

Masked uploads and opened shares prove a published sum and are a liability afterwards: with them and a site's
pair keys, leaked later, its update could be opened. They stay while the members check the sum. Once the
round is over and the sum verified - T members have checked and accepted, and none disputes it - they are
shredded or kept, as the operator chose, and the log says which; a sum that was published and not verified
stays as evidence of who was wrong. Uploads of
aborted sessions and of sites that dropped out always go.
"""

from collections.abc import Collection

from fedmedlora_audit.event_data import InSession
from fedmedlora_audit.law import Session
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.ledger import Ledger
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_coordinator.settings import Evidence


def evidence_of(session: Session, opened: Collection[str]) -> set[str]:
    """Return the digests of what proves a published sum: uploads of U3, and shares opened before the sum.

    A response that came late has no payload, and could name anybody's; so could one that came in time and
    names what another event named before, such as the upload of a site that dropped out.

    Args:
        session: The session of the sum.
        opened: Digests that its responses were the first to name (`Payloads.opened`).
    """
    late = {site for kind, site in session.late if kind == "unmask.response"}
    in_time = {digest for site, digest in session.responses.items() if site not in late}
    return in_time.intersection(opened) | set(session.u3.values())


class EvidenceKeeper:
    """Settles what happens to the payloads of finished sessions; safe to repeat after a kill."""

    def __init__(self, ledger: Ledger, blobs: BlobStore, payloads: Payloads, policy: Evidence) -> None:
        """Take the log, the blobs with their roles, and the operator's choice."""
        self._ledger = ledger
        self._payloads = payloads
        self._blobs = blobs
        self._policy = policy

    def settle(self) -> None:
        """Shred what must not stay, then write what became of each published sum's evidence (R4.6.10).

        Shredding comes before the word in the log: after a kill in between it is repeated, and the log never
        says that something is gone which is not.
        """
        state = self._ledger.state
        if state.round is not None and state.round.sessions:
            return
        published = [session for session in state.sids.values() if session.published is not None]
        staying = [session for session in published if self._stays(session)]
        keep = self._payloads.lasting()
        for session in staying:
            keep |= evidence_of(session, self._payloads.opened(session.sid))
        # R3.2.4: what is in no published sum goes, whatever the operator chose.
        self._blobs.sweep(keep)
        for session in published:
            self._say(session, "kept" if session in staying else "shredded")

    def _stays(self, session: Session) -> bool:
        """Tell whether the evidence of a published sum stays on the disk."""
        state = self._ledger.state
        if session.evidence == "shredded":
            return False
        if session.disputed or len(session.accepted) < state.terms.threshold:
            return True  # R4.6.10: it is not verified; a reviewer can say who was wrong
        if self._policy.after_round == "shred":
            return False
        later = len(state.rounds) - session.round
        return self._policy.keep_rounds == 0 or later <= self._policy.keep_rounds

    def _say(self, session: Session, fate: str) -> None:
        if session.evidence not in (fate, "shredded"):
            self._ledger.write(f"evidence.{fate}", InSession(sid=session.sid), round_number=session.round)
