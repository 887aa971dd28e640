"""Every section and requirement that the code cites exists in the documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedmedlora_testkit.repository import ROOT, sources, tracked_files

DOCUMENTS = ROOT / "docs"
SECTION = re.compile(r"PROTOCOL §(\d+(?:\.\d+)*)(?: to §(\d+(?:\.\d+)*))?")
REQUIREMENT = re.compile(r"\bR(\d+\.\d+\.\d+)\b")
DEFINED = re.compile(r"^- \*\*R(\d+\.\d+\.\d+)\*\* ", re.MULTILINE)
NUMBERED_PART = re.compile(r"^(## 2\. .*)^## 7\. ", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(AUDIT|OPERATIONS|ARCHITECTURE|PITFALLS) \"([^\"]+)\"")
NUMBERED_HEADING = re.compile(r"^#+ (?:Section )?(\d+(?:\.\d+)*)\.?\s", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+?)\s*$", re.MULTILINE)
DECISIONS = re.compile(r"\bdecisions? (G?\d+(?:(?:, | and | to )G?\d+)*)")
CHECK = re.compile(r"\bG(?:1[34]|3[2-9]|4[0-9])\b")
DOCUMENT = re.compile(r"\b(?:docs/)?((?:PROTOCOL|AUDIT|OPERATIONS|ARCHITECTURE|INTERFACES|PITFALLS)\.md)\b")


def read(name: str) -> str:
    """Text of one document."""
    return (DOCUMENTS / name).read_text(encoding="utf-8")


def cited(pattern: re.Pattern[str]) -> dict[str, set[str]]:
    """What the Python files and protocol buffers cite, each with the files that do."""
    found: dict[str, set[str]] = {}
    proto = [path for path in tracked_files() if path.suffix == ".proto"]
    for path in (*sources(tests=True), *proto):
        if path == Path(__file__):
            continue
        for match in pattern.finditer(path.read_text(encoding="utf-8")):
            for group in filter(None, match.groups()):
                found.setdefault(group, set()).add(str(path.relative_to(ROOT)))
    return found


def cited_whole(pattern: re.Pattern[str]) -> set[str]:
    """Every match of a pattern without groups in the Python files."""
    texts = (path.read_text(encoding="utf-8") for path in sources(tests=True) if path != Path(__file__))
    return {match for text in texts for match in pattern.findall(text)}


def test_cited_sections_of_the_protocol_exist() -> None:
    existing = set(NUMBERED_HEADING.findall(read("PROTOCOL.md")))
    sections = cited(SECTION)
    assert len(sections) > 10
    assert not {number: files for number, files in sections.items() if number not in existing}


def test_cited_requirements_exist() -> None:
    existing = set(REQUIREMENT.findall(read("PROTOCOL.md")))
    requirements = cited(REQUIREMENT)
    assert len(requirements) > 10
    assert not {number: files for number, files in requirements.items() if number not in existing}


@pytest.mark.parametrize("document", ["AUDIT", "OPERATIONS", "ARCHITECTURE", "PITFALLS"])
def test_cited_headings_exist(document: str) -> None:
    wanted = set()
    for path in sources(tests=True):
        if path != Path(__file__):
            wanted |= {h for d, h in NAMED.findall(path.read_text(encoding="utf-8")) if d == document}
    if wanted:
        headings = {re.sub(r"^[\d.]+\s+", "", h).lower() for h in HEADING.findall(read(f"{document}.md"))}
        assert {h.lower() for h in wanted} <= headings


def test_cited_decisions_exist() -> None:
    existing = set(re.findall(r"^\| (G?\d+) \|", read("DECISIONS.md"), re.MULTILINE))
    wanted = {number for text in cited(DECISIONS) for number in re.findall(r"G?\d+", text)}
    assert len(wanted) > 8
    assert wanted <= existing


def test_cited_checks_exist() -> None:
    """The ids with a G that the law raises are explained in one of the two documents."""
    explained = CHECK.findall(read("DECISIONS.md")) + CHECK.findall(read("AUDIT.md"))
    assert set(cited_whole(CHECK)) <= set(explained)


def test_cited_documents_exist() -> None:
    assert not {name: files for name, files in cited(DOCUMENT).items() if not (DOCUMENTS / name).is_file()}


def uncited(document: str, texts: dict[str, str]) -> dict[str, set[str]]:
    """Requirements of a text, each with the halves of the repository that cite it nowhere."""
    halves: dict[str, set[str]] = {"code": set(), "tests": set()}
    for name, text in texts.items():
        halves["tests" if name.startswith("tests/") else "code"] |= set(REQUIREMENT.findall(text))
    missing = {
        number: {half for half, numbers in halves.items() if number not in numbers}
        for number in DEFINED.findall(document)
    }
    return {number: where for number, where in missing.items() if where}


def repository_texts() -> dict[str, str]:
    """The Python files by name, this one left out: its examples cite what they like."""
    paths = (path for path in sources(tests=True) if path != Path(__file__))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def test_every_requirement_is_cited_in_code_and_in_a_test() -> None:
    document = read("PROTOCOL.md")
    defined = DEFINED.findall(document)
    assert len(defined) > 80
    assert len(set(defined)) == len(defined), "a number was given twice"
    assert not uncited(document, repository_texts())


def test_every_must_has_a_number() -> None:
    """A MUST in running text would be held by nobody."""
    blocks = re.split(r"\n(?=- |\n)", NUMBERED_PART.findall(read("PROTOCOL.md"))[0])
    assert not [block for block in blocks if re.search(r"\bMUST\b", block) and not DEFINED.search(block)]


def test_a_requirement_that_nobody_cites_would_be_found() -> None:
    document = "- **R6.99.1** A site MUST not sleep.\n- **R6.99.2** A site MUST eat."
    texts = {"site/a.py": "# R6.99.1: why", "tests/test_a.py": "# R6.99.1, R6.99.2"}
    assert uncited(document, texts) == {"6.99.2": {"code"}}
    assert uncited(document, {"site/a.py": "# R6.99.2"}) == {
        "6.99.1": {"code", "tests"},
        "6.99.2": {"tests"},
    }
    first = DEFINED.findall(read("PROTOCOL.md"))[0]
    blinded = {name: text.replace(f"R{first}", "") for name, text in repository_texts().items()}
    assert set(uncited(read("PROTOCOL.md"), blinded)) == {first}


def test_every_rule_of_part_g_became_a_requirement() -> None:
    rows = dict(re.findall(r"^\| (G\d+) \| (R[\d.]+.*) \|$", read("PROTOCOL.md"), re.MULTILINE))
    existing = set(DEFINED.findall(read("PROTOCOL.md")))
    assert not {g: r for g, r in rows.items() if not set(REQUIREMENT.findall(r)) <= existing}
    explained = set(re.findall(r"^\| (G\d+) \|", read("DECISIONS.md"), re.MULTILINE))
    assert explained <= set(rows)


def test_a_wrong_number_would_be_found() -> None:
    text = "(PROTOCOL §6.8 to §6.12) # R6.9.1: why"
    assert SECTION.findall(text) == [("6.8", "6.12")]
    assert REQUIREMENT.findall(text) == ["6.9.1"]
    assert NUMBERED_HEADING.findall("## 6.8 Advertise\n### 6.8.1. Keys\n") == ["6.8", "6.8.1"]
