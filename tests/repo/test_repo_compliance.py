"""docs/COMPLIANCE.md names commands that exist, in its table and in its text, and every rule it promises."""

from __future__ import annotations

import re

import pytest

from fedmedlora_testkit.commands import commands
from fedmedlora_testkit.repository import ROOT

TEXT = (ROOT / "docs" / "COMPLIANCE.md").read_text(encoding="utf-8")
REAL = commands()

# Commands of the same release that are built beside this page; each leaves this list when it is merged.
COMING: frozenset[str] = frozenset()
"""Commands that the page names and that are not built yet."""


def named(text: str) -> dict[str, set[str]]:
    """Commands that a text names as code, with the options that it names with them."""
    found: dict[str, set[str]] = {}
    for line in re.findall(r"`(fedmedlora [^`\n]+)`|^(fedmedlora .+)$", text, re.MULTILINE):
        words = (line[0] or line[1]).split()[1:]
        found.setdefault(" ".join(words[:2]), set()).update(w for w in words[2:] if w.startswith("--"))
    return found


def test_every_command_on_the_page_exists_or_is_coming() -> None:
    missing = named(TEXT).keys() - REAL.keys()
    assert missing <= COMING, sorted(missing - COMING)


@pytest.mark.parametrize("command", sorted(named(TEXT).keys() & REAL.keys()))
def test_every_option_on_the_page_exists(command: str) -> None:
    assert named(TEXT)[command] <= REAL[command]


def test_every_command_in_the_text_stands_in_the_table() -> None:
    table, rest = TEXT.split("\n## Commands named on this page\n")[1].split("\n\nA first answer")
    in_table = {
        " ".join(name.split()[:2]) for name in re.findall(r"^\| `fedmedlora ([^`]+)`", table, re.MULTILINE)
    }
    assert named(rest).keys() <= in_table
    assert len(in_table) >= 14


@pytest.mark.parametrize(
    "rule",
    [
        "164.312(b)",
        "164.312(c)",
        "164.316(b)(2)(i)",
        "5(2)",
        "30,",
        "32,",
        "35,",
        "12:",
        "19:",
        "11.10(e)",
        "8.15",
    ],
)
def test_every_rule_has_its_place(rule: str) -> None:
    assert rule in TEXT


def test_every_section_says_what_remains_the_hospitals() -> None:
    sections = [part for part in TEXT.split("\n## ") if part.startswith(("HIPAA", "GDPR", "EU", "21", "ISO"))]
    assert len(sections) == 5
    assert all("what remains the hospital's" in part for part in sections)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert named("use `fedmedlora audit dance --fast`") == {"audit dance": {"--fast"}}
    assert "audit dance" not in REAL.keys() | COMING
    assert "--fast" not in REAL["audit verify"]


def test_readme_and_security_lead_to_the_page() -> None:
    assert "(docs/COMPLIANCE.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/COMPLIANCE.md)" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
