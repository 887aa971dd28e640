"""What stays on the coordinator's disk of a finished session (PROTOCOL §5.4, decision G48).

Masked uploads and opened shares prove a published sum and are a liability afterwards: with them and a site's
pair keys, leaked later, its update could be opened. After a published sum they are shredded or kept, as the
operator chose, and the log says which. Uploads of aborted sessions and of sites that dropped out always go.
"""

from typing import Literal

from fedmedlora_audit.event_data import InSession
from fedmedlora_audit.law import Session
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.ledger import Ledger
from fedmedlora_coordinator.payloads import Payloads


class EvidenceKeeper:
    """Settles what happens to the payloads of finished sessions; safe to repeat after a kill."""

    def __init__(
        self, ledger: Ledger, blobs: BlobStore, payloads: Payloads, after_round: Literal["shred", "keep"]
    ) -> None:
        """Take the log, the blobs with their roles, and the operator's choice."""
        self._ledger = ledger
        self._payloads = payloads
        self._blobs = blobs
        self._keep = after_round == "keep"

    def settle(self) -> None:
        """Delete what must not stay, then write what became of each published sum's evidence."""
        state = self._ledger.state
        if state.round is not None and state.round.sessions:
            return
        settled = {
            entry.event.sid
            for entry in self._ledger.entries
            if entry.event.type in ("evidence.kept", "evidence.shredded")
        }
        published = [s for s in state.sids.values() if s.published is not None]
        keep = self._payloads.lasting()
        for session in published:
            if self._keep:
                keep |= {*session.u3.values(), *session.responses.values()}
        # R3.2.4: what is in no published sum goes, whatever the operator chose.
        self._blobs.sweep(keep)
        for session in published:
            if session.sid not in settled:
                self._say(session)

    def _say(self, session: Session) -> None:
        kind = "evidence.kept" if self._keep else "evidence.shredded"
        self._ledger.write(kind, InSession(sid=session.sid), round_number=session.round)
