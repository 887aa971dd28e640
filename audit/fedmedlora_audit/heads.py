"""Heads and journals fetched from the sites: what the bundle must agree with (AUDIT "Heads").

A coordinator that cut the log, forked it or kept a refusal out of it can be found with one honest site's
own files.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from fedmedlora_audit.checkpoint import open_checkpoint
from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.event_data import StepRefused
from fedmedlora_audit.events import Event
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.trust import Trust

HEAD_NAMES: Final = ("{site}/checkpoint", "{site}.checkpoint", "{site}/run/mirror/checkpoint")
JOURNAL_NAMES: Final = ("{site}/journal.jsonl", "{site}.journal.jsonl", "{site}/run/journal.jsonl")


class FetchedHead(NamedTuple):
    """A head fetched from a site: its size (None if it could not be opened), and whether it agrees."""

    size: int | None
    agrees: bool


@dataclass(slots=True)
class JudgedHeads:
    """What was found: (check, sentence, file), each site's head, and how much was looked at."""

    findings: list[tuple[str, str, str]] = field(default_factory=list)
    fetched: dict[str, FetchedHead] = field(default_factory=dict)
    heads: int = 0
    journals: int = 0
    refusals: int = 0


def judge_heads(folder: Path, trust: Trust, tree: Tree, events: Sequence[Event]) -> JudgedHeads:
    """Compare the sites' own heads and journals with the log.

    Args:
        folder: Holds ``<site>/checkpoint`` and ``<site>/journal.jsonl`` per site, or the sites' own folders.
        trust: Names the members and the log's key.
        tree: The tree of the bundle's entries.
        events: The bundle's events.
    """
    judged = JudgedHeads()
    for site in trust.members:
        head = _first(folder, HEAD_NAMES, site)
        if head is not None:
            judged.heads += 1
            _judge_head(judged, head, site, trust, tree)
        journal = _first(folder, JOURNAL_NAMES, site)
        if journal is not None:
            judged.journals += 1
            _judge_journal(judged, journal, site, events)
    return judged


def _first(folder: Path, names: Sequence[str], site: str) -> Path | None:
    paths = (folder / name.format(site=site) for name in names)
    return next((path for path in paths if path.is_file()), None)


def _judge_head(judged: JudgedHeads, path: Path, site: str, trust: Trust, tree: Tree) -> None:
    """C4, C6: a head that the log's key signed for a site is a head of this very log."""
    try:
        key = VerifierKey.parse(trust.log_vkey)
        head = open_checkpoint(path.read_bytes(), key, origin=trust.origin)
    except (AuditError, OSError):
        judged.fetched[site] = FetchedHead(None, agrees=False)
        judged.findings.append(("C6", f"the head of {site} is not signed by the log", str(path)))
        return
    agrees = head.size <= tree.size and tree.root(head.size) == head.root
    judged.fetched[site] = FetchedHead(head.size, agrees)
    if head.size > tree.size:
        sentence = f"{site} holds a head over {head.size} entries, the bundle has {tree.size}: it was cut"
        judged.findings.append(("C6", sentence, str(path)))
    elif not agrees:
        sentence = f"{site} holds a head over another history of {head.size} entries"
        judged.findings.append(("C4", sentence, str(path)))
        judged.findings.append(("C6", sentence, str(path)))


def _judge_journal(judged: JudgedHeads, path: Path, site: str, events: Sequence[Event]) -> None:
    """J1: what a site refused, the log says, too."""
    logged = {
        (event.data.step, event.data.reason, event.round)
        for event in events
        if event.actor.id == site and isinstance(event.data, StepRefused)
    }
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        judged.findings.append(("J1", f"the journal of {site} cannot be read", str(path)))
        return
    for line in lines[:-1]:  # a torn last line was never acted on
        try:
            row = json.loads(line)
            refusal = (
                str(row["step"]),
                str(row["reason"]),
                None if row["round"] is None else int(row["round"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            judged.findings.append(("J1", f"the journal of {site} has a line that is none", str(path)))
            continue
        judged.refusals += 1
        if refusal not in logged:
            sentence = f"{site} refused {refusal[0]} ({refusal[1]}) and the log does not say so"
            judged.findings.append(("J1", sentence, str(path)))
