"""What the bundle says about the rounds, for the demo's table and report.

The bundle is folded by the same law that coordinator, sites and verifier use; the verdict on it is the
verifier's business, not this module's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmedlora_audit.bundle import read_files
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.events import Entry, entry_of, parse_event
from fedmedlora_audit.law import State, apply
from fedmedlora_audit.tiles import read_entries
from fedmedlora_cli.demo.parties import DemoError
from fedmedlora_core.study import Study


@dataclass(frozen=True)
class RoundRow:
    """One round as the log has it.

    Args:
        round: Number from 1.
        outcome: "closed", "aborted", "rolled_back" or "open".
        survivors: Sites in the sum (U3).
        dropped: Members that are not in it.
        responses: Sites that opened shares.
        weight_sum: Sum of the weights, or None without an aggregate.
        ring: Digest of the integer ring sum, or None.
        next_base: Digest of the adapter that the sum leads to, or None.
        voters: Sites that voted on it, or None without a counted vote.
        against: How many of them found it worse.
    """

    round: int
    outcome: str
    survivors: tuple[str, ...]
    dropped: tuple[str, ...]
    responses: tuple[str, ...]
    weight_sum: int | None
    ring: str | None
    next_base: str | None
    voters: int | None = None
    against: int | None = None


def read_log(bundle: Path, study: Study) -> tuple[State, list[Entry]]:
    """Fold a bundle's entries.

    Raises:
        DemoError: The bundle cannot be read.
        LawError: An entry breaks the law.
    """
    files, problems = read_files(bundle)
    if problems:
        raise DemoError(f"{bundle}: {problems[0]}")
    state = State.begin(CharterTerms.from_json(study.canonical_json()))
    size = int(files["checkpoint"].split(b"\n")[1])
    notes, problem = read_entries(files, size)
    if problem is not None:
        raise DemoError(f"{bundle}: {problem}")
    entries = []
    for index, note in enumerate(notes):
        entry = entry_of(index, note, parse_event(note).event)
        apply(state, entry)
        entries.append(entry)
    return state, entries


def read_rounds(bundle: Path, study: Study) -> list[RoundRow]:
    """Read every round of a bundle, in order."""
    state, _ = read_log(bundle, study)
    found = []
    for number, current in sorted(state.rounds.items()):
        session = current.summed or (current.sessions[-1] if current.sessions else None)
        counted = current.vote.counted if current.vote else None
        survivors = tuple(sorted(session.u3)) if session else ()
        published = session.published if session else None
        found.append(
            RoundRow(
                round=number,
                outcome=current.outcome or "open",
                survivors=survivors,
                dropped=tuple(sorted(set(study.member_ids) - set(survivors))),
                responses=tuple(sorted(session.responses)) if session else (),
                weight_sum=published.weight_sum if published else None,
                ring=session.ring if session and published else None,
                next_base=published.next_base if published else None,
                voters=counted.voters if counted else None,
                against=counted.against if counted else None,
            )
        )
    return found


def round_rows(bundle: Path, study: Study) -> list[dict[str, Any]]:
    """Rounds as `result.json` carries them."""
    return [asdict(row) for row in read_rounds(bundle, study)]


def bytes_up_per_round(bundle: Path, study: Study) -> int:
    """Most bytes that one site sent in one round: payload blobs and signed events, as logged.

    The frames of TLS and gRPC come on top: about one part in a hundred at the demo's size, less above.
    """
    _, entries = read_log(bundle, study)
    sent: dict[tuple[str, int], int] = {}
    for entry in entries:
        event = entry.event
        if event.actor.role == "site" and event.round is not None:
            key = (event.actor.id, event.round)
            sent[key] = sent.get(key, 0) + len(entry.note) + sum(item.bytes for item in event.objects)
    return max(sent.values(), default=0)
