"""What the witnesses' cosignatures prove about a bundle: C3, E8 and the heads half of U1 (AUDIT "Witnesses").

A bundle carries every head that a quorum has cosigned as ``heads/<size>``, and its checkpoint with the lines
that there are. A quorum shows that most hospitals saw one history; the times are theirs, not the authors'.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from fedmedlora_audit import bundle as of
from fedmedlora_audit.checkpoint import open_checkpoint
from fedmedlora_audit.cosignature import CosignedHead, open_cosigned
from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.events import Entry
from fedmedlora_audit.law import State
from fedmedlora_audit.member_keys import KeyBook
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.trust import Trust

HEADS: Final = "heads/"
"""Folder of a bundle with the cosigned heads, each named by its size."""
SKEW_SECONDS: Final = 300
"""How far an author's clock may be from the witnesses'."""


@dataclass(slots=True)
class JudgedWitnesses:
    """What was found: (check, sentence, entry index, file), and the heads that count.

    Attributes:
        findings: What is wrong.
        heads: All heads that could be opened, by size, those without a quorum included.
        quorums: Sizes of the heads with a quorum, in order.
        timed: Events whose time was judged.
    """

    findings: list[tuple[str, str, int | None, str | None]] = field(default_factory=list)
    heads: dict[int, CosignedHead] = field(default_factory=dict)
    quorums: list[int] = field(default_factory=list)
    timed: int = 0

    @property
    def covered(self) -> int:
        """Entries under the newest head with a quorum."""
        return self.quorums[-1] if self.quorums else 0


class _Keys(NamedTuple):
    """The keys that heads are opened with, parsed once for all of them, and the one origin accepted."""

    log: VerifierKey
    book: KeyBook
    origin: str


def judge_witnesses(
    files: Mapping[str, bytes],
    trust: Trust,
    tree: Tree,
    book: KeyBook,
    *,
    entries: Sequence[Entry],
    state: State | None,
    demanded: bool,
) -> JudgedWitnesses:
    """Judge the cosigned heads of a bundle.

    Args:
        files: The bundle's files by path.
        trust: Names the witnesses and the quorum.
        tree: The tree of the bundle's entries.
        book: The members' keys over the whole log: each head is opened with those of its size.
        entries: The entries that could be read and folded.
        state: Where the log leads, or None if the law could not be applied.
        demanded: Whether the charter lets nothing be opened without a quorum.
    """
    judged = JudgedWitnesses()
    keys = _Keys(
        VerifierKey.parse(trust.log_vkey),
        book,
        trust.origin,
    )
    names = [of.CHECKPOINT, *sorted(path for path in files if path.startswith(HEADS))]
    for name in names:
        if name in files:
            _judge_head(judged, name, files[name], keys, tree)
    judged.quorums = sorted(s for s, head in judged.heads.items() if len(head.times) >= trust.quorum)
    awaited: dict[int, int] = {}
    if demanded and state is not None:
        _judge_openings(judged, state, entries)
        awaited = _awaited(judged, state)
    _judge_times(judged, entries, awaited)
    return judged


def _judge_head(judged: JudgedWitnesses, name: str, note: bytes, keys: _Keys, tree: Tree) -> None:
    """C2, C3, C4: one head, its lines, and whether it is a head of this log."""
    try:
        size = open_checkpoint(note, keys.log, origin=keys.origin).size
        head = open_cosigned(note, keys.log, keys.book.witnesses_at(size), origin=keys.origin)
    except AuditError as error:
        if name != of.CHECKPOINT or error.check == "C3":  # the checkpoint's own signature is judged apart
            judged.findings.append((error.check, f"{name}: {error.sentence}", None, name))
        return
    if name not in (of.CHECKPOINT, f"{HEADS}{size}"):
        judged.findings.append(("C2", f"{name}: holds the head over {size} entries", None, name))
    elif size > tree.size or tree.root(size) != head.checkpoint.root:
        judged.findings.append(("C4", f"{name}: is a head of another history", None, name))
    elif size not in judged.heads or len(judged.heads[size].times) < len(head.times):
        judged.heads[size] = head


def _judge_openings(judged: JudgedWitnesses, state: State, entries: Sequence[Entry]) -> None:
    """U1: before anything of a session was opened, a quorum had cosigned its list of survivors (R5.6.5)."""
    first_response: dict[str, int] = {}
    for entry in entries:
        if entry.event.type == "unmask.response":
            first_response.setdefault(str(getattr(entry.event.data, "sid", "")), entry.index)
    for sid, index in first_response.items():
        session = state.sids.get(sid)
        if session is None:
            continue
        newest = bisect_right(judged.quorums, index)
        if newest == 0 or judged.quorums[newest - 1] <= session.u3_index:
            sentence = f"shares of round {session.round} were opened before a quorum cosigned its survivors"
            judged.findings.append(("U1", sentence, index, None))


def _awaited(judged: JudgedWitnesses, state: State) -> dict[int, int]:
    """When a quorum had cosigned, by index of the entry that had to wait for it (R5.6.2).

    Nothing else of a log waits for a cosignature: a head may be hours old before the witnesses see it, when
    the coordinator was cut off, and what was appended meanwhile is honest. The median is of all lines, so
    one that came after the quorum was complete moves it no later than the quorum's last.
    """
    quorums = set(judged.quorums)
    return {
        session.request_index: judged.heads[session.u3_index + 1].median_time
        for session in sorted(state.sids.values(), key=lambda session: session.request_index)
        if session.request_index >= 0 and session.u3_index + 1 in quorums
    }


def _judge_times(judged: JudgedWitnesses, entries: Sequence[Entry], awaited: Mapping[int, int]) -> None:
    """E8: an event is older than the quorum over it and younger than each quorum that was waited for."""
    medians = [judged.heads[size].median_time for size in judged.quorums]
    waits = list(awaited)
    for entry in entries:
        covering = bisect_right(judged.quorums, entry.index)
        if covering == len(judged.quorums):
            return  # nothing covers what follows
        judged.timed += 1
        time = datetime.fromisoformat(entry.event.time).timestamp()
        if time > medians[covering] + SKEW_SECONDS:
            sentence = f"{entry.event.actor.id} dates it after the witnesses had seen it"
            judged.findings.append(("E8", sentence, entry.index, None))
        known = bisect_left(waits, entry.index + 1 if entry.index in awaited else entry.event.saw.size)
        if known and time < awaited[waits[known - 1]] - SKEW_SECONDS:
            sentence = f"{entry.event.actor.id} dates it before the witnesses had seen what it answers"
            judged.findings.append(("E8", sentence, entry.index, None))
