"""Near duplicates: exactly the pairs above the threshold, and none across a split."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.errors import DataError
from fedmedlora_core.near_duplicates import (
    THRESHOLD,
    Groups,
    NearDuplicates,
    jaccard,
    mark_near_duplicates,
    shingles,
)
from fedmedlora_core.records import Note
from fedmedlora_core.splits import split_by_patient

WORDS = [f"w{number}" for number in range(400)]


def note(name: str, text: str, patient: str | None = None) -> Note:
    return Note(name, patient, text)


def texts(seed: int, *, families: int, copies: int, words: int = 90) -> list[str]:
    """Families of texts: a copy differs from the first of its family by up to six words."""
    stream = random.Random(seed)  # noqa: S311 - test data
    found = []
    for _ in range(families):
        first = [stream.choice(WORDS) for _ in range(words)]
        for _ in range(copies):
            copy = list(first)
            for _ in range(stream.randrange(7)):
                copy[stream.randrange(words)] = stream.choice(WORDS)
            found.append(" ".join(copy))
    return found


def test_a_copied_note_with_a_few_words_changed_is_found_and_another_is_not() -> None:
    first = " ".join(WORDS[:60])
    changed = first.replace("w7 ", "w399 ").replace("w50", "w398").upper()
    notes, counts = mark_near_duplicates(
        [note("a", first, "p"), note("b", changed, "q"), note("c", " ".join(WORDS[100:160]))]
    )
    assert [each.near for each in notes] == ["a", "a", None]
    assert counts == NearDuplicates(notes=2, groups=1, across_patients=1, largest=2)


def test_texts_without_words_are_nobodys_duplicates_and_short_ones_are_compared_whole() -> None:
    notes, _ = mark_near_duplicates(
        [
            note("a", " .\n"),
            note("b", "..."),
            note("c", "No fever."),
            note("d", "no fever"),
            note("e", "fever"),
        ]
    )
    assert [each.near for each in notes] == [None, None, "c", "c", None]
    assert shingles("") == frozenset()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6), st.integers(1, 40))
def test_no_pair_at_the_threshold_is_missed_and_no_other_is_joined(
    seed: int, families: int, copies: int, words: int
) -> None:
    given_notes = [
        note(str(index), text)
        for index, text in enumerate(texts(seed, families=families, copies=copies, words=words))
    ]
    expected: Groups[str] = Groups()
    for one, other in combinations(given_notes, 2):
        if jaccard(shingles(one.text), shingles(other.text)) >= THRESHOLD:
            expected.join(one.document_id, other.document_id)
    found, _ = mark_near_duplicates(given_notes)
    for one, other in combinations(found, 2):
        together = expected.root(one.document_id) == expected.root(other.document_id)
        assert (one.near is not None and one.near == other.near) == together


@pytest.mark.parametrize("seed", range(5))
def test_no_near_duplicate_of_a_training_note_is_in_another_part(seed: int) -> None:
    plain = [note(f"d{k}", text, f"p{k}") for k, text in enumerate(texts(seed, families=30, copies=3))]
    apart = split_by_patient(plain, seed=seed, validation_fraction=0.1, test_fraction=0.2)
    marked, _ = mark_near_duplicates(plain)
    together = split_by_patient(marked, seed=seed, validation_fraction=0.1, test_fraction=0.2)

    def leaks(train: tuple[Note, ...], other: tuple[Note, ...]) -> int:
        seen = [shingles(each.text) for each in train]
        return sum(any(jaccard(runs, shingles(each.text)) >= THRESHOLD for runs in seen) for each in other)

    assert leaks(apart.train, apart.test) > 0  # without the search there would be some
    for part in (together.test, together.validation):
        assert part and leaks(together.train, part) == 0
    assert leaks(together.validation, together.test) == 0
    assert sum(map(len, (together.train, together.validation, together.test))) == len(plain)


def test_patients_with_near_duplicates_go_together_with_all_their_notes() -> None:
    same = " ".join(WORDS[:40])
    notes = [
        note("a1", same, "a"),
        note("a2", "unlike this", "a"),
        note("b1", same, "b"),
        note("b2", "nor that", "b"),
    ]
    notes += [note(f"c{k}", " ".join(WORDS[k * 9 : k * 9 + 8]), f"c{k}") for k in range(20)]
    marked, _ = mark_near_duplicates(notes)
    for seed in range(10):
        parts = split_by_patient(marked, seed=seed, validation_fraction=0.1, test_fraction=0.3)
        for part in (parts.train, parts.validation, parts.test):
            assert len({each.document_id for each in part} & {"a1", "a2", "b1", "b2"}) in {0, 4}


def test_a_site_whose_notes_are_all_alike_cannot_be_split_and_hears_why() -> None:
    marked, counts = mark_near_duplicates([note(f"d{k}", "the same note", f"p{k}") for k in range(9)])
    assert counts.largest == 9
    with pytest.raises(DataError, match=r"9 patient\(s\), in 1 group\(s\) by near duplicates"):
        split_by_patient(marked, seed=1, validation_fraction=0.1, test_fraction=0.2)


def test_a_thousand_copies_of_a_template_are_compared_with_their_group_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = 0
    root = Groups.root

    def counted(self: Groups[int], key: int) -> int:
        nonlocal steps
        steps += 1
        return root(self, key)

    monkeypatch.setattr(Groups, "root", counted)
    template = " ".join(WORDS[:60])
    _, counts = mark_near_duplicates([note(f"d{k}", f"{template} bed {k}") for k in range(1000)])
    assert counts == NearDuplicates(notes=1000, groups=1, across_patients=1, largest=1000)
    assert steps < 1000 * 60 * 5  # a few for each run of each note; one for each pair would be 15 million
