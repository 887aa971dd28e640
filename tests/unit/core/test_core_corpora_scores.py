"""On every open corpus the strict score is what seqeval says, for predictions wrong in several ways."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from fedmedlora_core.labels import CLINICAL, LabelSet, Link
from fedmedlora_core.mapping import load_mapping
from fedmedlora_core.records import Entity, Note
from fedmedlora_core.scores import score_entities
from fedmedlora_core.sources import detect_format, read_source

LABELS = LabelSet(
    CLINICAL.entities, CLINICAL.modifiers, CLINICAL.pairs, (Link("drug", "adverse_effect", "problem"),)
)
FLAT = LabelSet(entities=LABELS.types)
"""Every type is scored as an entity, as seqeval knows no modifiers."""
OVERLAPPING = {"mtsamples": 1_059, "maccrobat2020": 37, "phee": 234, "chia": 484, "bc5cdr": 0}
"""Spans that are taken out of each corpus because they overlap another one: IOB2 cannot write both."""


def notes_of(name: str) -> tuple[Note, ...]:
    root = os.environ.get("FEDMEDLORA_DATA")
    if not root:
        pytest.skip("FEDMEDLORA_DATA does not name a folder with the open corpora")
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"FEDMEDLORA_DATA has no folder {name}")
    mapping = load_mapping(name)
    return read_source(folder, detect_format(folder), mapping=mapping, labels=LABELS).notes


def apart(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """The spans that overlap no earlier one; of those that begin together, the longest."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda each: (each.start, -each.end, each.type)):
        if not kept or kept[-1].end <= entity.start:
            kept.append(entity)
    return tuple(kept)


def perturbed(note: Note, stream: random.Random) -> Note:
    """Lose spans, shorten and lengthen them, give them other types, and find some that are none."""
    types = sorted(note.annotated & {*LABELS.types})
    found: list[Entity] = []
    for entity in note.entities:
        chance = stream.random()
        if chance < 0.15:
            continue
        wrong = entity
        if chance < 0.25 and entity.end - entity.start > 1:
            wrong = replace(entity, end=entity.end - 1)
        elif chance < 0.35:
            wrong = replace(entity, end=min(len(note.text), entity.end + stream.randint(1, 4)))
        elif chance < 0.45:
            wrong = replace(entity, type=stream.choice(types))
        found.append(wrong)
        if chance > 0.95:
            start = stream.randrange(len(note.text) - 1)
            found.append(Entity(f"x{len(found)}", stream.choice(types), start, start + 1))
    return replace(note, entities=apart(found), relations=())


def tags(note: Note, cuts: list[int]) -> list[str]:
    """The tags of the stretches between cuts; every span begins and ends at one."""
    starts = {entity.start: entity for entity in note.entities}
    found: list[str] = []
    inside: Entity | None = None
    for start, _ in pairwise(cuts):
        if start in starts:
            inside = starts[start]
            found.append(f"B-{inside.type}")
        elif inside is not None and start < inside.end:
            found.append(f"I-{inside.type}")
        else:
            inside = None
            found.append("O")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERLAPPING)
def test_strict_score_agrees_with_seqeval_on_a_corpus_without_its_overlaps(name: str) -> None:
    notes = notes_of(name)
    gold = [replace(note, entities=apart(note.entities), relations=()) for note in notes]
    removed = sum(len(n.entities) for n in notes) - sum(len(n.entities) for n in gold)
    assert removed == OVERLAPPING[name]
    stream = random.Random(name)  # noqa: S311 - test data
    found = [perturbed(note, stream) for note in gold]
    gold_tags, found_tags = [], []
    for one, other in zip(gold, found, strict=True):
        ends = {0, len(one.text)} | {p for e in (*one.entities, *other.entities) for p in (e.start, e.end)}
        gold_tags.append(tags(one, sorted(ends)))
        found_tags.append(tags(other, sorted(ends)))
    ours = score_entities(gold, found, labels=FLAT).strict
    settings = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    assert 0.4 < ours.f1 < 0.9
    assert ours.micro.precision == pytest.approx(precision_score(gold_tags, found_tags, **settings))
    assert ours.micro.recall == pytest.approx(recall_score(gold_tags, found_tags, **settings))
    assert ours.f1 == pytest.approx(f1_score(gold_tags, found_tags, **settings))
    assert ours.macro_f1 == pytest.approx(f1_score(gold_tags, found_tags, average="macro", **settings))
