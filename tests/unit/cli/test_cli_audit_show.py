"""`audit show`: looking into a bundle by round, site, type and digest, and the proof of one event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit import browsing
from fedmedlora_audit.events import Entry
from fedmedlora_audit.merkle import leaf_hash, verify_inclusion
from fedmedlora_cli.__main__ import main
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog

LOG = StudyLog().play(2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("show")
    made = Forger(LOG)
    made.seal(root / "bundle")
    made.trust.write(root / "trust.json")
    place = made.index("plan.accepted")
    made.notes[place] = made.notes[place].replace(b'"time":"2026', b'"time":"2025')
    honest = Forger(LOG).checkpoint()
    (root / "changed").mkdir()
    for path in made.seal(root / "sealed").rglob("*"):
        target = root / "changed" / path.relative_to(root / "sealed")
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (root / "changed" / "checkpoint").write_bytes(honest)
    return root


def run(folder: Path, *more: str, bundle: str = "bundle") -> int:
    arguments = ["audit", "show", str(folder / bundle), "--trust", str(folder / "trust.json"), *more]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def listed(folder: Path, tmp_path: Path, *more: str) -> list[int]:
    out = tmp_path / "list.json"
    assert run(folder, *more, "--json", str(out)) == 0
    return [row["index"] for row in json.loads(out.read_text())["entries"]]


def shown(folder: Path, tmp_path: Path, index: int, *, bundle: str = "bundle") -> dict[str, Any]:
    out = tmp_path / "one.json"
    run(folder, "--index", str(index), "--json", str(out), bundle=bundle)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def where(wanted: Any) -> list[int]:
    return [entry.index for entry in LOG.entries if wanted(entry)]


def first(type_: str) -> Entry:
    return next(entry for entry in LOG.entries if entry.event.type == type_)


def test_everything_is_listed_without_a_filter(folder: Path, tmp_path: Path) -> None:
    assert listed(folder, tmp_path) == list(range(len(LOG.entries)))


def test_filters_narrow_the_list_and_add_up(folder: Path, tmp_path: Path) -> None:
    assert listed(folder, tmp_path, "--round", "2") == where(lambda e: e.event.round == 2)
    assert listed(folder, tmp_path, "--type", "unmask.response") == where(
        lambda e: e.event.type == "unmask.response"
    )
    both = listed(folder, tmp_path, "--round", "2", "--site", "site-b")
    assert both == where(
        lambda e: e.event.round == 2 and "site-b" in (e.event.actor.id, getattr(e.event.data, "site", ""))
    )
    assert 0 < len(both) < len(LOG.entries) / 4


def test_a_digest_finds_its_leaf_and_whoever_names_it(folder: Path, tmp_path: Path) -> None:
    published = first("aggregate.published")
    ring = published.event.object_digest
    found = listed(folder, tmp_path, "--digest", ring[:12].upper())
    assert published.index in found
    assert {LOG.entries[place].event.type for place in found} == {"aggregate.published", "aggregate.accepted"}
    plan = first("round.plan")
    assert plan.index in listed(folder, tmp_path, "--digest", plan.leaf.hex())


def test_the_list_is_a_table_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--type", "run.closed") == 0
    said = capsys.readouterr().out
    last = LOG.entries[-1]
    assert f"{last.index}" in said and last.leaf.hex()[:16] in said
    assert f"1 of {len(LOG.entries)} events" in said


def test_one_event_comes_with_a_proof_that_others_can_verify(folder: Path, tmp_path: Path) -> None:
    entry = first("unmask.response")
    found = shown(folder, tmp_path, entry.index)
    assert found["note"].encode() == entry.note
    assert leaf_hash(found["note"].encode()).hex() == found["leaf"]
    verify_inclusion(
        leaf=bytes.fromhex(found["leaf"]),
        index=entry.index,
        size=found["proof"]["size"],
        proof=[bytes.fromhex(step) for step in found["proof"]["hashes"]],
        root=bytes.fromhex(found["proof"]["root"]),
    )
    assert found["proof"]["root"] == LOG.tree.root().hex()
    assert found["signature"] == "holds"
    assert found["receipt"]["index"] == entry.index + 1
    assert found["receipt"]["about"] == entry.event.actor.id


def test_one_event_in_full_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = first("survivors.agreed")
    assert run(folder, "--index", str(entry.index)) == 0
    said = capsys.readouterr().out
    assert entry.leaf.hex() in said and LOG.tree.root().hex() in said
    assert f"receipt: event {entry.index + 1}" in said
    assert "signature: holds" in said
    assert run(folder, "--index", str(first("round.plan").index)) == 0
    assert "none is due for an event of the coordinator" in capsys.readouterr().out


def test_a_changed_log_is_listed_with_a_warning_and_proves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = first("plan.accepted").index
    assert run(folder, bundle="changed") == 0
    assert "warning" in capsys.readouterr().err
    assert run(folder, "--index", str(place), bundle="changed") == 1
    assert "not proven" in capsys.readouterr().err


def test_without_the_proof_the_changed_event_would_be_shown(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsing, "verify_inclusion", lambda **_: None)
    place = first("plan.accepted").index
    found = shown(folder, tmp_path, place, bundle="changed")
    assert found["event"]["time"].startswith("2025")
    assert "does not hold" in found["signature"]


def test_a_forged_event_under_a_bought_head_is_proven_and_its_signature_is_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--index", str(first("plan.accepted").index), bundle="sealed") == 1
    assert "does not hold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--index", "99999"], "there is no entry 99999"),
        (["--index", "3", "--round", "1"], "leave the other filters out"),
        (["--type", "no.such"], "no such type of event"),
        (["--digest", "xyz"], "a digest is 8 to 64 hex digits"),
        (["--round", "0"], "greater than or equal to 1"),
    ],
)
def test_senseless_questions_are_refused(
    folder: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, *arguments) == 2
    assert says in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_head_of_another_log_opens_nothing(folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    Forger(LOG).seal(bundle)
    (bundle / "checkpoint").write_bytes(b"junk\n")
    with pytest.raises(SystemExit) as ended:
        main(["audit", "show", str(bundle), "--trust", str(folder / "trust.json")])
    assert ended.value.code == 2


def test_a_receipt_that_the_coordinator_did_not_sign_is_not_shown(folder: Path, tmp_path: Path) -> None:
    made = Forger(LOG)
    place = made.index("receipt")
    accepted = next(at for at, entry in enumerate(LOG.entries) if entry.leaf.hex() in made.event(place).refs)
    made.notes[place] = made.notes[place].replace(b'"time":"2026', b'"time":"2025')
    made.seal(tmp_path / "bundle")
    for bundle, shown_at in ((tmp_path / "bundle", None), (folder / "bundle", place)):
        browser = browsing.Browser.open(bundle, made.trust)
        receipt = browser.prove(accepted).receipt
        assert (receipt.index if receipt is not None else None) == shown_at
