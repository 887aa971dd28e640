"""The attack zoo: each falsified bundle is named by its own check; a clean log of the same study by none.

The specimens are data (`fedmedlora_testkit.audit_zoo`). Every one also has its partner: with the checks that
see it switched off, the same bundle is judged without a finding.
"""

import json
from pathlib import Path

import pytest

from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.checks import DP_CHECKS, LAW_CHECKS
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_testkit.audit_attacks import ATTACKS
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog
from fedmedlora_testkit.audit_zoo import ELSEWHERE, ZOO, Scene, Specimen, without
from fedmedlora_testkit.audit_zoo.keys import sealed
from fedmedlora_testkit.audit_zoo.private import private_scene
from fedmedlora_testkit.audit_zoo.rewrites import clean_log
from fedmedlora_testkit.audit_zoo.witnessed import witnessed_scene

ROOT = Path(__file__).resolve().parents[3]
UNTOLD = {"A3", "C6", "C7", "J1"}
"""Not judged from a bundle alone: they need evidence, heads, journals or stamps."""


@pytest.fixture(scope="module", params=sorted(ZOO))
def caged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Specimen, Scene]:
    """Each attack with the bundle that it made."""
    kind = ZOO[request.param]
    return kind, kind.make(tmp_path_factory.mktemp("zoo"))


def found(verdict: Verdict) -> set[str]:
    return {finding.check for finding in verdict.findings}


def failed(verdict: Verdict) -> set[str]:
    assert verdict.verdict == "fail"
    return {name for name, result in verdict.checks.items() if result.result == "fail"}


# -- the clean studies that the attacks start from


def test_a_clean_log_gives_no_finding(tmp_path: Path) -> None:
    verdict = sealed(tmp_path).judge()
    assert (verdict.verdict, verdict.findings) == ("pass", ())
    assert {n for n, r in verdict.checks.items() if r.result == "not judged"} == UNTOLD | {"C3", "E8"}


def test_a_clean_witnessed_log_gives_no_finding(tmp_path: Path) -> None:
    verdict = witnessed_scene(tmp_path).judge()
    assert (verdict.verdict, verdict.findings) == ("pass", ())
    assert {n for n, r in verdict.checks.items() if r.result == "not judged"} == UNTOLD


def test_a_clean_private_log_gives_no_finding(tmp_path: Path) -> None:
    """With an aborted round that was charged, and a site that dropped out after its charge."""
    verdict = private_scene(tmp_path).judge()
    assert (verdict.verdict, verdict.findings) == ("pass", ())
    assert {n for n, r in verdict.checks.items() if r.result == "not judged"} == UNTOLD | {"C3", "E8"}
    assert [verdict.checks[f"D{n}"].count for n in range(1, 6)] == [12, 12, 12, 12, 12 + 11]


def test_one_lie_about_the_budget_is_found_by_one_check(caged: tuple[Specimen, Scene]) -> None:
    kind, scene = caged
    if kind.check in DP_CHECKS and not kind.also:
        assert found(scene.judge()) == {kind.check}


# -- the zoo


def test_every_attack_is_named_by_its_own_check(caged: tuple[Specimen, Scene]) -> None:
    kind, scene = caged
    verdict = scene.judge()
    assert kind.check in failed(verdict)
    assert found(verdict) <= kind.seen_by


def test_every_attack_passes_unseen_with_its_checks_switched_off(caged: tuple[Specimen, Scene]) -> None:
    kind, scene = caged
    with without(*kind.seen_by):
        verdict = scene.judge()
    assert verdict.findings == ()
    assert verdict.verdict in ("pass", "incomplete")


def test_its_own_check_alone_finds_every_attack(caged: tuple[Specimen, Scene]) -> None:
    kind, scene = caged
    with without(*kind.also):
        assert found(scene.judge()) == {kind.check}


def test_every_check_of_the_auditor_is_attacked(tmp_path: Path) -> None:
    """One attack at least per check; what is attacked elsewhere exists."""
    attacked = {kind.check for kind in ZOO.values()}
    assert len(ZOO) >= 45
    assert attacked | set(ELSEWHERE) >= sealed(tmp_path).judge().checks.keys()
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8")


def test_the_law_has_an_unlawful_event_for_each_of_its_checks() -> None:
    raised = {check for check, _ in ATTACKS.values()}
    assert set(LAW_CHECKS) - raised == {"E4"}, "E4 is the zoo's replay"
    assert raised - set(LAW_CHECKS) == {"E2", "C6"}, "also checks of the verifier itself"


@pytest.mark.parametrize("name", ["edited", "replayed", "not_canonical", "charter_swapped", "backdated"])
def test_the_verdict_on_an_attack_is_the_same_on_several_cores(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmedlora_audit.opening.PARALLEL_FROM", 1)
    monkeypatch.setattr("fedmedlora_audit.opening.CHUNK", 16)
    scene = ZOO[name].make(tmp_path)
    one = json.dumps(scene.judge().to_json())
    assert [json.dumps(scene.judge(workers=count).to_json()) for count in (2, 3)] == [one, one]


# -- the limits, and lawful cousins of attacks


def test_own_tail_rewritten_with_no_one_to_refer_to_it_needs_a_head(tmp_path: Path) -> None:
    """The limit of an audit without heads: last words that no site built on can be cut off."""
    scene = ZOO["tail_cut_and_sealed"].make(tmp_path)
    assert verify_bundle(scene.bundle, scene.trust).verdict == "pass"
    assert failed(scene.judge()) == {"C6"}


def test_a_fork_is_lawful_without_the_other_head(tmp_path: Path) -> None:
    scene = ZOO["forked"].make(tmp_path)
    assert verify_bundle(scene.bundle, scene.trust).verdict == "pass"
    assert failed(scene.judge()) == {"C4", "C6"}


def test_an_earlier_head_of_the_same_history_passes(tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    heads.mkdir()
    head = Checkpoint(ORIGIN, 60, clean_log().tree.root(60))
    (heads / "site-b.checkpoint").write_bytes(sign_checkpoint(head, clean_log().log_signer))
    verdict = Forger(clean_log()).judge(tmp_path / "bundle", heads)
    assert (verdict.verdict, verdict.checks["C6"].count) == ("pass", 1)


def test_a_refusal_that_the_log_holds_passes(tmp_path: Path) -> None:
    heads = ZOO["refusal_kept_out_of_the_log"].make(tmp_path).heads
    log = StudyLog().set_up()
    log.plan()
    log.refuse("site-c", "plan", "policy", round=1)
    verdict = Forger(log).judge(tmp_path / "other", heads)
    assert (verdict.verdict, verdict.checks["J1"].count) == ("pass", 1)


def test_missing_files_and_links_are_b1_and_further_ones_of_the_exporter_are_not(tmp_path: Path) -> None:
    scene = sealed(tmp_path, extra={"README": b"what this is"})
    assert scene.judge().verdict == "pass"
    (scene.bundle / "README").unlink()
    assert failed(scene.judge()) == {"B1"}
    (scene.bundle / "README").symlink_to("charter.json")
    assert failed(scene.judge()) == {"B1"}


def test_a_bundle_of_a_member_is_accepted(tmp_path: Path) -> None:
    verdict = sealed(tmp_path, signer=clean_log().authors["site-b"].signer).judge()
    assert (verdict.verdict, verdict.exporter) == ("pass", "site-b")


def test_an_unlawful_event_that_leads_to_no_state_never_raises(tmp_path: Path) -> None:
    """Garbage in lawful clothes: each type of event, at the very start of a log."""
    for type_ in sorted({entry.event.type for entry in clean_log().entries} - {"log.genesis"}):
        made = Forger(clean_log())
        index = made.index(type_)
        made.notes = [made.notes[0], made.notes[index], *made.notes[1:20]]
        assert failed(made.judge(tmp_path / "bundle"))
