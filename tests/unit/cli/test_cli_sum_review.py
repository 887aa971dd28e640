"""`audit verify --evidence`: check A3 from exported files, against a coordinator that altered a sum."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.trust import Trust
from fedmedlora_cli.__main__ import main
from fedmedlora_coordinator import aggregate as aggregate_module
from fedmedlora_coordinator.aggregate import sum_and_unmask
from fedmedlora_coordinator.reports import export_bundle
from fedmedlora_crypto.secagg.assignment import catch_probability
from fedmedlora_testkit.ward import Ward

LONG = 2_000_000  # values: several chunks an upload
ALTERED = 700_000


class Case:
    """A finished study: bundle, trust file and the evidence of its rounds."""

    def __init__(self, root: Path, ward: Ward | None = None, **options: Any) -> None:
        self.root = root
        self.ward = ward or Ward(root / "ward", keep_evidence=True, **options)
        self.ward.run()
        genesis = self.ward.ledger.entries[0].leaf
        (root / "trust.json").write_bytes(Trust.from_terms(self.ward.terms, genesis=genesis).to_json())
        export_bundle(self.ward.folder.root, root / "bundle")

    @property
    def chunks(self) -> int:
        """Chunks of an upload and of a sum."""
        return self.ward.study.packing().frames

    def evidence(self, *rounds: int) -> Path:
        for number in rounds:
            arguments = ["--dir", str(self.ward.folder.root), "--round", str(number)]
            run("coordinator", "evidence", *arguments, "--out", str(self.root / "evidence"))
        return self.root / "evidence"

    def verify(self, *more: str) -> tuple[int, dict[str, Any]]:
        """Exit code and the verdict's A3."""
        out = self.root / "verdict.json"
        arguments = [str(self.root / "bundle"), "--trust", str(self.root / "trust.json")]
        code = run("audit", "verify", *arguments, "--json", str(out), *more)
        verdict = json.loads(out.read_text())
        return code, {**verdict["checks"]["A3"], "findings": verdict["findings"]}


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(scope="module", autouse=True)
def _no_waiting() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Case:
    case = Case(tmp_path_factory.mktemp("honest"), rounds=2, dimension=LONG)
    case.evidence(1, 2)
    return case


@pytest.fixture(scope="module")
def lying(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The coordinator alters one value of the sum by one quantum; its members accept without a look."""

    def altered(*arguments: Any, **options: Any) -> Any:
        total = sum_and_unmask(*arguments, **options)
        total[ALTERED] += 1
        return total

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregate_module, "sum_and_unmask", altered)
        case = Case(tmp_path_factory.mktemp("lying"), rounds=1, dimension=LONG)
    case.evidence(1)
    return case


def test_all_sums_are_recomputed_in_full(honest: Case) -> None:
    code, found = honest.verify("--evidence", str(honest.root / "evidence"))
    assert (code, found["result"], found["count"]) == (0, "pass", 2)
    assert found["sentence"] == "2 of 2 published sums were recomputed in full from the signed uploads."


def test_one_rounds_folder_is_enough_for_its_sum(honest: Case) -> None:
    _, found = honest.verify("--evidence", str(honest.root / "evidence" / "round-00002"))
    assert (found["result"], found["count"]) == ("pass", 1)
    assert found["sentence"].startswith("1 of 2 published sums")


def test_a_spot_check_says_its_chunks_and_its_chance(honest: Case) -> None:
    _, found = honest.verify("--evidence", str(honest.root / "evidence"), "--spot", "3")
    assert found["result"] == "pass"
    assert honest.chunks > 3
    assert f"6 of {2 * honest.chunks} chunks" in found["sentence"]
    assert f"probability {catch_probability(honest.chunks, 1, 3):.4g}" in found["sentence"]


def test_without_evidence_the_sum_is_not_judged_and_never_passes(honest: Case, tmp_path: Path) -> None:
    assert honest.verify()[1]["result"] == "not judged"
    (tmp_path / "empty").mkdir()
    _, found = honest.verify("--evidence", str(tmp_path / "empty"))
    assert (found["result"], found["count"]) == ("not judged", 0)


def test_one_altered_value_is_found_by_event_and_chunk(lying: Case) -> None:
    code, found = lying.verify("--evidence", str(lying.root / "evidence"))
    published = next(e for e in lying.ward.ledger.entries if e.event.type == "aggregate.published")
    assert (code, found["result"], found["first"]) == (1, "fail", published.index)
    assert f"chunk {ALTERED // lying.ward.study.packing().frame_words} " in found["sentence"]
    assert f"value {ALTERED}" in found["sentence"]


def test_without_the_evidence_the_altered_sum_passes_every_other_check(lying: Case) -> None:
    code, found = lying.verify()
    assert (code, found["findings"]) == (0, [])


@pytest.mark.slow
def test_a_spot_check_finds_it_with_the_stated_probability(lying: Case) -> None:
    """Sixty reviewers, each with half of the chunks."""
    half = lying.chunks // 2
    evidence = str(lying.root / "evidence")
    caught = sum(lying.verify("--evidence", evidence, "--spot", str(half))[0] for _ in range(60))
    expected = catch_probability(lying.chunks, 1, half)
    assert expected == pytest.approx(half / lying.chunks)
    assert abs(caught / 60 - expected) <= 6 * (0.25 / 60) ** 0.5


@pytest.mark.parametrize("damage", ["missing", "leaves", "longer", "flipped", "index", "no index", "sid"])
def test_damaged_evidence_is_named_by_its_file(honest: Case, tmp_path: Path, damage: str) -> None:
    source = honest.root / "evidence" / "round-00001"
    folder = tmp_path / "round-00001"
    (folder / "blobs").mkdir(parents=True)
    for path in source.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(source)).hardlink_to(path)
    session = next(s for s in honest.ward.ledger.state.sids.values() if s.round == 1)
    target = folder / "blobs" / session.u3["site-b"]
    index = folder / "evidence.json"
    content = target.read_bytes() if damage != "sid" else index.read_bytes()
    changed, new = {
        "missing": (target, None),
        "leaves": (target.with_suffix(".leaves"), bytes(32 * honest.chunks)),
        "longer": (target, content + b"x"),
        "flipped": (target, bytes([content[0] ^ 1]) + content[1:]),
        "index": (index, b"[]"),
        "no index": (index, None),
        "sid": (index, content.replace(session.sid.encode(), b"0" * 64)),
    }[damage]
    changed.unlink()
    if new is not None:
        changed.write_bytes(new)
    code, found = honest.verify("--evidence", str(tmp_path))
    assert (code, found["result"]) == (1, "fail")
    named = [finding["file"] for finding in found["findings"]]
    expected = index if damage in ("index", "no index", "sid") else target
    assert len(named) == 1
    assert expected.name in named[0] or damage == "index"


def test_evidence_of_a_folder_that_is_not_there_is_a_finding(honest: Case, tmp_path: Path) -> None:
    assert honest.verify("--evidence", str(tmp_path / "nowhere"))[0] == 1


def test_evidence_exported_round_by_round_gathers_in_one_folder(tmp_path: Path) -> None:
    case = Case(tmp_path, rounds=2)
    assert case.verify("--evidence", str(case.evidence(1)))[1]["count"] == 1
    assert case.verify("--evidence", str(case.evidence(2)))[1]["count"] == 2


def test_plain_sums_are_recomputed_as_well(tmp_path: Path) -> None:
    case = Case(tmp_path, rounds=1, secure_aggregation__mode="none")
    assert case.verify("--evidence", str(case.evidence(1)))[1]["result"] == "pass"


def test_sums_on_the_sparse_graph_are_recomputed_after_a_drop_out(tmp_path: Path) -> None:
    """R6.15.6: who holds whose shares follows from what the log says before the session."""
    graph = {"neighbours": 10, "share_threshold": 7, "window_survivors": 3}
    options: dict[str, Any] = {
        "secure_aggregation__graph": graph,
        "secure_aggregation__colluding_sites": 2,
    }
    ward = Ward(tmp_path / "ward", n=14, rounds=1, keep_evidence=True, **options)
    ward.hospital("site-d").refuses.add("upload")
    case = Case(tmp_path, ward=ward)
    assert len(next(iter(ward.ledger.state.sids.values())).u3) == 13
    assert case.verify("--evidence", str(case.evidence(1)))[1]["result"] == "pass"


def test_spot_without_evidence_is_a_wrong_use(honest: Case) -> None:
    assert run("audit", "verify", str(honest.root), "--trust", "t", "--spot", "3") == 2


BLOCKED = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
from fedmedlora_cli.__main__ import main
main({arguments!r})
"""


@pytest.mark.parametrize(
    ("blocked", "code"),
    [
        (("torch", "transformers", "peft", "grpc", "google.protobuf", "sqlalchemy", "safetensors"), 0),
        (("numpy",), 2),
    ],
)
def test_recomputing_needs_the_evidence_extra_and_nothing_more(
    honest: Case, blocked: tuple[str, ...], code: int
) -> None:
    arguments = ["audit", "verify", str(honest.root / "bundle"), "--trust", str(honest.root / "trust.json")]
    arguments += ["--evidence", str(honest.root / "evidence"), "--spot", "1"]
    script = BLOCKED.format(blocked=blocked, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert code == 0 or "'evidence' extra" in done.stderr


def test_an_export_judges_the_evidence_as_the_verdict_does(honest: Case, lying: Case, tmp_path: Path) -> None:
    def export(case: Case, *more: str) -> tuple[int, dict[str, Any]]:
        fixed = [str(case.root / "bundle"), "--trust", str(case.root / "trust.json"), "--format", "jsonl"]
        facts = tmp_path / "facts.json"
        code = run("audit", "export", *fixed, "--out", str(tmp_path / "rows"), "--json", str(facts), *more)
        return code, json.loads(facts.read_text())

    code, facts = export(honest)
    assert (code, "A3" in facts["not_judged"]) == (0, True)
    code, facts = export(honest, "--evidence", str(honest.root / "evidence"))
    assert (code, "A3" in facts["not_judged"]) == (0, False)
    assert export(lying)[0] == 0
    (tmp_path / "rows").unlink()
    code, facts = export(lying, "--evidence", str(lying.root / "evidence"))
    assert (code, facts["verdict"], facts["file"]) == (1, "fail", None)
    assert not (tmp_path / "rows").exists()
