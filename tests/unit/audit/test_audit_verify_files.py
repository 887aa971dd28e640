"""Odd files in a bundle or beside it: each is named, none stops the auditor."""

import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from fedmedlora_audit import bundle
from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_testkit.audit_forger import Forger, edit_file
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, charter_table

MADE = Forger(StudyLog().set_up())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return MADE.seal(tmp_path / "bundle")


def judge(folder: Path, **given: Any) -> Verdict:
    return verify_bundle(folder, MADE.trust, **given)


def sentences(verdict: Verdict, check: str) -> str:
    assert verdict.checks[check].result == "fail"
    return " | ".join(finding.sentence for finding in verdict.findings if finding.check == check)


def remake_manifest(folder: Path, **changes: Any) -> None:
    files = [row.model_dump() for row in _rows(folder)]
    table = {"schema": "flbundle/1", "origin": ORIGIN, "size": 14, "files": files, **changes}
    (folder / "manifest").write_bytes(MADE.signer.sign(rfc8785.dumps(table).decode() + "\n"))


def _rows(folder: Path) -> list[bundle.ManifestFile]:
    files, _ = bundle.read_files(folder)
    return [
        bundle.ManifestFile(path=path, bytes=len(content), digest=blob_digest(content))
        for path, content in sorted(files.items())
        if path != "manifest"
    ]


def test_manifest_malformed_or_not_canonical(folder: Path) -> None:
    good = (folder / "manifest").read_bytes()
    remake_manifest(folder, files="none")
    assert "malformed" in sentences(judge(folder), "B1")
    (folder / "manifest").write_bytes(MADE.signer.sign("no json\n"))
    assert "malformed" in sentences(judge(folder), "B1")
    rows = json.loads(good.split(b"\n\n")[0])["files"]
    remake_manifest(folder, files=rows[::-1])
    assert "not canonical" in sentences(judge(folder), "B1")
    (folder / "manifest").write_bytes(MADE.signer.sign(good.split(b"\n\n")[0].decode() + " \n"))
    assert "not canonical" in sentences(judge(folder), "B1")
    (folder / "manifest").unlink()
    assert "missing" in sentences(judge(folder), "B1")


def test_manifest_of_another_log(folder: Path) -> None:
    remake_manifest(folder, origin="elsewhere.example")
    assert "another log" in sentences(judge(folder), "B1")


def test_manifest_of_another_length(folder: Path) -> None:
    remake_manifest(folder, size=13)
    assert "another number of entries" in sentences(judge(folder), "B1")


def test_head_over_an_absurd_number_of_entries_is_judged_at_once(folder: Path) -> None:
    head = sign_checkpoint(Checkpoint(ORIGIN, 10**15, bytes(32)), MADE.log.log_signer)
    edit_file(folder, "checkpoint", lambda _: head)
    assert "are missing" in sentences(judge(folder), "C5")


def test_manifest_with_a_path_outside_is_malformed(folder: Path) -> None:
    row = {"path": "../etc/passwd", "bytes": 0, "digest": "0" * 64}
    remake_manifest(folder, files=[row])
    assert "malformed" in sentences(judge(folder), "B1")


def test_file_too_large_to_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_FILE_BYTES", 500)
    assert "larger than 500" in sentences(judge(folder), "B1")


def test_bundle_into_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    log = MADE.log
    bundle.write_bundle(
        tmp_path / "bundle",
        charter=log.charter,
        entries=log.entries,
        checkpoint=log.checkpoint(),
        signer=log.authors["site-a"].signer,
    )
    assert judge(tmp_path / "bundle").verdict == "pass"


def test_bytes_after_the_last_entry_and_tiles_beyond_the_head(folder: Path) -> None:
    name = next(str(p.relative_to(folder)) for p in (folder / "tile/entries").rglob("*") if p.is_file())
    edit_file(folder, name, lambda content: content + b"\x00\x01x")
    assert "bytes follow entry 13" in sentences(judge(folder), "C1")
    edit_file(folder, name, lambda content: content[:-3])
    (folder / "tile/entries/001.p").mkdir()
    (folder / "tile/entries/001.p/1").write_bytes(b"\x00\x01x")
    assert "beyond the checkpoint" in sentences(judge(folder), "C5")


def test_charter_of_another_log_or_without_a_section(folder: Path) -> None:
    table = charter_table()
    table["log"]["origin"] = "elsewhere.example"
    edit_file(folder, "charter.json", lambda _: rfc8785.dumps(table))
    assert "another log" in sentences(judge(folder), "T1")
    edit_file(folder, "charter.json", lambda _: rfc8785.dumps({**table, "members": {}}))
    assert "list of tables" in sentences(judge(folder), "G33")
    edit_file(folder, "charter.json", lambda _: b"")
    verdict = judge(folder)
    assert "cannot be read" in sentences(verdict, "T1")
    assert verdict.checks["U2"].result == "not judged"


def test_journal_lines_that_are_none(folder: Path, tmp_path: Path) -> None:
    heads = tmp_path / "heads" / "site-a"
    heads.mkdir(parents=True)
    for line in ('{"step":"plan"}', "[1]", "junk", '{"step":["x"],"reason":{},"round":[]}'):
        (heads / "journal.jsonl").write_text(line + "\n")
        assert "a line that is none" in sentences(judge(folder, heads=heads.parent), "J1")


def test_site_folders_serve_as_heads(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "site-b" / "run"
    (run / "mirror").mkdir(parents=True)
    (run / "mirror" / "checkpoint").write_bytes(MADE.checkpoint())
    (run / "journal.jsonl").write_text("")
    verdict = judge(folder, heads=tmp_path)
    assert verdict.verdict == "pass"
    assert (verdict.checks["C6"].result, verdict.checks["J1"].result) == ("pass", "pass")
    assert judge(folder, heads=tmp_path / "none").checks["C6"].result == "not judged"


def test_head_signed_by_the_coordinators_event_key_is_none(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "site-a.checkpoint").write_bytes(MADE.signer.sign(f"{ORIGIN}\n0\n\n"))
    assert "not signed by the log" in sentences(judge(folder, heads=tmp_path), "C6")
