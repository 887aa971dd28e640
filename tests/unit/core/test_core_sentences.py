"""Sentences: where they end, and that they cover all visible characters."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.sentences import split_sentences


def _split(text: str, max_chars: int | None = None) -> list[str]:
    return [text[piece.start : piece.end] for piece in split_sentences(text, max_chars=max_chars)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("One thing. Two things.", ["One thing.", "Two things."]),
        ("one thing . two things .", ["one thing .", "two things ."]),
        ("seen by Dr. Who. Is well.", ["seen by Dr. Who.", "Is well."]),
        ("by J. Smith today", ["by J. Smith today"]),
        ("1. Fever.\n2. Cough.", ["1. Fever.", "2. Cough."]),
        ("dose 3. Then more", ["dose 3.", "Then more"]),
        ("temp 37.5 C. normal", ["temp 37.5 C. normal"]),
        ("is it? Yes! (Maybe.) Fine", ["is it?", "Yes!", "(Maybe.)", "Fine"]),
        ("line\r\nnext\u2028third", ["line", "next", "third"]),
    ],
)
def test_sentences_end_where_they_should(text: str, expected: list[str]) -> None:
    assert _split(text) == expected


def test_long_sentence_is_cut_at_blanks_or_at_the_limit() -> None:
    assert _split("aaa bbb ccc ddd", 8) == ["aaa bbb", "ccc ddd"]
    assert _split("a" * 20, 8) == ["a" * 8, "a" * 8, "a" * 4]


@given(st.text(alphabet="aB1.?! \n\t)\u2028é", max_size=80), st.one_of(st.none(), st.integers(1, 20)))
def test_sentences_cover_every_visible_character_in_order(text: str, limit: int | None) -> None:
    pieces = split_sentences(text, max_chars=limit)
    assert pieces == sorted(pieces)
    assert "".join("".join(text[p.start : p.end].split()) for p in pieces) == "".join(text.split())
    for one, other in itertools.pairwise(pieces):
        assert one.end <= other.start
    for piece in pieces:
        assert text[piece.start : piece.end] == text[piece.start : piece.end].strip() != ""
        assert limit is None or piece.end - piece.start <= limit


def test_a_word_of_a_million_characters_costs_no_more_than_its_length() -> None:
    long = "x" * 1_000_000
    text = f"see {long} dr. Who is here. Then more"
    assert _split(text) == [text[: -len(" Then more")], "Then more"]  # quadratic: hours
