"""Which payloads every member counts again, and when it may fetch them (PROTOCOL §4.7, R4.7.5, R4.15.6).

Uploads and opened shares of updates are for the coordinator alone. Those of a vote, and of validation counts,
are shown once the count is published, so that every site in it can count again; they give what the
coordinator had, the opened sum.
"""

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import SessionOpened, SurvivorsFixed, VotesCounted
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.state import COUNTS
from fedmedlora_audit.validation_data import ValidationCounted
from fedmedlora_core.vote import vote_length

_WORD = 4


class RecountedPayloads:
    """What the log has said about payloads of votes and validation counts so far.

    Args:
        terms: The charter.
    """

    def __init__(self, terms: CharterTerms) -> None:
        """Start with no session."""
        self._terms = terms
        self._payloads: dict[str, set[str]] = {}
        self._bytes: dict[str, int] = {}  # sid -> size of an upload
        self._first: dict[str, str | None] = {}  # digest -> session of the event that named it first
        self._counted: set[str] = set()

    def learn(self, event: Event) -> None:
        """Take one event of the log in, in order."""
        fresh = {item.digest for item in event.objects if item.digest not in self._first}
        for item in event.objects:
            self._first.setdefault(item.digest, event.sid)
        if isinstance(event.data, SessionOpened) and event.data.purpose != "update":
            self._payloads[event.data.sid] = set()
            self._bytes[event.data.sid] = _WORD * self._length(event.data)
        found = self._payloads.get(event.sid or "")
        if found is None or event.sid is None:
            return
        if isinstance(event.data, SurvivorsFixed):
            found.update(row.digest for row in event.data.u3)
        elif event.type == "unmask.response" and event.sid not in self._counted:
            found |= fresh
        elif isinstance(event.data, VotesCounted | ValidationCounted):
            self._counted.add(event.sid)

    def _length(self, opened: SessionOpened) -> int:
        rules = self._terms.validation
        if opened.purpose == COUNTS and rules is not None:
            return rules.length(opened.ready, self._terms.threshold)
        return vote_length(self._terms.n)

    def upload_bytes(self, sid: str | None) -> int | None:
        """Size of an upload of a session of votes or counts; None for another session."""
        return self._bytes.get(sid or "")

    def is_shown(self, digest: str) -> bool:
        """Whether a blob is a survivor's upload or an opened share of a session that was counted.

        An upload of a site that dropped out of it is never shown, nor is a blob that was another session's
        before: a site could name another's update as its vote, or a dropped site's vote as its opened shares,
        to have it shown. Nor is what a response names that came after the count: its payload was not checked.
        """
        sid = self._first.get(digest)
        return sid in self._counted and digest in self._payloads[str(sid)]
