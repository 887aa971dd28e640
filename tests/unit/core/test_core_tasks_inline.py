"""Inline mark-up and relation lists: what is written for gold is read back as gold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.labels import CLINICAL, LabelSet, Link
from fedmedlora_core.records import Entity, Note, Relation
from fedmedlora_core.tasks import (
    PlainTemplate,
    Template,
    TinyTemplate,
    entity_examples,
    examples_of,
    read_output,
    relation_examples,
    template_for,
    with_entities,
    with_relations,
)
from fedmedlora_core.tasks.inline import markable, parse_marked
from fedmedlora_core.tasks.templates import CONTROL_TOKENS
from fedmedlora_core.tasks.windows import Window, windows_of
from fedmedlora_core.tasks.words import trim, words_of

TEMPLATES: list[Template] = [TinyTemplate(), PlainTemplate()]
TEXT = "Mild chest pain, no fever. Started aspirin 100mg daily"
NOTE = Note(
    document_id="d1",
    patient_id="p1",
    text=TEXT,
    annotated=frozenset({"problem", "drug", "severity", "negation", "strength", "frequency"}),
    entities=(
        Entity("T1", "problem", 5, 15),
        Entity("T2", "severity", 0, 4),
        Entity("T3", "problem", 20, 25),
        Entity("T4", "negation", 17, 19),
        Entity("T5", "drug", 35, 42),
        Entity("T6", "strength", 43, 48),
        Entity("T7", "frequency", 49, 54),
    ),
    relations=(
        Relation("T1", "severity", "T2"),
        Relation("T3", "negation", "T4"),
        Relation("T5", "strength", "T6"),
        Relation("T5", "frequency", "T7"),
    ),
)

ALPHABET = st.sampled_from(
    [*"abAB19.,;:-'\"<>/[]|{} \n\t\u00a0é漢\u0301_", "<span class=", "</span>", " a: "]
)


@st.composite
def annotated_texts(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    text = "".join(draw(st.lists(ALPHABET, min_size=1, max_size=40)))
    offsets = st.integers(0, len(text))
    labels = st.sampled_from(["problem", "drug"])
    spans = draw(st.lists(st.tuples(offsets, offsets, labels), max_size=5))
    return text, [(a, b, label) for a, b, label in spans if a < b]


@pytest.mark.parametrize("template", TEMPLATES)
@given(case=annotated_texts())
def test_entity_target_parses_back_to_gold(
    template: Template, case: tuple[str, list[tuple[int, int, str]]]
) -> None:
    text, spans = case
    start, end = trim(text, 0, len(text))
    window = Window(start, end)
    expected = set(markable(text, window, spans))
    output = template.entity_target(text, window, spans)
    parsed = parse_marked(output, text, window, ("problem", "drug"))
    assert set(parsed.spans) == expected
    assert not parsed.malformed


@given(case=annotated_texts())
def test_only_crossing_or_empty_spans_are_left_out(case: tuple[str, list[tuple[int, int, str]]]) -> None:
    text, spans = case
    window = Window(0, len(text))
    chosen = markable(text, window, spans)
    for a, b, _ in chosen:
        assert not any(a < c < b < d for c, d, _ in chosen)
    for start, end, label in spans:
        a, b = trim(text, start, end)
        if a < b and (a, b, label) not in chosen:
            assert any(c < a < d < b or a < c < b < d for c, d, _ in chosen)


@pytest.mark.parametrize("template", TEMPLATES)
@given(data=st.data())
def test_relation_list_parses_back_to_gold(template: Template, data: st.DataObject) -> None:
    words = data.draw(
        st.lists(st.text("abc;:[]()1.", min_size=1, max_size=4), min_size=3, max_size=8, unique=True)
    )
    text = " ".join(words)
    pieces = words_of(text)
    # Every piece that occurs once can be named without doubt; a repeated one belongs to the nearest rule.
    solid = "".join(text.split())
    once = [w for w in pieces if solid.count(w.text) == 1]
    once = [w for w in once if w.text not in "[]()"]
    tails = [(w.start, w.end, data.draw(st.sampled_from(["severity", "negation"]))) for w in once[1:4]]
    head = Entity("H", "problem", pieces[0].start, pieces[0].end)
    note = with_relations(
        Note("d", None, text, (head,), (), frozenset({"problem", "severity", "negation"})),
        CLINICAL,
        [(head, tails)],
    )
    examples = relation_examples([note], CLINICAL, template, max_words=1000)
    assert len(examples) == 1
    parsed = read_output(examples[0], note, template, examples[0].target)
    assert not parsed.malformed
    assert set(parsed.spans) == {tail for tail in tails if examples[0].window.holds(tail[0], tail[1])}


@pytest.mark.parametrize("template", TEMPLATES)
def test_whole_note_round_trip(template: Template) -> None:
    examples = examples_of([NOTE], CLINICAL, template, ["ner", "re"])
    outputs = [(example, read_output(example, NOTE, template, example.target)) for example in examples]
    assert not any(parsed.malformed for _, parsed in outputs)
    entities = [span for example, parsed in outputs if example.task == "ner" for span in parsed.spans]
    gold = {(e.start, e.end, e.type) for e in NOTE.entities if CLINICAL.is_entity(e.type)}
    assert set(entities) == gold
    assert {e.span for e in with_entities(NOTE, entities).entities} == {
        e.span for e in NOTE.entities if CLINICAL.is_entity(e.type)
    }
    answers = [(e.head, parsed.spans) for e, parsed in outputs if e.head is not None]
    assert sorted(with_relations(NOTE, CLINICAL, answers).triples()) == sorted(NOTE.triples())


def test_prompts_name_only_annotated_types() -> None:
    note = NOTE.restricted_to({"problem", "negation"})
    examples = examples_of([note], CLINICAL, TinyTemplate(), ["ner", "re"])
    assert {example.types for example in examples if example.task == "ner"} == {("problem",)}
    assert {example.types for example in examples if example.task == "re"} == {("negation",)}
    assert not any("drug" in example.prompt or "severity" in example.prompt for example in examples)


def test_tiny_prompt_is_the_format_of_the_base_model() -> None:
    ner = entity_examples([NOTE], CLINICAL, TinyTemplate())[0]
    assert ner.prompt == "<|html|> problem drug <|in|> Mild chest pain , no fever . <|out|>"
    assert ner.target == (
        ' Mild <span class="problem"> chest pain </span> , no <span class="problem"> fever </span> .'
    )
    first, second, third = relation_examples([NOTE], CLINICAL, TinyTemplate())
    assert first.prompt == "<|re|> severity negation <|in|> Mild [ chest pain ] , no fever . <|out|>"
    assert (first.target, second.target) == (" severity: Mild", " negation: no")
    assert third.target == " strength: 100 mg ; frequency: daily"


def test_head_without_modifiers_is_none() -> None:
    note = Note("d", None, "fever", (Entity("T", "problem", 0, 5),), (), frozenset({"problem", "negation"}))
    example = relation_examples([note], CLINICAL, TinyTemplate())[0]
    assert example.target == " none"
    assert read_output(example, note, TinyTemplate(), " none").spans == ()


@pytest.mark.parametrize(
    ("output", "spans"),
    [
        (' <span class="problem"> chest </span> pane', [(0, 5, "problem")]),  # a wrong character after it
        (' chezt <span class="problem"> pain </span>', [(6, 10, "problem")]),  # a wrong character before it
        (' chest chest <span class="problem"> pain </span>', [(6, 10, "problem")]),  # stammers
        (' <span class="problem"> chest pane </span>', []),  # a wrong character in it
        (' <span class="problem"> chespain </span>', []),  # leaves a character out
        (' <span class="problem"> chest </span>', [(0, 5, "problem")]),  # stops early
        (' <span class="problem"> chest </span> pain too', [(0, 5, "problem")]),  # goes on
        (' <span class="problem"> chest pain', []),  # never closed
        (" chest </span> pain", []),  # never opened
        (' <span class="disease"> chest </span> pain', []),  # a type nobody asked for
        (' <span class="problem"> </span> chest pain', []),  # marks nothing
        ("", []),
        (" something else altogether", []),
    ],
)
def test_broken_copy_is_malformed_and_keeps_what_aligns(
    output: str, spans: list[tuple[int, int, str]]
) -> None:
    parsed = parse_marked(output, "chest pain", Window(0, 10), ("problem",))
    assert parsed.malformed
    assert list(parsed.spans) == spans


@given(text=st.text("ab ", min_size=1, max_size=12), output=st.text("ab ", max_size=12))
def test_what_is_kept_of_a_broken_copy_is_in_the_text(text: str, output: str) -> None:
    marked = f'{output[:3]}<span class="problem">{output[3:6]}</span>{output[6:]}'
    parsed = parse_marked(marked, text, Window(0, len(text)), ("problem",))
    for start, end, _ in parsed.spans:
        assert "".join(text[start:end].split()) == "".join(output[3:6].split())


def test_modifier_resolves_to_the_occurrence_nearest_the_head() -> None:
    text = "no cough no fever no"
    head = Entity("H", "problem", 12, 17)
    note = Note("d", None, text, (head,), (), frozenset({"problem", "negation"}))
    example = relation_examples([note], CLINICAL, TinyTemplate())[0]
    one = read_output(example, note, TinyTemplate(), " negation: no")
    assert one.spans == ((9, 11, "negation"),)
    three = read_output(example, note, TinyTemplate(), " negation: no ; negation: no ; negation: no")
    assert set(three.spans) == {(9, 11, "negation"), (18, 20, "negation"), (0, 2, "negation")}
    four = read_output(example, note, TinyTemplate(), " ; ".join(["negation: no"] * 4))
    assert four.malformed
    assert len(four.spans) == 3


def test_whole_words_win_over_nearer_parts_of_words() -> None:
    text = "no change : normal heart"
    head = Entity("H", "problem", 19, 24)
    note = Note("d", None, text, (head,), (), frozenset({"problem", "negation"}))
    example = relation_examples([note], CLINICAL, TinyTemplate())[0]
    assert read_output(example, note, TinyTemplate(), " negation: no").spans == ((0, 2, "negation"),)


@pytest.mark.parametrize("output", [" negation: never", " severity: no", " no idea", ""])
def test_list_that_cannot_be_aligned_is_malformed(output: str) -> None:
    note = Note(
        "d", None, "no fever", (Entity("T", "problem", 3, 8),), (), frozenset({"problem", "negation"})
    )
    example = relation_examples([note], CLINICAL, TinyTemplate())[0]
    parsed = read_output(example, note, TinyTemplate(), output)
    assert parsed.malformed
    assert parsed.spans == ()


def test_link_relation_ends_at_an_entity() -> None:
    labels = LabelSet(("drug", "problem"), links=(Link("drug", "adverse_effect", "problem"),))
    note = Note(
        "d",
        None,
        "aspirin gave nausea",
        (Entity("T1", "drug", 0, 7), Entity("T2", "problem", 13, 19)),
        (Relation("T1", "adverse_effect", "T2"),),
        frozenset({"drug", "problem", "adverse_effect"}),
    )
    assert relation_examples([note.restricted_to({"drug", "problem"})], labels, TinyTemplate()) == []
    (example,) = relation_examples([note], labels, TinyTemplate())
    assert example.target == " adverse_effect: nausea"
    assert example.head is not None
    parsed = read_output(example, note, TinyTemplate(), example.target)
    found = with_relations(note, labels, [(example.head, parsed.spans)])
    assert found.triples() == note.triples()
    assert len(found.entities) == 2


def test_windows_cut_long_sentences_and_lose_no_word() -> None:
    text = " ".join(f"w{i}" for i in range(150)) + ". Next line"
    windows = windows_of(text, max_words=64)
    assert max(len(words_of(text, w.start, w.end)) for w in windows) <= 64
    assert [w for window in windows for w in words_of(text, window.start, window.end)] == words_of(text)


def test_control_tokens_in_a_note_stay_text() -> None:
    text = "pain <|out|> <|end|>"
    note = Note("d", None, text, (), (), frozenset({"problem"}))
    tiny, plain = (entity_examples([note], CLINICAL, template)[0] for template in TEMPLATES)
    assert tiny.prompt.count("<|out|>") == 1
    assert "<|end|>" not in tiny.prompt
    assert "<|" not in plain.prompt


def test_template_follows_the_vocabulary() -> None:
    assert isinstance(template_for([*CONTROL_TOKENS, "a"]), TinyTemplate)
    assert isinstance(template_for(["a", "<|in|>"]), PlainTemplate)
