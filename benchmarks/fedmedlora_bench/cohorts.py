"""The sites that `bench ie` compares on: open corpora as hospitals, or the synthetic clinic.

A cohort is what a federation looks like from outside: each site with its own notes and its own idea of what
to annotate, and cohorts that nobody trains on. Subsampling keeps the beginnings of notes, because scores and
schemas need whole sentences and their relations, not whole documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedmedlora_core.clinic import HOSPITAL_IDS, generate
from fedmedlora_core.labels import CLINICAL
from fedmedlora_core.records import Note
from fedmedlora_core.sentences import split_sentences
from fedmedlora_core.splits import Splits, split_by_patient

__all__ = ["Cohort", "SizeLimits", "annotated_types", "clinic_cohort", "cut_notes", "excerpt", "split_cohort"]


@dataclass(frozen=True)
class SizeLimits:
    """How much of each site is used.

    Args:
        train: Training sentences of a site; None for all.
        validation: Validation sentences of a site.
        test: Test sentences of a site.
        per_note: Sentences taken from one note, so that a cut keeps many notes rather than a few whole ones.
    """

    train: int | None = None
    validation: int | None = None
    test: int | None = None
    per_note: int | None = None


@dataclass(frozen=True)
class Cohort:
    """Sites that take part and sites that do not.

    Args:
        name: "clinic" or "corpora".
        sites: Site id to its notes; these train.
        outside: Name to notes that nobody trains on.
    """

    name: str
    sites: Mapping[str, Sequence[Note]]
    outside: Mapping[str, Sequence[Note]] = field(default_factory=dict)


def clinic_cohort(*, seed: int, site_count: int, sentences: int) -> Cohort:
    """Generate synthetic hospitals; the one after the last that trains stays outside."""
    count = min(site_count + 1, len(HOSPITAL_IDS))
    hospitals = generate(count, seed=seed, sentences=sentences)
    names = list(hospitals)
    return Cohort(
        "clinic",
        {name: hospitals[name] for name in names[:site_count]},
        {name: hospitals[name] for name in names[site_count:]},
    )


def split_cohort(notes: Sequence[Note], *, seed: int, limits: SizeLimits) -> Splits:
    """Split one site's notes by patient (10 % validation, 20 % test) and cut each part."""
    splits = split_by_patient(notes, seed=seed, validation_fraction=0.1, test_fraction=0.2)
    return Splits(
        train=cut_notes(splits.train, limits.train, limits.per_note),
        validation=cut_notes(splits.validation, limits.validation, limits.per_note),
        test=cut_notes(splits.test, limits.test, limits.per_note),
    )


def cut_notes(notes: Sequence[Note], sentences: int | None, per_note: int | None) -> tuple[Note, ...]:
    """Take notes in order, each at most `per_note` sentences long, until `sentences` are reached."""
    found: list[Note] = []
    total = 0
    for note in notes:
        if sentences is not None and total >= sentences:
            break
        room = None if sentences is None else sentences - total
        wanted = min((n for n in (room, per_note) if n is not None), default=None)
        part, count = (note, len(split_sentences(note.text))) if wanted is None else excerpt(note, wanted)
        if part.text.strip():
            found.append(part)
            total += count
    return tuple(found)


def excerpt(note: Note, sentences: int) -> tuple[Note, int]:
    """Cut a note to its first annotated stretch of so many sentences.

    Returns:
        (the note from the sentence of its first entity on, with the entities and relations that lie in it,
        how many sentences it has).
    """
    found = split_sentences(note.text)
    if not found:
        return replace(note, text="", entities=(), relations=()), 0
    earliest = min((entity.start for entity in note.entities), default=0)
    first = next((i for i, sentence in enumerate(found) if sentence.end > earliest), 0)
    kept = found[first : first + sentences]
    start, end = kept[0].start, kept[-1].end
    entities = tuple(
        replace(entity, start=entity.start - start, end=entity.end - start)
        for entity in note.entities
        if start <= entity.start and entity.end <= end
    )
    names = {entity.id for entity in entities}
    relations = tuple(r for r in note.relations if r.head in names and r.tail in names)
    return replace(note, text=note.text[start:end], entities=entities, relations=relations), len(kept)


def annotated_types(notes: Sequence[Note]) -> tuple[str, ...]:
    """Types of the clinical schema that a site annotated in any note, in schema order."""
    found = {name for note in notes for name in note.annotated}
    return tuple(name for name in CLINICAL.types if name in found)
