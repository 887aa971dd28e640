"""The report's values: what it says of rounds, witnesses, keys and oddities for each of three verdicts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit import verify as verify_module
from fedmedlora_audit.checkpoint import Checkpoint
from fedmedlora_audit.cosignature import cosign, is_cosigned_after, with_cosignatures
from fedmedlora_audit.heads import FetchedHead
from fedmedlora_audit.report import Report, build_report
from fedmedlora_audit.report.claims import AREAS, OTHER_AREA, area_of
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, witness_of
from fedmedlora_testkit.audit_zoo.private import LyingLog, figures, honest

JUDGED = datetime(2026, 4, 1, 12, tzinfo=UTC)


@cache
def dropped() -> StudyLog:
    """Three rounds; in the second site-d uploads nothing, then the third is given up after a refusal."""
    log = StudyLog().set_up()
    log.play_round()
    log.play_round({"upload": ["site-d"]})
    log.to_step("advertise")
    log.refuse("site-b", "advertise", "short_roster", round=3)
    log.abort("refused")
    return log.finish()


@cache
def witnessed() -> StudyLog:
    return StudyLog(audit={"quorum": True}).play(1)


def report_of(made: Forger, verdict: Verdict) -> Report:
    return build_report(
        verdict,
        made.trust,
        verifier="fedmedlora 0.1.0",
        verifier_digest="0" * 64,
        judged_at=JUDGED,
        repeat="fedmedlora audit verify b",
    )


def seal_witnessed(folder: Path, *, last_by: tuple[str, ...]) -> tuple[Forger, Path]:
    """A bundle whose heads three members cosigned, and whose last head `last_by` cosigned."""
    log, made = witnessed(), Forger(witnessed())
    sizes = [entry.index + 1 for entry in log.entries if is_cosigned_after(entry.event.type)]
    when = int(datetime.fromisoformat(log.entries[-1].event.time).timestamp())

    def head(size: int, sites: tuple[str, ...]) -> bytes:
        checkpoint = Checkpoint(ORIGIN, size, log.tree.root(size))
        time = int(datetime.fromisoformat(log.entries[size - 1].event.time).timestamp()) + 30
        lines = [cosign(checkpoint, witness_of(site), time=min(time, when + 30)) for site in sites]
        return with_cosignatures(log.head_note(size), lines)

    extra = {f"heads/{size}": head(size, ("site-a", "site-b", "site-c")) for size in sizes[:-1]}
    return made, made.seal(folder, extra=extra, checkpoint=head(log.tree.size, last_by))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Report:
    made = Forger(dropped())
    return report_of(made, made.judge(tmp_path_factory.mktemp("plain") / "bundle"))


def test_a_passing_log_is_told_with_its_scope(plain: Report) -> None:
    scope = plain.scope
    assert (plain.verdict, plain.headline, plain.first_fault) == ("pass", "The log passes.", "")
    assert (scope.study, scope.origin, scope.events) == ("study-1", ORIGIN, len(dropped().entries))
    assert scope.root == dropped().tree.root().hex()
    assert (scope.first_time, scope.last_time) == (
        dropped().entries[0].event.time,
        dropped().entries[-1].event.time,
    )
    assert (scope.members, scope.threshold, scope.colluding) == (4, 3, 1)
    assert (scope.runs, scope.followed, scope.verifier_digest) == (("run-1",), scope.events, "0" * 64)
    assert (scope.judged_at, scope.charter_is_trusted) == ("2026-04-01T12:00:00Z", True)
    assert scope.charter == dropped().terms.digest


def test_fingerprints_are_those_of_the_trust_file_in_groups_of_four(plain: Report) -> None:
    made = Forger(dropped())
    rows = {(row.party, row.key): row.fingerprint for row in plain.scope.fingerprints}
    assert len(rows) == 2 + 2 * 4
    assert rows["site-c", "signs events"].replace(" ", "") == made.trust.fingerprints["site-c"]
    assert rows["the log", "signs heads"].replace(" ", "") == made.trust.fingerprints["log"]
    assert all(len(group) == 4 for row in rows.values() for group in row.split())


def test_rounds_name_who_is_in_the_sum_who_is_not_and_what_was_opened(plain: Report) -> None:
    first, second, third = plain.rounds
    assert (first.outcome, second.outcome, third.outcome) == ("closed", "closed", "aborted")
    assert (first.members, first.missing, first.pair_of) == (dropped().sites, (), ())
    assert second.members == second.self_of == ("site-a", "site-b", "site-c")
    assert [(gone.site, gone.since) for gone in second.missing] == [("site-d", "uploaded nothing in time")]
    assert second.pair_of == ("site-d",)
    assert set(second.opened_by) <= {"site-a", "site-b", "site-c"}
    session = dropped().state.rounds[2].sessions[-1]
    assert second.aggregate == session.ring
    assert second.next_base == dropped().state.closed_rounds[1].next_base
    assert (third.members, third.aggregate, third.self_of) == ((), "", ())
    assert third.next_base == second.next_base
    assert {row.epsilon_milli for row in plain.rounds} == {None}
    assert plain.privacy.startswith("None. The study has no differential privacy")


@pytest.mark.parametrize(
    ("step", "since"),
    [
        ("train", "did not accept the plan"),
        ("advertise", "gave no keys"),
        ("share", "gave no shares of its secrets"),
        ("upload", "uploaded nothing in time"),
    ],
)
def test_a_site_that_drops_out_is_missing_from_that_step(tmp_path: Path, step: str, since: str) -> None:
    made = Forger(StudyLog().play(2, {step: ["site-c"]}))
    second = report_of(made, made.judge(tmp_path / "bundle")).rounds[1]
    assert [(gone.site, gone.since) for gone in second.missing] == [("site-c", since)]


def test_refusal_abort_and_erasure_are_oddities_in_the_order_of_the_log(plain: Report) -> None:
    kinds = [row.kind for row in plain.oddities]
    assert {"refusal", "abort"} <= set(kinds)
    assert [row.index for row in plain.oddities] == sorted(row.index for row in plain.oddities)
    refusal = next(row for row in plain.oddities if row.kind == "refusal")
    assert (refusal.who, refusal.round) == ("site-b", 3)
    assert refusal.sentence == "site-b refused the step “advertise”: short roster."
    abort = next(row for row in plain.oddities if row.kind == "abort")
    assert abort.sentence == "The round was given up: refused."


def test_a_late_answer_is_an_oddity_and_one_in_time_is_none(tmp_path: Path) -> None:
    log = StudyLog().set_up()
    log.to_step("upload", {})
    late = log.draft("site-d", "update.submitted", log.update_data(), **log.blob("site-d", "masked-update"))
    for site in ("site-a", "site-b", "site-c"):
        log.upload(site)
    log.coordinate()
    entry = log.add(late)
    made = Forger(log)
    verdict = made.judge(tmp_path / "bundle")
    rows = [row for row in report_of(made, verdict).oddities if row.kind == "late"]
    assert [(row.index, row.who) for row in rows] == [(entry.index, "site-d")]


def test_people_have_keys_and_the_times_of_entering_and_signing(plain: Report) -> None:
    people = {row.party: row for row in plain.people}
    assert list(people) == ["coordinator", *dropped().sites]
    keys = dropped().terms.members["site-b"]
    assert keys.event_vkey.split("+")[1] == people["site-b"].key_id
    assert keys.witness_vkey.split("+")[1] == people["site-b"].witness_key_id
    signed = dropped().entries[dropped().state.signed["site-b"]].event.time
    assert people["site-b"].signed_at == signed
    assert people["site-b"].acts[0].endswith("events")


def test_every_check_of_the_verdict_is_in_the_report_once_with_its_area(plain: Report) -> None:
    ids = [row.id for row in plain.checks]
    assert len(ids) == len(set(ids)) > 50
    assert OTHER_AREA not in {row.area for row in plain.checks}
    assert [area for area, _ in AREAS] == list(dict.fromkeys(row.area for row in plain.checks))
    assert area_of("X9") == OTHER_AREA


def test_witnesses_are_told_with_their_last_head_and_what_was_fetched(tmp_path: Path) -> None:
    made, folder = seal_witnessed(tmp_path / "bundle", last_by=("site-a", "site-b", "site-d"))
    heads = tmp_path / "heads"
    for site, size in (("site-a", 40), ("site-b", witnessed().tree.size)):
        (heads / site).mkdir(parents=True)
        (heads / site / "checkpoint").write_bytes(witnessed().head_note(size))
    (heads / "site-c").mkdir()
    (heads / "site-c" / "checkpoint").write_bytes(b"junk\n")
    verdict = verify_bundle(folder, made.trust, heads)
    found = report_of(made, verdict).witnesses
    assert (found.quorum, found.demanded, found.covered) == (3, True, witnessed().tree.size)
    rows = {row.site: row for row in found.rows}
    assert (rows["site-a"].cosigned, rows["site-c"].cosigned) == (found.quorum_heads, found.quorum_heads - 1)
    assert rows["site-d"].last_size == rows["site-a"].last_size == witnessed().tree.size
    last = rows["site-c"].last_size
    assert last is not None and last < witnessed().tree.size
    assert rows["site-a"].last_time > witnessed().entries[-1].event.time
    assert [(rows[s].fetched, rows[s].fetched_size) for s in witnessed().sites] == [
        ("agrees", 40),
        ("agrees", witnessed().tree.size),
        ("differs", None),
        ("not fetched", None),
    ]


def test_an_incomplete_verdict_names_the_checks_that_the_charter_asks_for(tmp_path: Path) -> None:
    made, folder = seal_witnessed(tmp_path / "bundle", last_by=("site-a",))
    report = report_of(made, verify_bundle(folder, made.trust))
    assert report.verdict == "incomplete"
    assert report.headline == "The log could not be judged in full: C3 had too little to go by."
    assert "This is not a pass." in report.meaning
    c3 = next(row for row in report.checks if row.id == "C3")
    assert (c3.demanded, c3.result) == (True, "not judged")
    assert any(limit.startswith("Not judged, C3: No quorum has cosigned") for limit in report.limits)


def test_a_failing_log_names_the_first_event_at_fault_and_a_few_of_each_kind(tmp_path: Path) -> None:
    made = Forger(dropped())
    place = made.index("unmask.request", which=0)
    made.notes[place] = made.notes[place].replace(b'"time":"2026', b'"time":"2025')
    report = report_of(made, made.judge(tmp_path / "bundle"))
    assert report.verdict == "fail"
    assert "E2" in report.headline
    assert report.first_fault.startswith(f"The first event at fault is event {place}, unmask.request by")
    told = [row.check for row in report.findings]
    assert max(told.count(check) for check in told) <= 3
    left = dict(report.findings_left)
    assert left["E7"] > 10
    blamed = next(row for row in report.findings if row.check == "E2")
    assert (blamed.said_by, blamed.type) == ("coordinator", "unmask.request")


def test_a_log_that_the_law_cannot_follow_says_so_instead_of_listing_rounds(tmp_path: Path) -> None:
    made = Forger(dropped())
    made.notes[20] = made.signer.sign("hello\n")
    report = report_of(made, made.judge(tmp_path / "bundle"))
    assert (report.rounds_known, report.rounds) == (False, ())
    assert (report.scope.events, report.scope.followed) == (len(dropped().entries), 20)
    assert report.scope.last_time == dropped().entries[19].event.time


def test_an_empty_folder_still_makes_a_report(tmp_path: Path) -> None:
    made = Forger(dropped())
    report = report_of(made, verify_bundle(tmp_path, made.trust))
    assert (report.verdict, report.scope.events, report.scope.study) == ("fail", 0, "")
    assert report.scope.threshold is None
    assert not report.scope.charter_is_trusted


def test_limits_say_what_this_audit_had_no_material_for(plain: Report, tmp_path: Path) -> None:
    assert any("without heads fetched" in limit for limit in plain.limits)
    assert any(limit.startswith("Not judged, C6") for limit in plain.limits)
    made = Forger(dropped())
    (tmp_path / "heads" / "site-a").mkdir(parents=True)
    (tmp_path / "heads" / "site-a" / "checkpoint").write_bytes(dropped().checkpoint())
    verdict = verify_bundle(made.seal(tmp_path / "bundle"), made.trust, tmp_path / "heads")
    assert verdict.fetched == {"site-a": FetchedHead(dropped().tree.size, agrees=True)}
    assert not any("without heads fetched" in limit for limit in report_of(made, verdict).limits)


def test_spent_privacy_is_told_by_round_against_the_budget(tmp_path: Path) -> None:
    """The most that any site has spent until then: aborted rounds count, and so does a second charge."""
    log = LyingLog(honest, rounds=12)
    log.play_round()
    log.to_step("survivors")
    log.abort()
    log.plan()
    log.accept_plan("site-a")
    log.charge("site-a")
    log.charge("site-a")
    log.abort()
    log.plan()
    log.abort()
    made = Forger(log)
    report = report_of(made, made.judge(tmp_path / "bundle"))
    assert [row.epsilon_milli for row in report.rounds] == [1644, 1847, 2252, 2252]
    assert {row.budget_milli for row in report.rounds} == {3000}
    assert report.privacy == (
        "The study has a privacy budget: epsilon 3.000 at delta 1e-5 for each patient, over all rounds. "
        "The budget, epsilon 3.000, covers 8 of the charter's 12 rounds. "
        "The most that any one hospital has spent in this log is epsilon 2.252; "
        "that was recomputed from the logged noise, rate and steps, and lies within the budget."
    )
    limits = " ".join(report.limits)
    assert "other studies" in limits and "added noise as it logged" in limits
    assert "has no differential privacy" not in limits


def test_spent_privacy_that_is_wrong_is_not_called_within_the_budget(tmp_path: Path) -> None:
    log = LyingLog(figures(1000)).play_round()
    made = Forger(log)
    report = report_of(made, made.judge(tmp_path / "bundle"))
    assert report.privacy == (
        "The study has a privacy budget: epsilon 3.000 at delta 1e-5 for each patient, over all rounds. "
        "Checks D1 to D5 did not all pass: see section 3."
    )


def test_the_json_has_the_same_content(plain: Report) -> None:
    table: dict[str, Any] = json.loads(json.dumps(plain.to_json()))
    assert table["schema"] == "flreport/1"
    assert table["rounds"][1]["missing"] == [{"site": "site-d", "since": "uploaded nothing in time"}]
    assert table["scope"]["root"] == plain.scope.root
    assert len(table["checks"]) == len(plain.checks)


def test_a_flood_of_findings_lets_no_later_check_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetched head that differs is a finding, however many events were at fault before it."""
    monkeypatch.setattr(verify_module, "MAX_FINDINGS", 5)
    made = Forger(dropped())
    place = made.index("unmask.request", which=0)
    made.notes[place] = made.notes[place].replace(b'"time":"2026', b'"time":"2025')
    (tmp_path / "heads" / "site-a").mkdir(parents=True)
    (tmp_path / "heads" / "site-a" / "checkpoint").write_bytes(dropped().checkpoint())
    verdict = made.judge(tmp_path / "bundle", tmp_path / "heads")
    assert len(verdict.findings) < 5 + len(verdict.checks)
    assert verdict.checks["C6"].result == verdict.checks["C4"].result == "fail"
