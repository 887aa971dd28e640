"""Near duplicates among notes: copied-forward notes, templates, the same report under two numbers.

Two notes are near duplicates where the sets of their runs of five words (lower-case letters and digits; a
shorter note is one run) have a Jaccard index of at least 0.5: at most one word in fifteen changed, when the
changes lie apart, and more when they lie together. Near duplicates of near duplicates are of the same
group, and a split keeps a group on one side, so that no test note is one that training has seen.

The search is exact: no pair at or above the threshold is missed. Each note's runs are put in order, the
rarest first; two notes that are that similar must share one of the first few (a prefix filter), so only
notes that share one are compared. Who shares a run is kept by group, and a note passes over a whole group
that it has joined in one step: a thousand copies of a template cost no more than a thousand other notes.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from fedmedlora_core.records import Note

SHINGLE_WORDS = 5
THRESHOLD = 0.5

_WORD = re.compile(r"\w+")
KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """What a search for near duplicates found.

    Args:
        notes: Notes that have a near duplicate.
        groups: Groups that they form.
        across_patients: Groups with notes of more than one patient.
        largest: Notes in the largest group; 0 where there is none.
    """

    notes: int = 0
    groups: int = 0
    across_patients: int = 0
    largest: int = 0


class Groups(Generic[KeyT]):
    """Things that belong together, joined pair by pair."""

    def __init__(self) -> None:
        """Begin with every thing alone."""
        self._parent: dict[KeyT, KeyT] = {}

    def root(self, key: KeyT) -> KeyT:
        """The one thing that stands for all that belong with `key`."""
        path = []
        while (parent := self._parent.get(key, key)) != key:
            path.append(key)
            key = parent
        for passed in path:
            self._parent[passed] = key
        return key

    def join(self, one: KeyT, other: KeyT) -> None:
        """Let two things, and all that belong with them, belong together."""
        self._parent[self.root(other)] = self.root(one)


def mark_near_duplicates(notes: Sequence[Note]) -> tuple[tuple[Note, ...], NearDuplicates]:
    """Find near duplicates and name each one's group in the note.

    Args:
        notes: The notes of one site; a split must be made of these very notes.

    Returns:
        The notes, with `near` set to the smallest document id of their group or to None, and the counts.
    """
    groups: Groups[int] = Groups()
    for one, other in _similar_pairs([shingles(note.text) for note in notes], groups):
        groups.join(one, other)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index in range(len(notes)):
        members[groups.root(index)].append(index)
    names: dict[int, str] = {}
    found = [group for group in members.values() if len(group) > 1]
    for group in found:
        name = min(notes[index].document_id for index in group)
        names.update(dict.fromkeys(group, name))
    counts = NearDuplicates(
        notes=len(names),
        groups=len(found),
        across_patients=sum(len({notes[index].patient_key for index in group}) > 1 for group in found),
        largest=max(map(len, found), default=0),
    )
    return tuple(replace(note, near=names.get(index)) for index, note in enumerate(notes)), counts


def shingles(text: str) -> frozenset[str]:
    """The runs of five words of a text; the whole of a shorter one; none of one without words."""
    words = _WORD.findall(text.lower())
    if not words:
        return frozenset()
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return frozenset(" ".join(words[start : start + SHINGLE_WORDS]) for start in range(last))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared runs over all runs; 0 for texts without words."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def _similar_pairs(sets: list[frozenset[str]], groups: Groups[int]) -> Iterable[tuple[int, int]]:
    """Pairs at or above the threshold; those that `groups` has together already are not compared again."""
    counts = Counter(run for runs in sets for run in runs)
    holders: defaultdict[str, dict[int, list[int]]] = defaultdict(dict)
    for index, runs in enumerate(sets):
        rarest = sorted(runs, key=lambda run: (counts[run], run))
        prefix = rarest[: len(runs) - math.ceil(THRESHOLD * len(runs)) + 1]
        compared: set[int] = set()
        for run in prefix:
            holders[run] = _regrouped(holders[run], groups)
            for group, members in holders[run].items():
                for other in members:
                    if groups.root(index) == groups.root(group):
                        break
                    if other not in compared:
                        compared.add(other)
                        if jaccard(runs, sets[other]) >= THRESHOLD:
                            yield other, index
            holders[run].setdefault(groups.root(index), []).append(index)


def _regrouped(holders: dict[int, list[int]], groups: Groups[int]) -> dict[int, list[int]]:
    """The notes that hold a run, by the group that they are in by now."""
    if all(groups.root(group) == group for group in holders):
        return holders
    found: dict[int, list[int]] = {}
    for group, members in holders.items():
        found.setdefault(groups.root(group), []).extend(members)
    return found
