"""`audit export`: a verified bundle becomes one whole file; one that fails is refused, or marked."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.export import FORMATS, export_line, record
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_cli import audit_export_command, audit_judgement
from fedmedlora_cli.__main__ import main
from fedmedlora_testkit.audit_forger import Forger, edit_file
from fedmedlora_testkit.audit_log import StudyLog

LOG = StudyLog().play(1)
MADE = Forger(LOG)


class Desk:
    """A reviewer's folder: bundle, trust file, and the command."""

    def __init__(self, root: Path, made: Forger = MADE) -> None:
        self.root = root
        self.bundle = made.seal(root / "bundle")
        self.trust = root / "trust.json"
        self.trust.write_bytes(made.trust.to_json())
        self.out = root / "events.ndjson"

    def export(self, form: str, *more: str, out: Path | None = None) -> int:
        """Run the command; returns its exit code."""
        fixed = ["audit", "export", str(self.bundle), "--trust", str(self.trust)]
        with pytest.raises(SystemExit) as ended:
            main([*fixed, "--format", form, "--out", str(out or self.out), *more])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_bytes().splitlines()]

    @property
    def entry_tile(self) -> str:
        (path,) = self.bundle.glob("tile/entries/*.p/*")
        return str(path.relative_to(self.bundle))

    def spoil(self, index: int) -> None:
        """Change the signature of one entry in place."""
        offset = sum(2 + len(entry.note) for entry in LOG.entries[: index + 1]) - 40
        edit_file(
            self.bundle, self.entry_tile, lambda c: c[:offset] + bytes([c[offset] ^ 1]) + c[offset + 1 :]
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield Desk(tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]  # no half file stays behind


def marks(rows: list[dict[str, Any]], form: str) -> set[str]:
    """How the rows are marked."""
    if form == "fhir":
        return {row["meta"]["tag"][0]["code"] for row in rows}
    if form == "ocsf":
        return {label for row in rows for label in row["metadata"]["labels"]}
    return {row["verification"] for row in rows}


@pytest.mark.parametrize("form", FORMATS)
def test_verified_bundle_becomes_one_row_an_event(
    desk: Desk, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.export(form, "--json", str(desk.root / "facts.json")) == 0
    rows = desk.rows()
    assert len(rows) == len(LOG.entries)
    assert marks(rows, form) <= {"verified", "verification:verified"}
    facts = json.loads((desk.root / "facts.json").read_text())
    assert facts["sha256"] == hashlib.sha256(desk.out.read_bytes()).hexdigest()
    assert (facts["verdict"], facts["rows"], facts["file"]) == ("pass", len(rows), "events.ndjson")
    assert facts["root"] == LOG.tree.root().hex()
    assert f"{len(rows)} rows of {len(rows)} events" in capsys.readouterr().out
    assert desk.out.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("form", FORMATS)
def test_bundle_that_fails_is_refused_and_nothing_is_written(
    desk: Desk, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.spoil(20)
    assert desk.export(form, "--json", str(desk.root / "facts.json")) == 1
    assert not desk.out.exists()
    assert "--unverified" in capsys.readouterr().err
    facts = json.loads((desk.root / "facts.json").read_text())
    assert (facts["verdict"], facts["rows"], facts["file"]) == ("fail", 0, None)


@pytest.mark.parametrize("form", FORMATS)
def test_unverified_exports_a_bundle_that_fails_and_marks_every_row(
    desk: Desk, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.spoil(20)
    assert desk.export(form, "--unverified") == 0
    rows = desk.rows()
    assert len(rows) == len(LOG.entries)
    assert marks(rows, form) <= {"unverified", "verification:unverified"}
    assert "FAILS" in capsys.readouterr().out


def test_unverified_marks_nothing_of_a_bundle_that_passes(desk: Desk) -> None:
    assert desk.export("jsonl", "--unverified") == 0
    assert marks(desk.rows(), "jsonl") == {"verified"}


def test_entries_of_the_wrong_form_are_left_out_and_said(desk: Desk) -> None:
    """Free text in an event makes it none: it is in no row, whatever the option."""
    made = Forger(LOG)
    text = made.event(20).canonical_json().decode().replace('{"action"', '{"a":"no glucose","action"', 1)
    made.notes[20] = made.signer.sign(text + "\n")
    made.seal(desk.bundle)
    assert desk.export("fhir") == 1
    assert desk.export("fhir", "--unverified", "--json", str(desk.root / "facts.json")) == 0
    facts = json.loads((desk.root / "facts.json").read_text())
    assert facts["unreadable"] == [20]
    assert facts["rows"] == len(LOG.entries) - 1
    assert b"glucose" not in desk.out.read_bytes()


def signed_as(name: str, signature: bytes) -> str:
    """A signature line that no key has made."""
    return f"\u2014 {name} {base64.b64encode(bytes(4) + signature).decode()}\n"


WRONG_LINES = {
    "a second line": lambda note: note + signed_as("glucose", bytes(64)),
    "another name": lambda note: note.rpartition("\u2014")[0] + signed_as("glucose", bytes(64)),
    "a long signature": lambda note: note.rpartition("\u2014")[0] + signed_as("coordinator", b"glucose" * 90),
    "a short signature": lambda note: note.rpartition("\u2014")[0] + signed_as("coordinator", b"glucose"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("line", WRONG_LINES)
def test_a_text_where_the_signature_should_be_is_left_out_and_said(desk: Desk, line: str, form: str) -> None:
    made = Forger(LOG)
    place = made.index("round.plan")
    made.notes[place] = WRONG_LINES[line](made.notes[place].decode()).encode()
    made.seal(desk.bundle)
    assert desk.export(form) == 1
    assert desk.export(form, "--unverified", "--json", str(desk.root / "facts.json")) == 0
    assert json.loads((desk.root / "facts.json").read_text())["unreadable"] == [place]
    assert len(desk.rows()) == len(LOG.entries) - 1
    written = desk.out.read_bytes()
    assert b"glucose" not in written
    assert base64.b64encode(b"glucose" * 3)[:24] not in written


def test_without_the_look_at_signature_lines_the_text_would_be_exported(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Forger(LOG)
    place = made.index("round.plan")
    made.notes[place] = WRONG_LINES["another name"](made.notes[place].decode()).encode()
    made.seal(desk.bundle)
    monkeypatch.setattr(record, "_check_signature_line", lambda note, event: None)
    assert desk.export("jsonl", "--unverified") == 0
    assert b"glucose" in desk.out.read_bytes()


def test_unverified_is_what_lets_a_failing_bundle_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partner: with the verifier's word ignored the same bundle would be exported as if it were right."""
    desk.spoil(20)
    judge = verify_bundle
    clean = judge(MADE.seal(desk.root / "clean"), MADE.trust)

    def blind(bundle: Path, trust: Any, **options: Any) -> Any:
        found = judge(bundle, trust, **options)
        return replace(clean, root=found.root, events=found.events)

    monkeypatch.setattr(audit_judgement, "verify_bundle", blind)
    assert desk.export("jsonl") == 0
    assert marks(desk.rows(), "jsonl") == {"verified"}


def test_incomplete_bundle_is_exported_marked_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Forger(StudyLog(4, audit={"evidence": True}).play(1))
    desk = Desk(tmp_path, made)
    assert verify_bundle(desk.bundle, made.trust).verdict == "incomplete"
    assert desk.export("jsonl") == 0
    assert marks(desk.rows(), "jsonl") == {"incomplete"}
    said = capsys.readouterr().out
    assert "each marked incomplete" in said
    assert "A3 not judged" in said


def test_a_refusal_that_the_log_lacks_keeps_the_events_back_as_it_fails_the_bundle(desk: Desk) -> None:
    journal = desk.root / "heads" / "site-b" / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text("")
    assert desk.export("jsonl", "--heads", str(desk.root / "heads")) == 0
    assert marks(desk.rows(), "jsonl") == {"verified"}
    desk.out.unlink()
    refusal = {"step": "unmask", "reason": "bad_share", "round": 1, "sid": None}
    journal.write_text(json.dumps(refusal) + "\n")
    assert desk.export("jsonl", "--heads", str(desk.root / "heads")) == 1
    assert not desk.out.exists()
    assert desk.export("jsonl", "--heads", str(desk.root / "heads"), "--unverified") == 0
    assert marks(desk.rows(), "jsonl") == {"unverified"}
    assert desk.export("jsonl") == 0, "without the journal nobody can know"


def test_a_cut_log_gives_the_rows_that_are_left(desk: Desk) -> None:
    def cut(tile: bytes) -> bytes:
        return tile[: sum(2 + len(entry.note) for entry in LOG.entries[:30]) + 100]

    edit_file(desk.bundle, desk.entry_tile, cut)
    assert desk.export("ocsf") == 1
    assert desk.export("ocsf", "--unverified") == 0
    assert [row["unmapped"]["leaf_index"] for row in desk.rows()] == list(range(30))


def test_a_bundle_without_its_head_is_exported_unverified_only(desk: Desk) -> None:
    (desk.bundle / "checkpoint").unlink()
    assert desk.export("jsonl") == 1
    assert desk.export("jsonl", "--unverified") == 0
    assert len(desk.rows()) == len(LOG.entries)


def test_a_failure_while_writing_leaves_the_old_file_whole(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.export("jsonl") == 0
    before = desk.out.read_bytes()
    real = export_line
    written: list[object] = []

    def full_disk(record: Any, form: Any) -> bytes:
        written.append(record)
        if len(written) > 50:
            raise OSError(28, "No space left on device")
        return real(record, form)

    monkeypatch.setattr(audit_export_command, "export_line", full_disk)
    assert desk.export("ocsf") == 2
    assert desk.out.read_bytes() == before


def test_a_file_within_the_bundle_is_refused(desk: Desk) -> None:
    before = {p: p.read_bytes() for p in desk.bundle.rglob("*") if p.is_file()}
    assert desk.export("jsonl", out=desk.bundle / "events.jsonl") == 2
    assert {p: p.read_bytes() for p in desk.bundle.rglob("*") if p.is_file()} == before


def test_no_bundle_no_trust_file_and_no_such_form_could_not_run(desk: Desk) -> None:
    assert desk.export("dicom") == 2
    shutil.rmtree(desk.bundle)
    assert desk.export("jsonl") == 2
    desk.bundle = MADE.seal(desk.bundle)
    desk.trust.unlink()
    assert desk.export("jsonl") == 2
    assert not desk.out.exists()


def test_json_on_standard_output_stands_alone(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.export("fhir", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == len(LOG.entries)


@pytest.mark.parametrize("form", FORMATS)
def test_the_audit_extra_is_enough(desk: Desk, form: str) -> None:
    """A process in which numpy, gRPC, torch and fhir.resources cannot be imported writes the same bytes."""
    assert desk.export(form) == 0
    mine = desk.out.read_bytes()
    blocked = ("numpy", "grpc", "torch", "fhir", "sqlalchemy", "safetensors", "jinja2")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "from fedmedlora_cli.__main__ import main; main(sys.argv[1:])"
    )
    arguments = ["audit", "export", str(desk.bundle), "--trust", str(desk.trust)]
    arguments += ["--format", form, "--out", str(desk.root / "again")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (desk.root / "again").read_bytes() == mine
