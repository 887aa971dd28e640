"""Retention: what holds bind, what may go, and what an auditor still knows of a log with deleted entries."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit.bundle import DeletedEntry
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.checks import DP_CHECKS, WHOLE_CHECKS
from fedmedlora_audit.cosignature import cosign, with_cosignatures
from fedmedlora_audit.errors import BundleError, CharterError
from fedmedlora_audit.export import export_line
from fedmedlora_audit.export.record import read_records
from fedmedlora_audit.law import State, check
from fedmedlora_audit.law.remains import pass_over, recall
from fedmedlora_audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from fedmedlora_audit.report.keeping import keeping_of
from fedmedlora_audit.retention import Retention
from fedmedlora_audit.retention_review import RetentionJudged
from fedmedlora_audit.tiles import TILE_WIDTH, entry_tiles, read_remains
from fedmedlora_audit.verify import Verdict
from fedmedlora_audit.verify import verify_bundle as verify_bundle_at
from fedmedlora_testkit.audit_attacks.retention import (
    AFTER_THE_YEARS,
    BEFORE_THE_YEARS,
    hold,
    lengthened,
    long_log,
    pruned,
    release,
)
from fedmedlora_testkit.audit_charges import PRIVACY
from fedmedlora_testkit.audit_forger import Forger, edit_file
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, charter_table, witness_of

LATER = dt.datetime(2034, 1, 1, tzinfo=dt.UTC)
verify_bundle = partial(verify_bundle_at, now=LATER)
SEALED = {"B1", "C1", "C2", "C4", "C5", "G32", "H1", "T1"}
"""What can still be known of a log whose entries are gone."""


class Pruner(Forger):
    """A coordinator that deletes tiles of a log, lawfully or not."""

    def bundle(self, folder: Path, tiles: Collection[int], **changes: Any) -> Path:
        entries = [
            DeletedEntry(leaf_hash(note)) if place // TILE_WIDTH in tiles else note
            for place, note in enumerate(self.notes)
        ]
        return self.seal(folder, entries=entries, **changes)


def lawful() -> Pruner:
    """Two tiles of a long log, deleted after the years."""
    log = long_log(StudyLog())
    log.add(pruned(log))
    return Pruner(log)


def results(verdict: Verdict, result: str) -> set[str]:
    return {name for name, check in verdict.checks.items() if check.result == result}


# -- what is left


def test_lawful_pruning_gives_no_finding_and_no_pass_for_what_is_gone(tmp_path: Path) -> None:
    made = lawful()
    verdict = verify_bundle(made.bundle(tmp_path / "bundle", {0, 1}), made.trust)
    assert verdict.findings == ()
    assert verdict.verdict == "incomplete"
    assert results(verdict, "fail") == set()
    assert set(WHOLE_CHECKS) - set(DP_CHECKS) <= results(verdict, "not judged")
    assert results(verdict, "pass") >= set(DP_CHECKS), "there is no budget"
    assert results(verdict, "pass") >= SEALED
    assert verdict.checks["H1"].sentence == (
        "Entries 0 to 511 were deleted after 6 years, under no legal hold."
    )
    assert verdict.events == len(made.notes) - 512


def test_of_a_budget_nothing_is_known_once_charges_are_gone(tmp_path: Path) -> None:
    log = long_log(StudyLog(privacy={**PRIVACY, "epsilon_milli": 90_000}))
    log.add(pruned(log))
    made = Pruner(log)
    verdict = verify_bundle(made.bundle(tmp_path / "bundle", {0, 1}), made.trust)
    assert (verdict.verdict, verdict.findings) == ("incomplete", ())
    assert set(DP_CHECKS) <= results(verdict, "not judged")


def test_what_is_left_is_exported_with_its_own_indexes_and_marked(tmp_path: Path) -> None:
    made = lawful()
    folder = made.bundle(tmp_path / "bundle", {0, 1})
    records = list(read_records(folder, verify_bundle(folder, made.trust)))
    assert [record.entry.index for record in records] == list(range(512, len(made.notes)))
    rows = [json.loads(export_line(record, "jsonl")) for record in records]
    assert {row["verification"] for row in rows} == {"incomplete"}
    assert [row["leaf_hash"] for row in rows] == [leaf_hash(note).hex() for note in made.notes[512:]]


def test_a_member_who_kept_everything_shows_the_whole_log(tmp_path: Path) -> None:
    made = lawful()
    verdict = made.judge(tmp_path / "bundle")
    assert (verdict.verdict, verdict.checks["H1"].result, verdict.checks["H1"].count) == ("pass", "pass", 1)


def test_proofs_of_what_is_left_hold_by_the_hashes_of_what_is_gone(tmp_path: Path) -> None:
    made = lawful()
    folder = made.bundle(tmp_path / "bundle", {0, 1})
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    size = len(made.notes)
    remains = read_remains(files, size)
    assert remains is not None
    assert remains.missing == [(0, 512)]
    whole = made.log.tree
    assert remains.tree.root() == whole.root()
    for index, note in remains.notes.items():
        proof = remains.tree.inclusion_proof(index, size)
        verify_inclusion(leaf=leaf_hash(note), index=index, size=size, proof=proof, root=whole.root())
    for old in (1, 100, 256, 400, 512, size - 1):
        proof = remains.tree.consistency_proof(old, size)
        verify_consistency(
            old_size=old, old_root=whole.root(old), new_size=size, new_root=whole.root(), proof=proof
        )


def test_a_tile_with_a_retention_event_stays_and_the_others_go(tmp_path: Path) -> None:
    log = StudyLog().set_up()
    leaf = lengthened(log, 300).add(hold(log)).leaf.hex()
    lengthened(log.play_round(), 800).finish()
    log.add(release(log, 1, [leaf]))
    assert log.state.retention.prunable(TILE_WIDTH) == [(0, 256), (512, 768)]
    for start, end in log.state.retention.prunable(TILE_WIDTH):
        log.add(pruned(log, start, end))
    assert log.state.retention.prunable(TILE_WIDTH) == []
    made = Pruner(log)
    verdict = verify_bundle(made.bundle(tmp_path / "bundle", {0, 2}), made.trust)
    assert (verdict.findings, verdict.verdict) == ((), "incomplete")
    assert "0 to 255, 512 to 767" in verdict.checks["H1"].sentence


def test_a_pruned_log_goes_on_under_the_same_rules() -> None:
    made = lawful()
    log = made.log
    state = State.begin(log.terms)
    for entry in log.entries:
        if entry.index < 512:
            pass_over(state, entry.leaf)
        else:
            assert recall(state, entry) == []
    assert state.tree.root() == log.tree.root()
    assert state.chain_of("coordinator") == log.state.chain_of("coordinator")
    assert state.retention == log.state.retention
    note = hold(log)
    event = log.add(note).event
    check(state, event, leaf_hash(note))


# -- what is found


def nothing_said(made: Pruner) -> set[int]:
    del made.notes[made.index("retention.pruned")]
    return {0, 1}


def more_gone_than_said(made: Pruner) -> set[int]:
    made.change(
        made.index("retention.pruned"),
        data=made.event(made.index("retention.pruned")).data.model_copy(
            update={"end": 256, "root": made.log.tree.root(256).hex()}
        ),
    )
    return {0, 1}


def gone_too_early(made: Pruner) -> set[int]:
    made.change(made.index("retention.pruned"), time=BEFORE_THE_YEARS)
    return {0, 1}


def other_root_named(made: Pruner) -> set[int]:
    index = made.index("retention.pruned")
    made.change(index, data=made.event(index).data.model_copy(update={"root": "0" * 64}))
    return {0, 1}


@pytest.mark.parametrize("attack", [nothing_said, more_gone_than_said, gone_too_early, other_root_named])
def test_quiet_deletion_is_named_and_passes_unseen_without_the_check(
    attack: Callable[[Pruner], set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lawful()
    tiles = attack(made)
    folder = made.bundle(tmp_path / "bundle", tiles)
    verdict = verify_bundle(folder, made.trust)
    assert verdict.verdict == "fail"
    assert verdict.checks["H1"].result == "fail"
    monkeypatch.setattr("fedmedlora_audit.verify.judge_remains", lambda *_: RetentionJudged("off", 0))
    unseen = verify_bundle(folder, made.trust)
    assert (unseen.verdict, unseen.findings) == ("incomplete", ())


def test_deletion_under_a_hold_is_named_in_what_is_left(tmp_path: Path) -> None:
    log = long_log(StudyLog())
    log.add(hold(log))
    log.add(pruned(log), lawful=False)
    made = Pruner(log)
    verdict = verify_bundle(made.bundle(tmp_path / "bundle", {0, 1}), made.trust)
    assert verdict.checks["H1"].result == "fail"
    assert "while hold 1 is in force" in verdict.checks["H1"].sentence


def test_a_deletion_dated_ahead_is_named_until_its_date_has_come(tmp_path: Path) -> None:
    made = lawful()
    folder = made.bundle(tmp_path / "bundle", {0, 1})
    eve = dt.datetime.fromisoformat(AFTER_THE_YEARS) - dt.timedelta(days=1)
    verdict = verify_bundle_at(folder, made.trust, now=eve)
    assert (verdict.verdict, verdict.checks["H1"].result) == ("fail", "fail")
    assert "which is not yet" in verdict.checks["H1"].sentence
    assert verify_bundle_at(folder, made.trust, now=eve + dt.timedelta(days=1)).findings == ()
    without = verify_bundle_at(folder, made.trust)
    assert (without.findings, without.checks["H1"].result) == ((), "not judged")


def test_a_hold_that_was_deleted_shows_by_the_next_ones_number(tmp_path: Path) -> None:
    log = StudyLog().set_up()
    log.add(hold(log))
    lengthened(log.play_round()).finish()
    log.add(hold(log, 2))
    log.add(pruned(log), lawful=False)
    made = Pruner(log)
    verdict = verify_bundle(made.bundle(tmp_path / "bundle", {0, 1}), made.trust)
    assert "the next hold is number 1, not 2" in verdict.checks["H1"].sentence


def test_a_changed_hash_of_a_deleted_entry_and_a_changed_entry_are_c1(tmp_path: Path) -> None:
    made = lawful()
    folder = made.bundle(tmp_path / "hash", {0, 1})
    edit_file(folder, "tile/0/000", lambda content: bytes([content[0] ^ 1]) + content[1:])
    assert {"B1", "C1"} <= results(verify_bundle(folder, made.trust), "fail")
    folder = made.bundle(tmp_path / "entry", {0, 1})
    last = next(path for path in (folder / "tile" / "entries").rglob("*") if path.is_file())
    name = str(last.relative_to(folder))
    edit_file(folder, name, lambda content: content.replace(b"audit.exported", b"audit.expprted", 1))
    assert {"B1", "C1"} <= results(verify_bundle(folder, made.trust), "fail")


def test_an_incomplete_tile_is_never_pruned(tmp_path: Path) -> None:
    made = lawful()
    folder = made.seal(tmp_path / "bundle")
    last = next(path for path in (folder / "tile" / "entries").rglob("*") if path.parent.suffix == ".p")
    last.unlink()
    verdict = verify_bundle(folder, made.trust)
    assert {"B1", "C5"} <= results(verdict, "fail")
    assert verdict.checks["H1"].result == "not judged"
    with pytest.raises(BundleError, match="deleted in part"):
        entry_tiles([None, b"x"])


def test_another_genesis_and_a_bad_signature_show_in_a_pruned_log_too(tmp_path: Path) -> None:
    made = lawful()
    other = made.trust.model_copy(update={"genesis": "0" * 64})
    folder = made.bundle(tmp_path / "bundle", {0, 1})
    assert "K1" in results(verify_bundle(folder, other), "fail")
    key = made.trust.members["site-a"].event_vkey
    stranger = made.trust.model_copy(update={"coordinator_vkey": key})
    assert "E2" in results(verify_bundle(folder, stranger), "fail")


def test_journals_beside_a_pruned_log_accuse_nobody_and_heads_still_count(tmp_path: Path) -> None:
    made = lawful()
    heads = tmp_path / "heads" / "site-a"
    heads.mkdir(parents=True)
    row = {"step": "plan", "reason": "policy", "round": 1}
    (heads / "journal.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (heads / "checkpoint").write_bytes(made.log.checkpoint())
    verdict = verify_bundle(made.bundle(tmp_path / "bundle", {0, 1}), made.trust, tmp_path / "heads")
    assert (verdict.checks["J1"].result, verdict.checks["C6"].result) == ("not judged", "pass")


def witnessed(extra: Callable[[StudyLog], object]) -> Pruner:
    """A study whose charter demands a quorum, cosigned to its end; then something more is said."""
    log = long_log(StudyLog(audit={"quorum": True}))
    head = Checkpoint(ORIGIN, log.tree.size, log.tree.root())
    note = sign_checkpoint(head, log.log_signer)
    seconds = int(dt.datetime.fromisoformat(log.entries[-1].event.time).timestamp()) + 30
    lines = [cosign(head, witness_of(site), time=seconds) for site in log.sites[:3]]
    log.cosigned = {f"heads/{head.size}": with_cosignatures(note, lines)}  # type: ignore[attr-defined]
    extra(log)
    return Pruner(log)


def c3_of(made: Pruner, folder: Path) -> tuple[str, str]:
    """What becomes of C3; U1 needs further heads and is not looked at here."""
    check = verify_bundle(made.seal(folder, extra=made.log.cosigned), made.trust).checks["C3"]  # type: ignore[attr-defined]
    return check.result, check.sentence


def test_after_the_members_left_the_log_says_how_it_is_kept_and_nothing_else(tmp_path: Path) -> None:
    """Nobody is there to cosign a hold six years later; of the study itself every word needs a quorum."""
    assert c3_of(witnessed(lambda log: log.add(hold(log))), tmp_path / "hold")[0] == "pass"
    assert "keeping alone" in c3_of(witnessed(lambda log: log.add(pruned(log))), tmp_path / "pruned")[1]

    def refused(log: StudyLog) -> None:
        log.add(log.draft("site-a", "step.refused", of.StepRefused(step="plan", reason="policy")))

    assert c3_of(witnessed(refused), tmp_path / "refused")[0] == "not judged"


# -- numbers


def test_years_are_counted_from_the_end_of_the_run() -> None:
    log = long_log(StudyLog())
    assert log.state.retention.closed_on[:10] == "2026-03-01"
    assert log.state.retention.expires_on(6)[:10] == "2032-03-01"
    assert BEFORE_THE_YEARS < log.state.retention.expires_on(6) < AFTER_THE_YEARS
    leap = Retention(closed_on="2028-02-29T10:00:00Z")
    assert "2034-02-28T23:59:59Z" < leap.expires_on(6) < "2034-03-01T00:00:00Z"


def test_a_charter_may_ask_for_more_years_and_the_law_counts_them() -> None:
    log = long_log(StudyLog(audit={"retention_years": 10}))
    assert log.terms.retention_years == 10
    with pytest.raises(Exception, match="before 2036-03-01"):
        log.add(pruned(log))


@pytest.mark.parametrize("years", [0, 101, -1, True, "6", 6.5])
def test_senseless_years_make_no_charter(years: object) -> None:
    import rfc8785

    with pytest.raises(CharterError, match="retention_years"):
        CharterTerms.from_json(rfc8785.dumps(charter_table(audit={"retention_years": years})))


def test_a_report_tells_holds_and_deletions_of_a_log_that_is_kept_in_part(tmp_path: Path) -> None:
    log = long_log(StudyLog())
    log.add(hold(log))
    log.add(release(log, 1, [log.entries[-1].leaf.hex()]))
    log.add(pruned(log))
    made = Pruner(log)
    keeping = keeping_of(verify_bundle(made.bundle(tmp_path / "bundle", {0, 1}), made.trust))
    assert [row.kind for row in keeping.rows] == ["legal hold", "hold ended", "deletion"]
    assert "512 entries (0 to 511) were deleted" in keeping.rows[-1].sentence
    assert (keeping.years, keeping.open_holds) == (6, ())
    whole = keeping_of(verify_bundle(made.seal(tmp_path / "whole"), made.trust))
    assert whole.until.startswith(str(int(log.state.retention.closed_on[:4]) + 6))
    log = long_log(StudyLog())
    log.add(hold(log))
    assert keeping_of(verify_bundle(Forger(log).seal(tmp_path / "held"), Forger(log).trust)).open_holds == (
        1,
    )
