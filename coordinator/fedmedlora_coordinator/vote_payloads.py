"""Which payloads are those of votes, and when members may fetch them (PROTOCOL §4.7, R4.7.5).

Uploads and opened shares of updates are for the coordinator alone. Those of a vote are shown once the count
is published, so that every voter can count again; they give what the coordinator had, the opened sum.
"""

from fedmedlora_audit.event_data import SessionOpened, SurvivorsFixed, VotesCounted
from fedmedlora_audit.events import Event


class VotePayloads:
    """What the log has said about payloads of votes so far."""

    def __init__(self) -> None:
        """Start with no vote."""
        self._payloads: dict[str, set[str]] = {}
        self._first: dict[str, str | None] = {}  # digest -> session of the event that named it first
        self._counted: set[str] = set()

    def learn(self, event: Event) -> None:
        """Take one event of the log in, in order."""
        for item in event.objects:
            self._first.setdefault(item.digest, event.sid)
        if isinstance(event.data, SessionOpened) and event.data.purpose == "score":
            self._payloads[event.data.sid] = set()
        found = self._payloads.get(event.sid or "")
        if found is None or event.sid is None:
            return
        if isinstance(event.data, SurvivorsFixed):
            found.update(row.digest for row in event.data.u3)
        elif event.type == "unmask.response":
            found.update(item.digest for item in event.objects)
        elif isinstance(event.data, VotesCounted):
            self._counted.add(event.sid)

    def is_vote(self, sid: str | None) -> bool:
        """Whether a session is a vote's."""
        return sid in self._payloads

    def is_shown(self, digest: str) -> bool:
        """Whether a blob is a survivor's upload or an opened share of a counted vote.

        An upload of a site that dropped out of the vote is never shown, nor is a blob that was another
        session's before: a voter could name another site's update as its vote, to have it shown.
        """
        sid = self._first.get(digest)
        return sid in self._counted and digest in self._payloads[str(sid)]
