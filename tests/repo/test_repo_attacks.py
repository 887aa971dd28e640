"""The table of the coordinator's attacks in SECURITY.md is the registry that the tests play."""

from __future__ import annotations

import re

from fedmedlora_testkit.adversary import LOG_ATTACKS, SECRET_ATTACKS
from fedmedlora_testkit.repository import ROOT, functions, parsed

HEADING = "\n## Attacks by the coordinator\n"
HEADER = "| attack | what | outcome | by | rule |"


def expected() -> list[str]:
    """The table's lines, from the registry."""
    lines = []
    for name, entry in LOG_ATTACKS.items():
        law = f"the law ({entry.law})" if entry.law else ""
        own = f"the site itself (`{entry.own[1]}`)" if entry.own else ""
        by = ", ".join(filter(None, (law, own)))
        lines.append(f"| {name} | {entry.what} | {entry.outcome} | {by} | {entry.rule} |")
    for name, secret in SECRET_ATTACKS.items():
        by = f"the site (`{secret.error.__name__}`)" if secret.error else "what is kept from it"
        what = secret.what if secret.by == "coordinator" else f"{secret.what} [{secret.by}]"
        lines.append(f"| {name} | {what} | {secret.outcome} | {by} | {secret.rule} |")
    return lines


def table(text: str) -> list[str]:
    """The table's rows as SECURITY.md has them."""
    section = text.split(HEADING, 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[0] == HEADER
    return lines[2:]


def test_the_table_of_attacks_is_the_registry() -> None:
    found = table((ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    missing = [line for line in expected() if line not in found]
    assert not missing, "\n".join(missing)
    detected = [line for line in found if line not in expected()]
    for line in detected:  # what several sites or their heads show has a test of its own
        assert "| detected |" in line or "| refused |" in line or "| useless |" in line
        named = re.findall(r"`(tests/[^`]+)::(test_\w+)`", line)
        assert named, line
        for path, test in named:
            assert test in {f.name for f in functions(parsed(ROOT / path))}, test


def test_a_missing_row_would_be_found() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert expected()[0] not in table(text.replace(expected()[0] + "\n", ""))
    assert len(set(expected())) == len(expected()) > 30
