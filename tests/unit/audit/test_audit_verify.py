"""The verifier: one changed byte anywhere, odd inputs, speed, and what it says about what it cannot judge."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from fedmedlora_audit.bundle import read_files, write_bundle
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import BundleError, CharterError, CheckpointError, TrustError
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.tiles import hash_tiles, tile_number
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog, charter_table

SMALL = StudyLog().play(1)
MADE = Forger(SMALL)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MADE.seal(tmp_path_factory.mktemp("made") / "bundle", extra={"proofs/README": b"for the reviewer"})


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(bundle, tmp_path / "copy"))


def test_one_changed_byte_in_any_file_fails_and_names_event_or_file(bundle: Path, copy: Path) -> None:
    files, _ = read_files(bundle)
    assert len(files) == 6
    for name, content in files.items():
        size = len(content)
        for place in sorted({0, 1, size // 5, size // 3, size // 2, size - 2, size - 1}):
            changed = bytearray(content)
            changed[place] ^= 1 << place % 8
            (copy / name).write_bytes(changed)
            verdict = verify_bundle(copy, MADE.trust)
            assert verdict.verdict == "fail", (name, place)
            assert any(f.file == name or f.index is not None for f in verdict.findings), (name, place)
            if name != "manifest":
                assert name in {finding.file for finding in verdict.findings}
        (copy / name).write_bytes(content)
    assert verify_bundle(copy, MADE.trust).verdict == "pass"


def test_changed_byte_in_an_entry_names_its_index(bundle: Path, copy: Path) -> None:
    name = next(n for n in read_files(bundle)[0] if n.startswith("tile/entries/"))
    content = (bundle / name).read_bytes()
    offset = 0
    for index, entry in enumerate(SMALL.entries):
        offset += 2 + len(entry.note)
        if index % 9:
            continue
        changed = bytearray(content)
        changed[offset - 40] ^= 1  # within the signature
        (copy / name).write_bytes(changed)
        verdict = verify_bundle(copy, MADE.trust)
        first = min(finding.index for finding in verdict.findings if finding.index is not None)
        assert first == index


def test_without_the_manifest_check_a_changed_byte_is_still_found(bundle: Path, copy: Path) -> None:
    """The manifest is not what the log rests on: with fresh manifests the entries are still proven."""
    notes = [entry.note for entry in SMALL.entries]
    notes[30] = notes[30].replace(b"2026", b"2025")
    made = Forger(SMALL)
    made.notes = notes
    verdict = made.judge(copy)
    assert verdict.checks["B1"].result == "pass"
    assert verdict.checks["E2"].first == 30


def test_missing_folder_and_empty_folder_fail_without_raising(tmp_path: Path) -> None:
    assert verify_bundle(tmp_path / "none", MADE.trust).verdict == "fail"
    (tmp_path / "empty").mkdir()
    verdict = verify_bundle(tmp_path / "empty", MADE.trust)
    assert verdict.verdict == "fail"
    assert {"B1", "C2", "T1"} <= {finding.check for finding in verdict.findings}


@pytest.mark.parametrize("junk", [b"", b"\x00" * 100, b"{}", b"[" * 100_000, b"\xff" * 64, b"a\n\nb\n"])
def test_any_file_replaced_by_junk_fails_without_raising(copy: Path, junk: bytes) -> None:
    for name, content in read_files(copy)[0].items():
        (copy / name).write_bytes(junk)
        assert verify_bundle(copy, MADE.trust).verdict == "fail"
        (copy / name).write_bytes(content)


def test_entry_that_is_no_event_stops_the_law_and_says_so(copy: Path) -> None:
    made = Forger(SMALL)
    made.notes[40] = made.signer.sign("hello\n")
    verdict = made.judge(copy)
    assert verdict.checks["E1"].first == 40
    assert verdict.checks["U2"].result == "not judged"
    assert "40" in verdict.checks["U2"].sentence


def test_json_has_the_promised_form(bundle: Path) -> None:
    table = json.loads(json.dumps(verify_bundle(bundle, MADE.trust).to_json()))
    assert table["verdict"] == "pass"
    assert table["events"] == len(SMALL.entries)
    assert set(table["checks"]["U2"]) == {"result", "count", "first", "sentence"}


@pytest.mark.parametrize(
    ("section", "unjudged"),
    [
        ({"audit": {"quorum": 3}}, "C3"),
        ({"audit": {"evidence": True}}, "A3"),
        ({"audit": {"timestamps": True}}, "C7"),
    ],
)
def test_demanded_check_that_cannot_be_made_is_incomplete(
    section: dict[str, Any], unjudged: str, tmp_path: Path
) -> None:
    verdict = Forger(StudyLog(**section).set_up()).judge(tmp_path / "bundle")
    assert verdict.verdict == "incomplete"
    assert verdict.checks[unjudged].result == "not judged"
    assert verdict.findings == ()


def test_without_privacy_the_budget_checks_pass_on_nothing(bundle: Path) -> None:
    checks = verify_bundle(bundle, MADE.trust).checks
    assert {(checks[f"D{n}"].result, checks[f"D{n}"].count) for n in range(1, 6)} == {("pass", 0)}


def test_long_log_is_judged_within_seconds(tmp_path: Path) -> None:
    made = Forger(StudyLog(10, training={"rounds": 6}).play(6))
    folder = made.seal(tmp_path / "bundle")
    start = time.process_time()
    verdict = verify_bundle(folder, made.trust)
    seconds = time.process_time() - start
    assert verdict.verdict == "pass"
    assert verdict.events > 1000
    assert seconds / verdict.events < 0.005, "7,600 events within 38 s even on a slow machine"


def test_verifier_needs_neither_numpy_nor_grpc_nor_torch() -> None:
    code = (
        "import sys; import fedmedlora_audit.verify; "
        "print([m for m in ('numpy', 'torch', 'grpc', 'google.protobuf') if m in sys.modules])"
    )
    path = [entry for entry in sys.path if entry.endswith(("audit", "site-packages"))]
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


# -- writing


def test_write_bundle_refuses_a_head_over_other_entries(tmp_path: Path) -> None:
    signer = SMALL.authors["coordinator"].signer
    given = {"charter": SMALL.charter, "checkpoint": SMALL.checkpoint(), "signer": signer}
    with pytest.raises(BundleError, match="not over"):
        write_bundle(tmp_path / "b", entries=SMALL.entries[:-1], **given)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError):
        write_bundle(
            tmp_path / "b",
            charter=SMALL.charter,
            entries=SMALL.entries,
            checkpoint=signer.sign("junk\n"),
            signer=signer,
        )
    assert list(tmp_path.iterdir()) == []


def test_write_bundle_refuses_a_folder_in_use_and_reserved_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").write_text("x")
    with pytest.raises(BundleError, match="not empty"):
        write_bundle(
            tmp_path / "b",
            charter=SMALL.charter,
            entries=SMALL.entries,
            checkpoint=SMALL.checkpoint(),
            signer=SMALL.authors["site-a"].signer,
        )
    for name in ("manifest", "checkpoint", "tile/0/999"):
        with pytest.raises(BundleError, match="takes the name"):
            MADE.seal(tmp_path / "c", extra={name: b""})


def test_tile_names_and_contents() -> None:
    assert tile_number(0) == "000"
    assert tile_number(1234067) == "x001/x234/067"
    tree = Tree.of_data(str(n).encode() for n in range(600))
    tiles = hash_tiles(tree)
    assert set(tiles) == {"tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2"}
    assert tiles["tile/0/000"] == b"".join(tree.leaf(n) for n in range(256))
    assert tiles["tile/1/000.p/2"][:32] == tree.root(256)


# -- trust and charter


def test_trust_file_round_trips_and_refuses_junk(tmp_path: Path) -> None:
    MADE.trust.write(tmp_path / "trust.json")
    assert Trust.load(tmp_path / "trust.json") == MADE.trust
    assert set(MADE.trust.fingerprints) == {*SMALL.sites, "coordinator", "log"}
    table = json.loads(MADE.trust.to_json())
    changes: list[dict[str, Any]] = [{"genesis": "x"}, {"surprise": 1}, {"log_vkey": "x"}, {"members": []}]
    for change in changes:
        with pytest.raises(TrustError, match="field"):
            Trust.from_json(json.dumps({**table, **change}).encode())
    for junk in (b"", b"[]", b"{"):
        with pytest.raises(TrustError):
            Trust.from_json(junk)
    with pytest.raises(TrustError, match="cannot read"):
        Trust.load(tmp_path / "none")


def _rules(**changes: Any) -> dict[str, Any]:
    return {"secure_aggregation": {**charter_table()["secure_aggregation"], **changes}}


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        (_rules(threshold=2), "G33"),
        (_rules(threshold=4), "G33"),
        (_rules(min_sites=2), "G33"),
        (_rules(min_sites=4), "G33"),
        (_rules(colluding_sites=3, threshold=4), "G33"),
        (_rules(mode="clear"), "G33"),
        (_rules(key_agreement="rsa"), "G33"),
        (_rules(threshold="3"), "G33"),
        (_rules(threshold=True), "G33"),
        ({"training": {"rounds": 0}}, "G33"),
        ({"aggregation": {"weight_max": 0}}, "G33"),
        ({"adapter": {"initial_digest": "x"}}, "G33"),
        ({"study": {"id": "Ward 7"}}, "G33"),
        ({"study": 7}, "G33"),
        ({"members": [{"id": "site-a"}]}, "G33"),
        ({"members": charter_table()["members"] + charter_table()["members"][:1]}, "G32"),
    ],
)
def test_charter_that_promises_too_little_is_refused(changes: dict[str, Any], check: str) -> None:
    with pytest.raises(CharterError) as caught:
        CharterTerms.from_json(rfc8785.dumps(charter_table(**changes)))
    assert caught.value.check == check


def test_charter_with_one_key_for_two_parties_is_refused() -> None:
    table = charter_table()
    table["members"][1]["event_vkey"] = table["members"][0]["event_vkey"]
    with pytest.raises(CharterError, match="one party"):
        CharterTerms.from_json(rfc8785.dumps(table))
    table = charter_table()
    first = table["members"][0]
    first["event_vkey"], first["witness_vkey"] = first["witness_vkey"], first["event_vkey"]
    with pytest.raises(CharterError, match="another role"):
        CharterTerms.from_json(rfc8785.dumps(table))


def test_charter_not_canonical_is_refused() -> None:
    for junk in (b"", b"[]", json.dumps(charter_table()).encode(), b"[" * 100_000):
        with pytest.raises(CharterError):
            CharterTerms.from_json(junk)
