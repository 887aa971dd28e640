"""Word tags: what is tagged for gold is read back as gold, and each example knows what it may tag."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.labels import CLINICAL, label_set
from fedmedlora_core.records import Entity, Note, Relation
from fedmedlora_core.tasks.tagging import OUTSIDE, read_tags, tag_examples, tag_names, tags_of
from fedmedlora_core.tasks.words import words_of

TEXT = "Mild chest pain , no fever . Started aspirin 100mg"
NOTE = Note(
    document_id="d",
    patient_id=None,
    text=TEXT,
    entities=(
        Entity("T1", "problem", 5, 15),
        Entity("T2", "severity", 0, 4),
        Entity("T3", "bodyloc", 5, 10),
        Entity("T4", "problem", 21, 26),
        Entity("T5", "drug", 37, 44),
    ),
    relations=(Relation("T1", "severity", "T2"), Relation("T1", "bodyloc", "T3")),
    annotated=frozenset({"problem", "drug", "severity", "bodyloc", "negation"}),
)


@given(data=st.data())
def test_spans_on_words_come_back(data: st.DataObject) -> None:
    text = data.draw(st.text("ab1 .-\n", min_size=1, max_size=40))
    words = words_of(text)
    spans, position = [], 0
    while position < len(words):
        length = data.draw(st.integers(0, 3))
        chosen = words[position : position + length]
        if chosen:
            spans.append((chosen[0].start, chosen[-1].end, data.draw(st.sampled_from(["problem", "drug"]))))
        position += max(1, length)
    assert read_tags(words, tags_of(words, spans)) == spans


def test_of_overlapping_spans_the_longest_is_tagged() -> None:
    words = words_of("acute chest pain")
    assert tags_of(words, [(6, 11, "bodyloc"), (0, 16, "problem")]) == ["B-problem", "I-problem", "I-problem"]


def test_inside_tag_that_continues_nothing_begins_a_span() -> None:
    words = words_of("a b c d")
    assert read_tags(words, ["I-drug", "I-drug", "I-problem", OUTSIDE]) == [(0, 3, "drug"), (4, 5, "problem")]
    assert read_tags(words, ["B-drug", "B-drug", OUTSIDE, "I-drug"]) == [
        (0, 1, "drug"),
        (2, 3, "drug"),
        (6, 7, "drug"),
    ]


def test_examples_mark_the_head_and_tag_its_tails() -> None:
    ner, _, *heads = tag_examples([NOTE], CLINICAL, ["ner", "re"])
    assert ner.types == ("problem", "drug")
    assert [t for t in ner.tags if t != OUTSIDE] == ["B-problem", "I-problem", "B-problem"]
    first = heads[0]
    assert first.texts == tuple(
        ["modifiers", "of", "problem", ":", "Mild", "[", "chest", "pain", "]", ",", "no", "fever", "."]
    )
    assert first.types == ("severity", "bodyloc", "negation")
    tagged = dict(zip(first.texts, first.tags, strict=True))
    assert tagged["Mild"] == "B-severity"
    assert tagged["chest"] == "B-bodyloc"
    assert all(tag == OUTSIDE for tag, word in zip(first.tags, first.words, strict=True) if word is None)
    assert [head.types for head in heads[1:]] == [("severity", "bodyloc", "negation"), ("negation",)]


def test_head_at_the_end_is_closed() -> None:
    note = Note("d", None, "no pain", (Entity("T", "problem", 3, 7),), (), frozenset({"problem", "negation"}))
    (example,) = tag_examples([note], CLINICAL, ["re"])
    assert example.texts[-4:] == ("no", "[", "pain", "]")


def test_tags_have_a_fixed_order() -> None:
    assert tag_names(label_set(["problem"], ["negation"])) == (
        "O",
        "B-problem",
        "I-problem",
        "B-negation",
        "I-negation",
    )
