"""Where a listed modifier is found in the text."""

from __future__ import annotations

from fedmedlora_core.tasks.relations import ListedModifier, resolve
from fedmedlora_core.tasks.windows import Window

TEXT = "severe chest pain on monday ; no fever , abnormal 20mg"
WHOLE = Window(0, len(TEXT))
FEVER = (33, 38)
PAIN = (7, 17)


def found(words: str, head: tuple[int, int]) -> list[str]:
    parsed = resolve([ListedModifier("negation", words)], TEXT, WHOLE, head, ["negation"])
    return [TEXT[start:end] for start, end, _ in parsed.spans]


def test_the_nearest_whole_words_are_taken() -> None:
    assert found("no", FEVER) == ["no"]
    assert found("no", PAIN) == ["no"], "not the 'n o' of 'pain on', which is nearer"
    assert found("on monday", PAIN) == ["on monday"]


def test_a_word_across_a_blank_is_no_occurrence() -> None:
    text = "chest pain on monday"
    parsed = resolve([ListedModifier("negation", "no")], text, Window(0, len(text)), (0, 5), ["negation"])
    assert parsed.spans == ()
    assert parsed.malformed


def test_a_part_of_a_word_is_found_where_nothing_better_is() -> None:
    assert found("20", FEVER) == ["20"]
