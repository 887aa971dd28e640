"""Scoring predicted notes against gold notes: entities and relation triples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fedmedlora_core.labels import CLINICAL, LabelSet
from fedmedlora_core.records import Note, Span
from fedmedlora_core.scores.counts import Counts, MatchScore, Scores
from fedmedlora_core.scores.matching import Tokens, largest_matching

ANY_TYPE = "any"
"""The one type of a type-blind score."""

SpanFilter: TypeAlias = Callable[[Note, Span], bool]
"""Says of a span in a note whether it belongs to the part that is scored."""


@dataclass(frozen=True, slots=True)
class _Item:
    """What is compared: a type and one or more spans that must all fit; `origin` decides subsets."""

    type: str
    spans: tuple[Span, ...]
    origin: Span


def score_entities(
    gold: Sequence[Note],
    predicted: Sequence[Note],
    *,
    labels: LabelSet = CLINICAL,
    types: Collection[str] | None = None,
    type_blind: bool = False,
    only: SpanFilter | None = None,
) -> Scores:
    """Score predicted entities.

    Args:
        gold: Gold notes; each note's `annotated` says what is scored in it.
        predicted: The same documents with predicted spans, in any order.
        labels: Label set; its entity types are scored.
        types: Score as if only these types had been annotated, for example by one site; all by default.
        type_blind: Ignore types, as the authors' headline figure does.
        only: Score a subset, for example `unseen_in(training_notes)`. Matching is done on all spans; then
            gold of the subset and predictions of the subset that matched no gold are counted.

    Returns:
        Strict and lenient scores.

    Raises:
        ValueError: The two do not hold the same documents.
    """
    return Scores.total(
        score for _, score in _score_pairs(gold, predicted, _entity_items(labels, types, type_blind), only)
    )


def score_relations(
    gold: Sequence[Note],
    predicted: Sequence[Note],
    *,
    labels: LabelSet = CLINICAL,
    types: Collection[str] | None = None,
    type_blind: bool = False,
    check_head: bool = True,
    only: SpanFilter | None = None,
) -> Scores:
    """Score predicted relations as triples (head span, type, tail span).

    Whether the heads were predicted or given is a property of the predictions, not of this function: score
    both and report them under their own names.

    Args:
        gold: Gold notes; a relation is scored where head type, relation type and tail type were annotated.
        predicted: The same documents with predicted relations, in any order.
        labels: Label set that says which head types are entities.
        types: Score as if only these types had been annotated, for example by one site; all by default.
        type_blind: Ignore all types, compare spans alone.
        check_head: False for the authors' variant, which does not check to which entity a modifier belongs.
        only: Score a subset by the head span.

    Returns:
        Strict and lenient scores.

    Raises:
        ValueError: The two do not hold the same documents.
    """
    items = _relation_items(labels, types, type_blind, check_head)
    return Scores.total(score for _, score in _score_pairs(gold, predicted, items, only))


def score_entities_by_patient(
    gold: Sequence[Note],
    predicted: Sequence[Note],
    *,
    labels: LabelSet = CLINICAL,
    types: Collection[str] | None = None,
    only: SpanFilter | None = None,
) -> list[Scores]:
    """Score entities patient by patient, in a fixed order: the units of a bootstrap."""
    return _by_patient(_score_pairs(gold, predicted, _entity_items(labels, types, False), only))


def score_relations_by_patient(
    gold: Sequence[Note],
    predicted: Sequence[Note],
    *,
    labels: LabelSet = CLINICAL,
    types: Collection[str] | None = None,
    only: SpanFilter | None = None,
) -> list[Scores]:
    """Score relation triples patient by patient, in a fixed order: the units of a bootstrap."""
    return _by_patient(_score_pairs(gold, predicted, _relation_items(labels, types, False, True), only))


def mention_surfaces(notes: Iterable[Note], types: Collection[str] | None = None) -> frozenset[str]:
    """The strings, in lower case, under which spans (of these types) occur in notes."""
    return frozenset(
        note.text_of(entity).lower()
        for note in notes
        for entity in note.entities
        if types is None or entity.type in types
    )


def unseen_in(training: Iterable[Note]) -> SpanFilter:
    """The subset of mentions whose string, in lower case, is no span of the training notes."""
    known = mention_surfaces(training)

    def is_unseen(note: Note, span: Span) -> bool:
        return note.text_of(span).lower() not in known

    return is_unseen


_Items: TypeAlias = Callable[[Note, frozenset[str]], list[_Item]]


def _entity_items(labels: LabelSet, types: Collection[str] | None, type_blind: bool) -> _Items:
    """How to read the entities of a note that are to be scored."""
    wanted = frozenset(labels.entities) if types is None else frozenset(labels.entities) & frozenset(types)

    def items(note: Note, annotated: frozenset[str]) -> list[_Item]:
        spans = {entity.span for entity in note.entities if entity.type in wanted & annotated}
        return _distinct(
            _Item(*(ANY_TYPE, (_untyped(span),)) if type_blind else (span.type, (span,)), origin=span)
            for span in sorted(spans)
        )

    return items


def _relation_items(
    labels: LabelSet, types: Collection[str] | None, type_blind: bool, check_head: bool
) -> _Items:
    """How to read the relations of a note that are to be scored."""
    wanted = None if types is None else frozenset(types)

    def items(note: Note, annotated: frozenset[str]) -> list[_Item]:
        found = []
        scored = annotated if wanted is None else annotated & wanted
        for head, relation_type, tail in sorted(set(note.triples())):
            if not {head.type, relation_type, tail.type} <= scored or head.type not in labels.entities:
                continue
            spans = (head, tail) if check_head else (tail,)
            if type_blind:
                found.append(_Item(ANY_TYPE, tuple(_untyped(span) for span in spans), origin=head))
            else:
                found.append(_Item(relation_type, spans, origin=head))
        return _distinct(found)

    return items


def _untyped(span: Span) -> Span:
    """The span without its type."""
    return Span(span.start, span.end, ANY_TYPE)


def _distinct(items: Iterable[_Item]) -> list[_Item]:
    """Equal items once, in order."""
    return list({(item.type, item.spans): item for item in items}.values())


def _score_pairs(
    gold: Sequence[Note], predicted: Sequence[Note], items: _Items, only: SpanFilter | None
) -> list[tuple[str, Scores]]:
    """Score document by document; (patient, scores) in the order of the gold notes."""
    by_id = {note.document_id: note for note in predicted}
    if len(by_id) != len(predicted) or len({note.document_id for note in gold}) != len(gold):
        raise ValueError("a document id occurs twice")
    if by_id.keys() != {note.document_id for note in gold}:
        raise ValueError("gold and predictions do not hold the same documents")
    found = []
    for note in gold:
        other = by_id[note.document_id]
        if other.text != note.text:
            raise ValueError("a predicted document has another text than the gold one")
        found.append((note.patient_key, _score_note(note, other, items, only)))
    return found


def _score_note(gold: Note, predicted: Note, items: _Items, only: SpanFilter | None) -> Scores:
    """Score one document both ways."""
    wanted, given = items(gold, gold.annotated), items(predicted, gold.annotated)
    tokens = Tokens(gold.text)

    def overlap(one: _Item, other: _Item) -> bool:
        return all(
            a.type == b.type and tokens.share_token(a, b) for a, b in zip(one.spans, other.spans, strict=True)
        )

    def equal(one: _Item, other: _Item) -> bool:
        return one.spans == other.spans

    def in_subset(item: _Item) -> bool:
        return only is None or only(gold, item.origin)

    return Scores(_match(wanted, given, equal, in_subset), _match(wanted, given, overlap, in_subset))


def _match(
    gold: list[_Item],
    predicted: list[_Item],
    fits: Callable[[_Item, _Item], bool],
    in_subset: Callable[[_Item], bool],
) -> MatchScore:
    """Match the items of one document type by type and count those of the subset."""
    counts: dict[str, Counts] = {}
    for name in sorted({item.type for item in (*gold, *predicted)}):
        wanted = [item for item in gold if item.type == name]
        given = [item for item in predicted if item.type == name]
        pairs = largest_matching(wanted, given, fits)
        credited = set(pairs.values())
        tp = sum(in_subset(wanted[index]) for index in pairs)
        fn = sum(in_subset(item) for index, item in enumerate(wanted) if index not in pairs)
        fp = sum(in_subset(item) for index, item in enumerate(given) if index not in credited)
        counts[name] = Counts(tp, fp, fn)
    return MatchScore(counts)


def _by_patient(scored: list[tuple[str, Scores]]) -> list[Scores]:
    """Sum the scores of documents of one patient."""
    totals: defaultdict[str, Scores] = defaultdict(Scores)
    for patient, score in scored:
        totals[patient] = totals[patient] + score
    return [totals[patient] for patient in sorted(totals)]
