"""Writing the notes of synthetic hospitals: filling templates, joining clauses, laying out sections.

Rules: a site's notes depend on the seed and on that hospital alone, so a federation of five holds the same
notes at its first four hospitals as a federation of four; no sentence occurs twice at one site; a patient's
names recur in that patient's notes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedmedlora_core.clinic.hospital import (
    CLINIC_TYPES,
    HOSPITAL_IDS,
    Hospital,
    Lexicon,
    load_hospital,
    shared_lexicon,
)
from fedmedlora_core.clinic.template import Slot, Template, Word
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.records import Entity, Note, Relation

SHARED_TEMPLATE_SHARE = 0.50
SHARED_NAME_SHARE = 0.50
SHARED_MODIFIER_SHARE = 0.45
OPEN_NAME_SHARE = 0.70
RECURRING_SHARE = 0.15
TWO_CLAUSE_SHARE = 0.45


@dataclass
class _Clause:
    """Words of a clause or sentence, its spans over word positions, and their links."""

    words: list[str] = field(default_factory=list)
    spans: list[tuple[str, int, int]] = field(default_factory=list)  # type, first word, one past the last
    links: list[tuple[int, int]] = field(default_factory=list)  # head span, modifier span

    def extend(self, other: _Clause) -> None:
        """Append another clause."""
        word, span = len(self.words), len(self.spans)
        self.words += other.words
        self.spans += [(kind, first + word, last + word) for kind, first, last in other.spans]
        self.links += [(head + span, tail + span) for head, tail in other.links]


def generate(
    site_count: int = 4,
    *,
    seed: int,
    sentences: int | Mapping[str, int] = 540,
    full_gold: bool = False,
) -> dict[str, list[Note]]:
    """Write the notes of a federation of synthetic hospitals.

    With the default of 540 sentences and 10 % of notes for validation and 15 % for the test, about 400
    sentences per site are left for training and 80 for the test.

    Args:
        site_count: How many hospitals, in the order of `HOSPITAL_IDS`.
        seed: Any whole number; everything follows from it.
        sentences: Sentences per site, or by site id (540 for sites not named).
        full_gold: Keep the spans that a hospital's annotators did not look for. The text is the same.

    Returns:
        Site id -> its notes, patient by patient.

    Raises:
        ConfigError: There are not so many hospitals.
    """
    if not 1 <= site_count <= len(HOSPITAL_IDS):
        raise ConfigError(f"site_count: expected 1 to {len(HOSPITAL_IDS)}, found {site_count}")
    counts = {} if isinstance(sentences, int) else sentences
    each = sentences if isinstance(sentences, int) else 540
    return {
        name: generate_hospital(name, seed=seed, sentences=counts.get(name, each), full_gold=full_gold)
        for name in HOSPITAL_IDS[:site_count]
    }


def generate_hospital(
    hospital_id: str, *, seed: int, sentences: int = 540, full_gold: bool = False
) -> list[Note]:
    """Write the notes of one synthetic hospital; see `generate`."""
    return _Writer(hospital_id, load_hospital(hospital_id), seed).notes(sentences, full_gold=full_gold)


class _Writer:
    """Writes one hospital's notes; holds its random stream and what was written so far."""

    def __init__(self, hospital_id: str, hospital: Hospital, seed: int) -> None:
        """Start the stream of this hospital and seed."""
        self._id = hospital_id
        self._hospital = hospital
        self._shared = shared_lexicon()
        self._random = random.Random(f"clinic|{seed}|{hospital_id}")  # noqa: S311 - synthetic text, no secret
        self._written: set[str] = set()
        self._known: dict[str, list[str]] = {}  # names in the notes of this patient
        self._used: set[str] = set()  # names in this sentence

    def notes(self, n_sentences: int, *, full_gold: bool) -> list[Note]:
        """Write notes until they hold this many sentences."""
        notes: list[Note] = []
        left, patient = n_sentences, 0
        while left > 0:
            patient += 1
            self._known = {}
            for number in range(1, self._random.choice((1, 2, 2, 3, 4)) + 1):
                if left <= 0:
                    break
                plan = self._plan(left)
                left -= sum(plan.values())
                note = self._note(f"{self._id}-{patient:04d}-{number}", f"{self._id}-{patient:04d}", plan)
                notes.append(note if full_gold else note.restricted_to(self._hospital.annotated))
        return notes

    def _plan(self, left: int) -> dict[int, int]:
        """How many sentences the next note has in which of the hospital's sections."""
        sections = range(len(self._hospital.sections))
        chosen = sorted(self._random.sample(sections, k=self._random.randint(2, len(sections))))
        plan: dict[int, int] = {}
        for section in chosen:
            count = min(self._random.choice((1, 1, 2, 2, 3)), left)
            if count:
                plan[section] = count
            left -= count
        return plan

    def _note(self, document_id: str, patient_id: str, plan: dict[int, int]) -> Note:
        """Write one note: its sections, each a heading and sentences."""
        text = ""
        entities: list[Entity] = []
        relations: list[Relation] = []
        for section, count in plan.items():
            heading, topic = self._hospital.sections[section]
            text += ("\n" if text else "") + heading
            for index in range(count):
                sentence = self._new_sentence(topic)
                text += "\n" if index and not self._hospital.full_stop else " "
                offsets, line = _offsets(sentence, self._hospital.letter_case)
                base, first = len(text), len(entities) + 1
                text += line + self._hospital.full_stop
                entities += [
                    Entity(f"T{first + k}", kind, base + start, base + end)
                    for k, (kind, start, end) in enumerate(offsets)
                ]
                relations += [
                    Relation(f"T{first + head}", offsets[tail][0], f"T{first + tail}")
                    for head, tail in sentence.links
                ]
        return Note(
            document_id, patient_id, text + "\n", tuple(entities), tuple(relations), frozenset(CLINIC_TYPES)
        )

    def _new_sentence(self, topic: str) -> _Clause:
        """Write a sentence that this site does not have yet."""
        while True:
            self._used.clear()
            sentence = self._clause(topic)
            if self._random.random() < TWO_CLAUSE_SHARE:
                sentence.extend(_Clause(words=self._random.choice(self._hospital.joiners).split()))
                sentence.extend(self._clause(topic))
            line = " ".join(sentence.words).lower()
            if line not in self._written:
                self._written.add(line)
                return self._misspell(sentence)

    def _clause(self, topic: str) -> _Clause:
        """Fill one template of the topic, shared or the hospital's own."""
        is_shared = self._random.random() < SHARED_TEMPLATE_SHARE
        lexicon = self._shared if is_shared else self._hospital
        template = self._random.choice(lexicon.parsed(topic))
        kept = {0, *(k for k in range(1, template.n_optional + 1) if self._random.random() < 0.5)}
        return self._fill(template, kept)

    def _fill(self, template: Template, kept: set[int]) -> _Clause:
        """Fill the slots of a template."""
        clause = _Clause()
        position: dict[str, int] = {}
        pending: list[tuple[tuple[str, ...], int]] = []
        for piece in template.pieces:
            if piece.optional not in kept:
                continue
            if isinstance(piece, Word):
                clause.words += self._hospital.abbreviations.get(piece.text, piece.text).split()
                continue
            start = len(clause.words)
            clause.words += self._filler(piece).split()
            clause.spans.append((piece.modifier or piece.entity_type, start, len(clause.words)))
            if piece.modifier is None:
                position[piece.heads[0]] = len(clause.spans) - 1
            else:
                pending.append((piece.heads, len(clause.spans) - 1))
        clause.links = [(position[head], tail) for heads, tail in pending for head in heads]
        return clause

    def _filler(self, slot: Slot) -> str:
        """The words for a slot."""
        if slot.choices:
            return self._random.choice(slot.choices)
        if slot.modifier is not None:
            shared = self._random.random() < SHARED_MODIFIER_SHARE
            lexicon = self._shared if shared else self._hospital
            return self._expand(self._random.choice(lexicon.modifiers[slot.modifier]), lexicon)
        name = self._name(slot.entity_type)
        while name in self._used:
            name = self._name(slot.entity_type)
        self._used.add(name)
        return name

    def _name(self, entity_type: str) -> str:
        """A name of this type: one that the patient's notes have already, or a new one."""
        known = self._known.setdefault(entity_type, [])
        if known and self._random.random() < RECURRING_SHARE:
            return self._random.choice(known)
        lexicon = self._shared if self._random.random() < SHARED_NAME_SHARE else self._hospital
        names = lexicon.names[entity_type]
        patterns = names.open if self._random.random() < OPEN_NAME_SHARE else names.fixed
        known.append(self._expand(self._random.choice(patterns), lexicon))
        return known[-1]

    def _expand(self, pattern: str, lexicon: Lexicon) -> str:
        """Put an entry of its list for each @part and a number for each <range> of a pattern."""

        def part(match: re.Match[str]) -> str:
            name = match.group(1)
            entries = lexicon.parts.get(name) or self._shared.parts[name]
            return self._random.choice(entries)

        def number(match: re.Match[str]) -> str:
            return str(self._random.randint(int(match.group(1)), int(match.group(2))))

        return re.sub(r"<(\d+)-(\d+)>", number, re.sub(r"@([a-z]+)~?", part, pattern))

    def _misspell(self, sentence: _Clause) -> _Clause:
        """Misspell some of the longer words, as the hospital's writers do."""
        rate = self._hospital.typo_percent / 100
        sentence.words = [
            self._misspelt(word)
            if len(word) > 4 and word.isalpha() and self._random.random() < rate
            else word
            for word in sentence.words
        ]
        return sentence

    def _misspelt(self, word: str) -> str:
        """Swap two letters inside a word, or leave one out."""
        k = self._random.randrange(1, len(word) - 2)
        if self._random.random() < 0.5:
            return word[:k] + word[k + 1] + word[k] + word[k + 2 :]
        return word[:k] + word[k + 1 :]


def _offsets(sentence: _Clause, letter_case: str) -> tuple[list[tuple[str, int, int]], str]:
    """The spans of a sentence in characters, and its line."""
    starts, place = [], 0
    for word in sentence.words:
        starts.append(place)
        place += len(word) + 1
    line = " ".join(sentence.words)
    if letter_case == "lower":
        line = line.lower()
    elif letter_case == "capitalise":
        line = line[:1].upper() + line[1:]
    spans = [
        (kind, starts[first], starts[last - 1] + len(sentence.words[last - 1]))
        for kind, first, last in sentence.spans
    ]
    return spans, line
