"""Units: patients or documents, one row of each in a step, drawn evenly; a window is no unit."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_core.learning.private import units as units_module
from fedmedlora_core.learning.private.draws import Draws
from fedmedlora_core.learning.private.gradients import row_gradients
from fedmedlora_core.learning.private.loop import PrivateLoop
from fedmedlora_core.learning.private.units import PrivateUnit, units_of
from fedmedlora_core.privacy_terms import Unit
from fedmedlora_core.records import Note, PartOf
from fedmedlora_crypto.xof import Keystream
from fedmedlora_testkit.models import write_causal
from fedmedlora_testkit.private import KEY, TRAINING, notes_of_patients, private_terms, small_learner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal"))


def made(folder: Path, notes: list[Note], unit: Unit = "patient", **terms: Any) -> list[PrivateUnit]:
    return units_of(small_learner(folder), notes, ["ner", "re"], unit=unit, terms=replace(TRAINING, **terms))


def test_a_patients_notes_are_one_unit_and_a_documents_parts_are(folder: Path) -> None:
    notes = [
        replace(note, part_of=PartOf(f"letter{number // 2}", number % 2), near="alike")
        for number, note in enumerate(notes_of_patients(3, 4))
    ]
    assert len(made(folder, notes)) == 3
    assert len(made(folder, notes, "document")) == 6
    assert len(made(folder, [replace(note, part_of=None) for note in notes], "document")) == 12


def test_a_unit_is_the_same_whoever_else_is_there(folder: Path) -> None:
    notes = [replace(note, near="alike") for note in notes_of_patients(4)]
    (alone,) = made(folder, notes[3:6])
    assert made(folder, notes)[1] == alone
    assert made(folder, notes[::-1])[1] == alone


def rows_of_a_patient(folder: Path) -> int:
    """The most rows that one patient has in a step which draws every unit."""
    notes = notes_of_patients(2, 5)
    learner = small_learner(folder)
    units = units_of(learner, notes, ["ner", "re"], unit="patient", terms=TRAINING)
    own = [{s.ids for s in learner.samples(notes[:5], ["ner", "re"])}]
    own.append({s.ids for s in learner.samples(notes[5:], ["ner", "re"])} - own[0])
    with row_gradients(learner) as rows:
        loop = PrivateLoop(rows, TRAINING, private_terms(sampling_micro=1_000_000), Keystream(KEY))
        drawn = [loop.draw(units, step) for step in range(5)]
    assert all(sum(sample.ids in ids for ids in own) == 1 for rows in drawn for sample in rows)
    return max(sum(sample.ids in ids for sample in rows) for rows in drawn for ids in own)


def test_a_patient_has_one_row_in_a_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R4.13.1; and with the note or window as the unit there would be several: the check can fail."""
    shared = rows_of_a_patient(folder)
    assert shared <= 2  # rows that both patients could have given are counted for the first
    monkeypatch.setattr(units_module, "unit_key", lambda note, unit: note.document_id)
    assert rows_of_a_patient(folder) >= 4


def test_every_step_draws_anew_and_at_the_rate(folder: Path) -> None:
    learner = small_learner(folder)
    units = units_of(learner, notes_of_patients(40, 1), ["ner", "re"], unit="patient", terms=TRAINING)
    with row_gradients(learner) as rows:
        loop = PrivateLoop(rows, TRAINING, private_terms(sampling_micro=300_000), Keystream(KEY))
        sizes = [len(loop.draw(units, step)) for step in range(100)]
    assert len(set(sizes)) > 5
    assert abs(sum(sizes) - 1200) < 6 * math.sqrt(4000 * 0.3 * 0.7)


def test_kinds_have_their_part_and_samples_of_a_kind_are_equally_likely(folder: Path) -> None:
    (unit,) = made(folder, notes_of_patients(1, 6), relation_cap=0.5)
    (ner, others), *relations = unit.kinds
    assert ner == len(others) == 12
    assert sum(share for share, _ in relations) == 6 < sum(len(found) for _, found in relations)
    draws, count = Draws(Keystream(KEY), 0), 3600
    drawn = Counter(unit.row(draws) for _ in range(count))
    for share, samples in unit.kinds:
        expected = count * share / 18 / len(samples)
        assert set(samples) <= set(drawn)
        for sample in set(samples):
            likely = expected * samples.count(sample)
            assert abs(drawn[sample] - likely) < 6 * math.sqrt(likely)


def test_a_unit_without_examples_gives_no_row_and_is_named_nowhere() -> None:
    assert PrivateUnit(()).row(Draws(Keystream(KEY), 0)) is None
    assert repr(PrivateUnit(((1, ("secret",)),))) == "PrivateUnit(1 examples)"
