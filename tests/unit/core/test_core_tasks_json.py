"""Entities and modifiers as JSON lists: what is written comes back, what is not JSON is wrong and said so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.evaluate import predict_entities
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.lora import LoraTerms
from fedmedlora_core.learning.site_round import make_learner
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import train_local
from fedmedlora_core.scores import score_entities
from fedmedlora_core.tasks.examples import examples_of, read_output
from fedmedlora_core.tasks.json_list import ListedEntity, align, listable, read_json, write_json
from fedmedlora_core.tasks.templates import JsonTemplate, PlainTemplate, template_for
from fedmedlora_core.tasks.windows import Window
from fedmedlora_testkit.models import make_notes, write_causal

LABELS = label_set(["problem", "drug"], ["negation", "strength"])
TYPES = ("problem", "drug")
TEMPLATE = JsonTemplate()
WORDS = (
    "fever",
    "no",
    "normal",
    "pain",
    "chest pain",
    "T4",
    "1.5 mg",
    "aspirin",
    "[[",
    '"',
    "\\",
    "Größe",
    "<|end|>",
)


def whole(text: str) -> Window:
    return Window(0, len(text))


def found(text: str, *items: tuple[str, str]) -> list[tuple[int, int, str]]:
    return list(align([ListedEntity(*item) for item in items], text, whole(text), TYPES).spans)


@st.composite
def annotated(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    """A text of words and blanks, in which every mention of a word is annotated alike or none is."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
    chosen = draw(st.dictionaries(st.sampled_from(WORDS), st.sampled_from(TYPES)))
    text, spans = "", []
    for word in words:
        start = len(text)
        if word in chosen:
            spans.append((start, start + len(word), chosen[word]))
        text += word + draw(st.sampled_from((" ", "  ", "\n")))
    return text.rstrip(), spans


@given(annotated())
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_without_a_fault(case: tuple[str, list[tuple[int, int, str]]]) -> None:
    """Same types and words in the same number, all in the text; the same places if no word is ambiguous."""
    text, spans = case
    window = whole(text)
    parsed = TEMPLATE.read_entities(TEMPLATE.entity_target(text, window, spans), text, window, TYPES)
    assert not parsed.malformed
    assert len(set(parsed.spans)) == len(parsed.spans) == len(spans)
    assert [(text[a:b].split(), t) for a, b, t in parsed.spans] == [
        (text[a:b].split(), t) for a, b, t in spans
    ]
    mentions = [text[a:b] for a, b, _ in spans]
    if all(text.count(word) == mentions.count(word) for word in mentions):
        assert list(parsed.spans) == spans


@given(st.text(max_size=60), st.text(alphabet='[]{}":, entityxo1\\', max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_output_gives_distinct_spans_of_the_text_or_is_malformed(text: str, output: str) -> None:
    parsed = TEMPLATE.read_entities(output, text, whole(text), TYPES)
    assert len({span[:2] for span in parsed.spans}) == len(parsed.spans)
    assert all(0 <= a < b <= len(text) and t in TYPES for a, b, t in parsed.spans)
    try:
        items = json.loads(output)
    except ValueError:
        items = None
    if parsed.malformed is False:
        assert isinstance(items, list) and len(items) == len(parsed.spans)


def test_the_first_free_occurrence_is_taken_and_no_prediction_counts_twice() -> None:
    text = "pain and pain"
    assert found(text, ("problem", "pain"), ("problem", "pain")) == [(0, 4, "problem"), (9, 13, "problem")]
    parsed = align([ListedEntity("problem", "pain")] * 3, text, whole(text), TYPES)
    assert (len(parsed.spans), parsed.malformed) == (2, True)


def test_items_go_on_from_the_one_before() -> None:
    text = "no pain , fever and pain"
    assert found(text, ("problem", "fever"), ("problem", "pain")) == [
        (10, 15, "problem"),
        (20, 24, "problem"),
    ]
    assert found(text, ("problem", "pain"), ("problem", "no")) == [(3, 7, "problem"), (0, 2, "problem")]


def test_whole_words_come_before_parts_of_words() -> None:
    assert found("normal , no", ("problem", "no")) == [(9, 11, "problem")]
    assert found("100mg", ("drug", "mg")) == [(3, 5, "drug")]


def test_words_are_not_put_together_across_blanks() -> None:
    assert found("pain on walking", ("problem", "no")) == []
    assert found("chest\npain", ("problem", "chest pain")) == [(0, 10, "problem")]


@pytest.mark.parametrize(
    ("output", "kept"),
    [
        ("", 0),
        ("none", 0),
        ('{"entity": "drug", "text": "aspirin"}', 0),
        ('[{"entity": "drug", "text": "aspirin"}', 0),
        ('[{"entity": "drug", "text": "aspirin"}] and more', 0),
        ("[" * 100_000, 0),
        ('["aspirin", {"entity": "drug", "text": "aspirin"}]', 1),
        ('[{"entity": "drug", "text": 1}, {"entity": "drug", "text": "aspirin"}]', 1),
        ('[{"entity": "drug", "text": "aspirin", "note": ""}]', 0),
        ('[{"entity": "course", "text": "aspirin"}]', 0),
        ('[{"entity": "drug", "text": "heparin"}]', 0),
        ('[{"entity": "drug", "text": ""}]', 0),
        ("[NaN]", 0),
    ],
)
def test_what_cannot_be_read_is_malformed(output: str, kept: int) -> None:
    text = "takes aspirin"
    parsed = TEMPLATE.read_entities(output, text, whole(text), TYPES)
    assert parsed.malformed
    assert len(parsed.spans) == kept


def test_an_empty_list_is_an_answer() -> None:
    assert read_json(" [] ") == ([], False)
    assert write_json([]) == "[]"


def test_nested_spans_are_listed_and_a_second_type_of_one_span_is_not() -> None:
    text = "severe chest pain"
    spans = [(0, 17, "problem"), (7, 17, "problem"), (7, 17, "drug")]
    assert listable(text, whole(text), spans) == [(0, 17, "problem"), (7, 17, "drug")]
    target = TEMPLATE.entity_target(text, whole(text), spans[:2])
    assert list(TEMPLATE.read_entities(target, text, whole(text), TYPES).spans) == spans[:2]


def test_targets_of_both_tasks_come_back_as_the_notes_gold() -> None:
    notes = make_notes(12)
    asked = set()
    for example in examples_of(notes, LABELS, TEMPLATE, ["ner", "re"]):
        parsed = read_output(example, notes[example.note_index], TEMPLATE, example.target)
        assert not parsed.malformed
        asked.add(example.task)
        if example.head is None:
            gold = {
                (e.start, e.end, e.type)
                for e in notes[example.note_index].entities
                if e.type in example.types
            }
            held = {span for span in gold if example.window.holds(span[0], span[1])}
            assert set(parsed.spans) == held
    assert asked == {"ner", "re"}
    example = examples_of(notes, LABELS, TEMPLATE, ["re"])[0]
    assert json.loads(example.target) == [{"entity": "negation", "text": "No"}]
    assert "[[ fever ]]" in example.prompt


def test_the_format_is_chosen_by_name() -> None:
    assert isinstance(template_for({}, "json"), JsonTemplate)
    assert isinstance(template_for({}), PlainTemplate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal"), control_tokens=False)


def learner_of(folder: Path) -> GenerativeLearner:
    learner = make_learner(
        load_base(folder, kind="causal"),
        LoraTerms(rank=16, alpha=32, targets=("all-linear",), mode="ab"),
        LABELS,
        seed=1,
        max_tokens=500,
        answers="json",
    )
    assert isinstance(learner, GenerativeLearner)
    return learner


def test_an_untrained_model_is_wrong_and_reported(folder: Path) -> None:
    notes = make_notes(3)
    predictions = predict_entities(learner_of(folder), notes)
    assert predictions.malformed == predictions.asked > 0
    assert score_entities(notes, predictions.notes, labels=LABELS).strict.f1 == 0


def test_a_model_learns_the_format(folder: Path) -> None:
    learner = learner_of(folder)
    notes = [replace(note, document_id=f"{n}") for n, note in enumerate(make_notes(4))]
    samples = learner.samples(notes, ["ner"])
    terms = TrainTerms(local_epochs=60, batch_size=8, learning_rate=2e-2, warmup_steps=5)
    before = train_local(learner, samples, TrainTerms(**{**vars(terms), "max_steps": 1}), seed=1).loss
    assert train_local(learner, samples, terms, seed=1).loss < before / 4
