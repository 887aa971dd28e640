"""`audit report`: one page that people and printers can read, whatever a bundle says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

import fedmedlora_audit
from fedmedlora_audit.report import Report, build_report
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_cli import audit_report_command, audit_verifier
from fedmedlora_cli.__main__ import main
from fedmedlora_cli.audit_page import render_page
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog

SECTIONS = [
    "1. Verdict and scope",
    "2. Witnesses, clocks and keeping",
    "3. Checks",
    "4. Rounds",
    "5. People and keys",
    "6. Oddities",
    "7. What this does not prove",
    "8. To repeat it",
]
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}&"
BLOCKED = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
from fedmedlora_cli.__main__ import main
main({arguments!r})
"""


@cache
def log(**changes: Any) -> StudyLog:
    return StudyLog(**changes).play(2, {"upload": ["site-d"]})


class Case:
    """A bundle with its trust file, and what is done to it for one of the three verdicts."""

    def __init__(self, root: Path, verdict: str) -> None:
        self.root = root
        made = Forger(StudyLog(audit={"quorum": True}).set_up() if verdict == "incomplete" else log())
        if verdict == "fail":
            place = made.index("unmask.request")
            made.notes[place] = made.notes[place].replace(b'"time":"2026', b'"time":"2025')
        made.trust.write(root / "trust.json")
        made.seal(root / "bundle")
        self.made = made

    def run(self, command: str, *more: str) -> int:
        where = [str(self.root / "bundle"), "--trust", str(self.root / "trust.json")]
        with pytest.raises(SystemExit) as ended:
            main(["audit", command, *where, *more])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def page(self, *more: str) -> tuple[int, str]:
        code = self.run("report", "--out", str(self.root / "report.html"), *more)
        return code, (self.root / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects tags, attributes and headings, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "br", "col", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.headings: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "h2":
            self.headings.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1] != tag and self.open[-1] in ("tr", "td", "th", "li", "p"):
            self.open.pop()
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings[-1] += data


def hostile(value: Any) -> Any:
    """Replace every text of a report, at any depth, by one that would break out of a careless page."""
    if isinstance(value, str):
        return value if value in ("pass", "fail", "incomplete", "not judged") else HOSTILE
    if isinstance(value, tuple):
        return tuple(hostile(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: hostile(getattr(value, field.name)) for field in fields(value)})
    return value


def words(page: str) -> str:
    """The page's text, with one blank between words."""
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"</?span[^>]*>", "", page)).split())


def harmless(page: str) -> Tags:
    """The page's tags, after making sure that it runs nothing and asks nobody for anything."""
    found = Tags(page)
    assert not found.tags & {"script", "img", "iframe", "link", "object", "embed", "form", "svg", "a", "base"}
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("href", "src")]
    assert not re.search(r"(?i)https?://|url\(|@import|javascript:", page)
    return found


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("incomplete", 2)])
def test_the_page_has_every_section_for_each_verdict_and_the_exit_code_of_verify(
    tmp_path: Path, verdict: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(tmp_path, verdict)
    ended, page = case.page("--json", str(tmp_path / "report.json"))
    assert ended == code == case.run("verify")
    assert harmless(page).headings == SECTIONS
    assert f'<div class="verdict {verdict}">' in page
    said = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (said["schema"], said["verdict"]) == ("flreport/1", verdict)
    assert all(row["id"] in page for row in said["checks"])
    assert f"verdict: {verdict};" in capsys.readouterr().out


def test_the_page_says_what_a_compliance_officer_asks(tmp_path: Path) -> None:
    case = Case(tmp_path, "pass")
    _, page = case.page("--json", str(tmp_path / "report.json"))
    said = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    text = words(page)
    assert case.made.trust.charter in text
    assert all(row["fingerprint"] in text for row in said["scope"]["fingerprints"])
    assert "site-d: uploaded nothing in time" in text
    assert "masks of those in the sum; masks shared with site-d; by all of them" in text
    assert "The study has no differential privacy: there is no budget (epsilon)" in text
    assert said["repeat"] in text.replace("&#39;", "'")
    assert said["rounds"][1]["aggregate"][:12] in text


def test_a_failing_page_leads_to_the_event_at_fault(tmp_path: Path) -> None:
    case = Case(tmp_path, "fail")
    place = case.made.index("unmask.request")
    text = words(case.page()[1])
    assert "The log fails:" in text
    assert f"The first event at fault is event {place}, unmask.request by coordinator" in text
    assert "✗ broken" in text


def test_hostile_text_in_any_field_stays_text(tmp_path: Path) -> None:
    case = Case(tmp_path, "fail")
    verdict = verify_bundle(tmp_path / "bundle", case.made.trust)
    honest = build_report(
        verdict,
        case.made.trust,
        verifier="v",
        verifier_digest="0" * 64,
        judged_at=datetime(2026, 1, 1, tzinfo=UTC),
        repeat="r",
    )
    report: Report = hostile(honest)
    page = render_page(report)
    assert page.count("&lt;script&gt;alert(1)") > 100
    assert page.count("{{ 7 * 7 }}") > 100
    harmless(page)


def test_without_escaping_the_same_text_would_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fedmedlora_cli import audit_page

    case = Case(tmp_path, "pass")
    verdict = verify_bundle(tmp_path / "bundle", case.made.trust)
    report = build_report(
        verdict,
        case.made.trust,
        verifier=HOSTILE,
        verifier_digest="0" * 64,
        judged_at=datetime(2026, 1, 1, tzinfo=UTC),
        repeat="r",
    )
    careless = Environment
    monkeypatch.setattr(audit_page, "Environment", lambda **given: careless(**{**given, "autoescape": False}))
    assert "<script>alert(1)</script>" in render_page(report)


def test_without_jinja2_the_command_says_what_to_install_and_verify_still_works(tmp_path: Path) -> None:
    case = Case(tmp_path, "pass")
    where = [str(tmp_path / "bundle"), "--trust", str(tmp_path / "trust.json")]
    blocked = ("jinja2", "numpy", "torch", "grpc")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        script = BLOCKED.format(blocked=blocked, arguments=["audit", *arguments])
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    refused = run("report", *where, "--out", str(tmp_path / "page.html"))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "pip install 'fedmedlora[report]'" in refused.stderr
    assert not (tmp_path / "page.html").exists()
    assert run("verify", *where).returncode == run("show", *where).returncode == 0
    assert case.made.trust.origin


def test_with_jinja2_alone_the_report_is_made(tmp_path: Path) -> None:
    Case(tmp_path, "pass")
    arguments = ["audit", "report", str(tmp_path / "bundle"), "--trust", str(tmp_path / "trust.json")]
    arguments += ["--out", str(tmp_path / "page.html")]
    blocked = ("numpy", "torch", "grpc", "sqlalchemy", "google.protobuf", "safetensors", "matplotlib")
    script = BLOCKED.format(blocked=blocked, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_a_missing_bundle_or_trust_file_writes_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(tmp_path, "pass")
    (tmp_path / "trust.json").write_bytes(b"{}")
    out = tmp_path / "none.html"
    assert case.run("report", "--out", str(out)) == 2
    assert case.run("report", "--out", str(out), "--spot", "2") == 2
    assert not out.exists()
    assert "not a trust file" in capsys.readouterr().err


def test_the_command_on_the_page_gives_the_same_verdict_again(tmp_path: Path) -> None:
    case = Case(tmp_path, "fail")
    case.page("--json", str(tmp_path / "report.json"), "--heads", str(tmp_path))
    words = shlex.split(json.loads((tmp_path / "report.json").read_text())["repeat"])
    assert words[0] == "fedmedlora" and "--heads" in words
    with pytest.raises(SystemExit) as ended:
        main(words[1:])
    assert ended.value.code == 1


def test_the_digest_on_the_page_is_that_of_the_verifiers_sources(tmp_path: Path) -> None:
    _, page = Case(tmp_path, "pass").page()
    command = "find . -name '*.py' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    said = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=Path(fedmedlora_audit.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[0]
    assert said in page
    assert audit_verifier.verifier_digest() == said


def test_a_changed_rule_changes_the_digest_of_the_verifier(tmp_path: Path) -> None:
    (tmp_path / "law").mkdir()
    for name in ("verify.py", "law/rules.py"):
        (tmp_path / name).write_text("RULE = 1\n")
    before = audit_verifier.verifier_digest(tmp_path)
    (tmp_path / "law" / "cache.pyc").write_bytes(b"compiled")
    assert audit_verifier.verifier_digest(tmp_path) == before
    (tmp_path / "law" / "rules.py").write_text("RULE = 2\n")
    assert audit_verifier.verifier_digest(tmp_path) != before


def test_a_log_that_could_be_followed_in_part_says_how_far_and_claims_no_quiet_rest(tmp_path: Path) -> None:
    case = Case(tmp_path, "pass")
    case.made.notes[20] = case.made.signer.sign("hello\n")
    case.made.seal(tmp_path / "bundle")
    text = words(case.page()[1])
    rest = len(case.made.notes) - 20
    assert "the rules could be followed through 20 of them only" in text
    assert f"What stands in the other {rest} entries is not in this list." in text
    whole = tmp_path / "whole"
    whole.mkdir()
    assert "is not in this list" not in words(Case(whole, "pass").page()[1])


def test_a_spot_check_is_repeated_as_a_spot_check() -> None:
    said = audit_report_command._command(Path("b"), Path("t"), None, Path("e"), 7)
    assert said == "fedmedlora audit verify b --trust t --evidence e --spot 7"
