"""What the two formats can express of notes that nobody of this project wrote."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest

from fedmedlora_core.brat import read_brat
from fedmedlora_core.labels import CLINICAL
from fedmedlora_core.mapping import load_mapping
from fedmedlora_core.records import Entity
from fedmedlora_core.scores import score_entities, score_relations
from fedmedlora_core.tasks import (
    PlainTemplate,
    Template,
    TinyTemplate,
    TypedSpan,
    examples_of,
    read_output,
    with_entities,
    with_relations,
)

DATA = os.environ.get("FEDMEDLORA_DATA")


@pytest.mark.skipif(DATA is None, reason="set FEDMEDLORA_DATA to the folder with the open corpora")
@pytest.mark.parametrize("template", [TinyTemplate(), PlainTemplate()])
@pytest.mark.parametrize(("corpus", "relations_found"), [("mtsamples", 0.98), ("maccrobat2020", 0.98)])
def test_gold_answers_read_back_to_nearly_all_gold(
    template: Template, corpus: str, relations_found: float
) -> None:
    """Missing: spans over sentence borders, crossing spans, words that occur nearer to the head."""
    notes = read_brat(Path(str(DATA)) / corpus, mapping=load_mapping(corpus)).notes[:40]
    entities: defaultdict[int, list[TypedSpan]] = defaultdict(list)
    answers: defaultdict[int, list[tuple[Entity, tuple[TypedSpan, ...]]]] = defaultdict(list)
    for example in examples_of(notes, CLINICAL, template, ["ner", "re"]):
        parsed = read_output(example, notes[example.note_index], template, example.target)
        assert not parsed.malformed
        if example.head is None:
            entities[example.note_index] += parsed.spans
        else:
            answers[example.note_index].append((example.head, parsed.spans))
    found = [with_entities(note, entities[i]) for i, note in enumerate(notes)]
    linked = [with_relations(note, CLINICAL, answers[i]) for i, note in enumerate(notes)]
    ner, re = score_entities(notes, found).strict.micro, score_relations(notes, linked).strict.micro
    assert ner.recall > 0.999
    assert ner.precision == 1
    assert re.recall > relations_found
    assert re.precision > relations_found
