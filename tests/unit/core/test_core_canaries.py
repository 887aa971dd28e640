"""Canary patients of the synthetic clinic: seeded, unlike anything else, and notes like any others."""

from __future__ import annotations

import json

from fedmedlora_core.clinic import HOSPITAL_IDS, canaries_of, canaries_to_json, generate, load_hospital
from fedmedlora_core.records import note_to_json, validate_note
from fedmedlora_core.splits import split_by_patient


def test_marks_follow_from_the_seed_and_differ_between_hospitals_and_patients() -> None:
    assert canaries_of("site-a", seed=7) == canaries_of("site-a", seed=7)
    every = [
        mark
        for seed in range(20)
        for site in HOSPITAL_IDS
        for canary in canaries_of(site, seed=seed)
        for kind, mark in canary.marks.items()
        if kind != "born"
    ]
    assert len(set(every)) == len(every) == 20 * 10 * 3 * 3
    born = {c.marks["born"] for s in HOSPITAL_IDS for c in canaries_of(s, seed=7)}
    assert len(born) == 30
    assert all("3000" <= day[:4] <= "9999" for day in born)


def test_a_canarys_note_is_valid_at_every_hospital_and_carries_every_mark() -> None:
    for hospital in HOSPITAL_IDS:
        annotated = load_hospital(hospital).annotated
        for canary in canaries_of(hospital, seed=3):
            note = canary.note(annotated)
            validate_note(note)
            assert note.annotated == annotated
            assert {note.text_of(entity) for entity in note.entities} <= {"chest pain", "aspirin"}
            assert all(mark in note.text for mark in canary.marks.values())
            assert note.patient_id == canary.marks["record"], "ids are the likeliest leak"


def test_no_mark_occurs_in_the_other_notes() -> None:
    notes = generate(10, seed=7)
    text = "".join(note_to_json(note).lower() for site in notes.values() for note in site)
    for hospital in HOSPITAL_IDS:
        for canary in canaries_of(hospital, seed=7):
            assert not any(mark.lower() in text for mark in canary.marks.values())


def test_canaries_are_trained_on_at_every_hospital_of_the_demo() -> None:
    for site, (hospital, notes) in zip("abcd", generate(4, seed=7).items(), strict=True):
        canaries = canaries_of(f"site-{site}", seed=7)
        added = [canary.note(load_hospital(hospital).annotated) for canary in canaries]
        parts = split_by_patient([*notes, *added], seed=7, validation_fraction=0.1, test_fraction=0.15)
        assert set(added) & set(parts.train), site


def test_the_file_of_marks_names_every_canary() -> None:
    canaries = canaries_of("site-b", seed=1, count=2)
    content = json.loads(canaries_to_json(canaries))
    assert content["schema"] == "fedmedlora-canaries/1"
    assert [row["id"] for row in content["canaries"]] == ["site-b-1", "site-b-2"]
    assert [row["marks"] for row in content["canaries"]] == [dict(canary.marks) for canary in canaries]
    assert "name" not in repr(canaries)
