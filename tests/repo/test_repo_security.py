"""SECURITY.md keeps its word: every guarantee names a module that exists and tests that exist."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from fedmedlora_testkit.repository import ROOT, functions, parsed

HEADER = ("claim", "against whom", "mechanism", "module", "test")
ADVERSARIES = {f"A{number}" for number in range(1, 8)}
NAMED = re.compile(r"`([^`]+)`")


class Row(NamedTuple):
    """One guarantee."""

    claim: str
    against: str
    mechanism: str
    module: str
    test: str


def rows(text: str) -> list[Row]:
    """Rows of the table of guarantees."""
    section = text.split("\n## Guarantees\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    assert cells[0] == HEADER
    return [Row(*cell) for cell in cells[2:]]


ROWS = rows((ROOT / "SECURITY.md").read_text(encoding="utf-8"))


def has_test(identifier: str) -> bool:
    """Whether `file::function` is a test of the repository."""
    name, _, function = identifier.partition("::")
    path = ROOT / name
    return path.is_file() and function in {f.name for f in functions(parsed(path))}


def test_there_are_guarantees() -> None:
    assert len(ROWS) > 20
    assert len({row.claim for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim[:60])
def test_a_guarantee_names_adversaries_module_and_tests(row: Row) -> None:
    parties = set(re.findall(r"A\d", row.against))
    assert parties <= ADVERSARIES
    assert parties or row.against.startswith("(")
    modules, tests = NAMED.findall(row.module), NAMED.findall(row.test)
    assert modules and tests
    assert not [name for name in modules if not (ROOT / name).is_file()]
    assert not [name for name in tests if not has_test(name)]


def test_every_adversary_of_the_model_occurs() -> None:
    """A6 may read the log: what keeps it from more is what the log does not say."""
    named = {party for row in ROWS for party in re.findall(r"A\d", row.against)}
    assert named == ADVERSARIES


def test_a_missing_test_would_be_found() -> None:
    assert has_test("tests/repo/test_repo_security.py::has_test")
    assert not has_test("tests/repo/test_repo_security.py::test_that_does_not_exist")
    assert not has_test("tests/repo/no_such_file.py::test_a")
