"""What the report says of a study whose only privacy is noise inside the masks."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_audit.report.sentences import privacy_of
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog
from fedmedlora_testkit.audit_zoo.noise import noisy_sections


def test_the_report_says_whom_it_protects_and_what_was_spent(tmp_path: Path) -> None:
    said = privacy_of(Forger(StudyLog(**noisy_sections()).play(2)).judge(tmp_path / "bundle"))
    assert said.startswith("For hospitals as a whole, not for patients")
    assert "2 of 3 rounds cost a site epsilon" in said


def test_an_overspent_study_is_not_praised(tmp_path: Path) -> None:
    made = Forger(StudyLog(**noisy_sections(epsilon_milli=5000)).play(2))
    assert "Check D6 did not pass" in privacy_of(made.judge(tmp_path / "bundle"))
