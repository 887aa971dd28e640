"""What the auditor takes from cosigned heads: a quorum (C3), openings (U1), times (E8), one history (C4)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit import witnessing
from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.cosignature import cosign, is_cosigned_after, with_cosignatures
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, witness_of


@cache
def log() -> StudyLog:
    """Two rounds of a study whose charter demands a quorum of 3 of its 4 members."""
    return StudyLog(audit={"quorum": True}).play(2)


def seconds(index: int) -> int:
    return int(datetime.fromisoformat(log().entries[index].event.time).timestamp())


def cosigned(
    size: int,
    sites: Iterable[str] = ("site-a", "site-b", "site-c"),
    *,
    late: int = 30,
    tree: Tree | None = None,
) -> bytes:
    """The head of a size with the lines of some sites, dated shortly after its last entry."""
    head = Checkpoint(ORIGIN, size, (tree or log().tree).root(size))
    note = sign_checkpoint(head, log().log_signer)
    return with_cosignatures(
        note, [cosign(head, witness_of(s), time=seconds(size - 1) + late) for s in sites]
    )


def sizes() -> list[int]:
    return [entry.index + 1 for entry in log().entries if is_cosigned_after(entry.event.type)]


def heads(without: Iterable[int] = (), **changes: Any) -> dict[str, bytes]:
    return {f"heads/{size}": cosigned(size, **changes) for size in sizes()[:-1] if size not in set(without)}


def judged(
    tmp_path: Path, extra: Mapping[str, bytes] | None = None, checkpoint: bytes | None = None
) -> Verdict:
    made = Forger(log())
    folder = made.seal(
        tmp_path / "bundle",
        extra=heads() if extra is None else extra,
        checkpoint=checkpoint or cosigned(log().tree.size),
    )
    return verify_bundle(folder, made.trust)


def found(verdict: Verdict) -> set[str]:
    return {finding.check for finding in verdict.findings}


def test_a_witnessed_log_passes_and_says_how_much_was_looked_at(tmp_path: Path) -> None:
    verdict = judged(tmp_path)
    assert (verdict.verdict, verdict.findings) == ("pass", ())
    assert verdict.checks["C3"].result == verdict.checks["E8"].result == "pass"
    assert verdict.checks["C3"].count == len(sizes()) == 5
    assert verdict.checks["E8"].count == log().tree.size


def test_an_export_before_the_last_cosignatures_is_incomplete(tmp_path: Path) -> None:
    verdict = judged(tmp_path, checkpoint=cosigned(log().tree.size, ["site-a", "site-b"]))
    assert (verdict.verdict, verdict.findings) == ("incomplete", ())
    left = log().tree.size - sizes()[-2]
    assert verdict.checks["C3"].sentence == f"No quorum has cosigned the last {left} entries yet."


def test_without_any_cosignature_an_opened_round_is_a_finding(tmp_path: Path) -> None:
    verdict = judged(tmp_path, extra={}, checkpoint=Forger(log()).checkpoint())
    assert found(verdict) == {"U1"}
    assert verdict.checks["C3"].result == verdict.checks["E8"].result == "not judged"


def test_a_round_opened_before_a_quorum_stood_behind_its_survivors_is_named(tmp_path: Path) -> None:
    # R5.6.5
    first = sizes()[0]
    verdict = judged(tmp_path, extra=heads(without=[first]))
    (finding,) = verdict.findings
    assert finding.check == "U1"
    assert finding.index == next(e.index for e in log().entries if e.event.type == "unmask.response")
    assert "round 1" in finding.sentence
    # A head that came only after the first answer does not help.
    late = {f"heads/{finding.index + 1}": cosigned(finding.index + 1)}
    assert found(judged(tmp_path, extra={**heads(without=[first]), **late})) == {"U1"}


def test_an_early_opening_passes_where_the_check_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnessing, "_judge_openings", lambda *_: None)
    assert judged(tmp_path, extra=heads(without=[sizes()[0]])).verdict == "pass"


def test_two_of_three_cosignatures_are_no_quorum(tmp_path: Path) -> None:
    few = {f"heads/{sizes()[0]}": cosigned(sizes()[0], ["site-a", "site-b"])}
    assert found(judged(tmp_path, extra={**heads(), **few})) == {"U1"}


def test_a_cosigned_head_of_another_history_is_a_fork(tmp_path: Path) -> None:
    size = sizes()[1]
    other = Tree.of_data([entry.note for entry in log().entries[: size - 1]] + [b"another\n"])
    verdict = judged(tmp_path, extra={**heads(), f"heads/{size}": cosigned(size, tree=other)})
    assert ("C4", f"heads/{size}") in {(finding.check, finding.file) for finding in verdict.findings}


@pytest.mark.parametrize("where", ["checkpoint", "heads"])
def test_a_known_witness_whose_line_does_not_hold_is_named(tmp_path: Path, where: str) -> None:
    size = log().tree.size if where == "checkpoint" else sizes()[0]
    wrong = cosign(Checkpoint(ORIGIN, size + 1, bytes(32)), witness_of("site-a"), time=5)
    bad = cosigned(size, ["site-b", "site-c", "site-d"]) + wrong
    extra = heads() if where == "checkpoint" else {**heads(), f"heads/{size}": bad}
    verdict = judged(tmp_path, extra=extra, checkpoint=bad if where == "checkpoint" else None)
    assert "C3" in found(verdict)
    assert "site-a" in verdict.checks["C3"].sentence


def test_a_head_under_another_name_is_named(tmp_path: Path) -> None:
    verdict = judged(tmp_path, extra={**heads(), "heads/7": cosigned(sizes()[0])})
    assert ("C2", "heads/7") in {(finding.check, finding.file) for finding in verdict.findings}


@pytest.mark.parametrize(
    ("which", "late", "says"),
    [
        (1, -4000, "after the witnesses had seen it"),
        (2, 90_000, "before the witnesses had seen what it answers"),
    ],
)
def test_times_that_the_witnesses_clocks_do_not_allow_are_named(
    tmp_path: Path, which: int, late: int, says: str
) -> None:
    size = sizes()[which]
    verdict = judged(tmp_path, extra={**heads(), f"heads/{size}": cosigned(size, late=late)})
    assert found(verdict) == {"E8"}
    assert all(says in finding.sentence for finding in verdict.findings)


def test_a_head_that_no_step_waited_for_may_be_cosigned_hours_later(tmp_path: Path) -> None:
    # a coordinator that was cut off after the end of a round: what it appended meanwhile is honest
    size = sizes()[1]
    extra = {**heads(), f"heads/{size}": cosigned(size, late=90_000)}
    assert judged(tmp_path, extra=extra).verdict == "pass"


def test_a_clock_within_the_skew_is_no_finding(tmp_path: Path) -> None:
    late = {f"heads/{size}": cosigned(size, late=-witnessing.SKEW_SECONDS + 60) for size in sizes()[:-1]}
    assert judged(tmp_path, extra=late).verdict == "pass"
