"""P1: typed values are masked, and what is left of a clean log matches no pattern of an identifier."""

import re
from functools import cache
from pathlib import Path

import pytest

from fedmedlora_audit.errors import EventError
from fedmedlora_audit.residue import PATTERNS, Residue
from fedmedlora_audit.verify import Verdict
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog


@cache
def clean_log() -> StudyLog:
    return StudyLog().play(2, {"upload": ["site-d"]})


def texts_of(notes: list[bytes]) -> list[str]:
    return [note.split(b"\n", 1)[0].decode() for note in notes]


def test_what_is_left_of_a_clean_log_is_a_run_id_and_a_software_name() -> None:
    made = Forger(clean_log())
    residue = Residue(made.trust)
    left = {text for event in texts_of(made.notes) for text in residue.texts(event)}
    assert left == {made.event(0).run, getattr(made.event(0).data, "software")}  # noqa: B009
    for note in made.notes:
        residue.check(note)


def test_without_masking_every_clean_event_would_look_personal() -> None:
    """Why the residue is searched and not the events."""
    numbers = PATTERNS["a number of six digits or more, or a date"]
    assert all(numbers.search(text) for text in texts_of(Forger(clean_log()).notes))


RUN_IDS = {
    "mrn-12345678": "number",
    "12345678": "number",
    "1957-03-04": "number",
    "078-05-1120": "number",
    "555-867-5309": "number",
    "run-19570304": "number",
    "patient-smith": "word",
    "mr-smith": "word",
}


def with_run_id(run: str) -> Forger:
    made = Forger(clean_log())
    for index in range(len(made.notes)):
        if made.event(index).actor.id == "coordinator":
            made.change(index, run=run)
    made.resign()
    return made


@pytest.mark.parametrize(("run", "what"), RUN_IDS.items())
def test_an_identifier_as_run_id_is_p1(run: str, what: str, tmp_path: Path) -> None:
    verdict = with_run_id(run).judge(tmp_path / "bundle")
    assert verdict.checks["P1"].result == "fail"
    assert what in verdict.checks["P1"].sentence
    assert run not in verdict.checks["P1"].sentence


def test_with_the_patterns_off_an_identifier_passes_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmedlora_audit.residue.PATTERNS", {})
    assert with_run_id("mrn-12345678").judge(tmp_path / "bundle").checks["P1"].result == "pass"


SOFTWARE = {
    "fedmedlora-0.1.0": True,
    "fedmedlora-10.11.12": True,
    "fedmedlora-0.2.0rc1": True,
    "fedmedlora-555.867.5309": False,
    "fedmedlora-04.03.1957": False,
    "fedmedlora-10.0.0.17": False,
}


@pytest.mark.parametrize(("name", "clean"), SOFTWARE.items())
def test_a_version_is_no_identifier_and_what_only_resembles_one_is(
    name: str, clean: bool, tmp_path: Path
) -> None:
    made = Forger(clean_log())
    made.change(0, data=made.event(0).data.model_copy(update={"software": name}))
    made.resign()
    verdict: Verdict = made.judge(tmp_path / "bundle")
    assert (verdict.checks["P1"].result == "pass") is clean


@pytest.mark.parametrize("text", ["a b", "smith@ward", "Müller", "https", "x\\n", "10.1.2.3", "fe80:1:2:3:4"])
def test_texts_that_the_schema_would_refuse_are_found_all_the_same(text: str) -> None:
    """A second line behind the closed schema: should a later version let them in."""
    residue = Residue(Forger(clean_log()).trust)
    note = f'{{"run":"{text}"}}\n\n'.encode()
    if text == "https":
        residue.check(note)
        return
    with pytest.raises(EventError) as refused:
        residue.check(note)
    assert refused.value.check == "P1"
    assert not re.search(re.escape(text), str(refused.value))
