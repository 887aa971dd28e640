"""docs/PROTOCOL.md and the code agree: numbers exist, requirements are cited, the figure is the code."""

import inspect
import re
from pathlib import Path

import pytest

import fedmedlora_crypto
from fedmedlora_crypto.secagg.reference import run_round

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
REQUIREMENTS = re.findall(r"^- \*\*(R\d+\.\d+\.\d+)\*\*", TEXT, re.MULTILINE)
SECTIONS = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", TEXT, re.MULTILINE))
CODE = "\n".join(p.read_text() for p in sorted(Path(fedmedlora_crypto.__path__[0]).rglob("*.py")))
TESTS = "\n".join(p.read_text() for p in sorted(Path(__file__).parent.glob("*.py")))


def cited(text: str) -> set[str]:
    return set(re.findall(r"\bR\d+\.\d+\.\d+\b", text))


def test_requirements_are_numbered_once_and_in_order() -> None:
    numbers = [tuple(map(int, name[1:].split("."))) for name in REQUIREMENTS]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 80
    # within a section they count from 1 without a gap
    for major, minor, last in numbers:
        assert all((major, minor, k) in numbers for k in range(1, last))


def test_every_number_cited_exists() -> None:
    assert cited(CODE) | cited(TESTS) | cited(TEXT) <= set(REQUIREMENTS)
    assert set(re.findall(r"§(\d+(?:\.\d+)?)", CODE)) <= SECTIONS


OWN = [name for name in REQUIREMENTS if name.startswith("R6.") and not name.startswith("R6.16.")]
"""R6.16 is held by several packages; tests/repo looks there."""


@pytest.mark.parametrize("name", OWN)
def test_requirement_is_cited_in_code_and_in_a_test(name: str) -> None:
    assert name in cited(CODE)
    assert name in cited(TESTS)


def test_figure_is_the_code() -> None:
    body = inspect.getsource(run_round)
    assert f"```python\n{body}```" in TEXT


def test_words_for_refusals_are_all_explained() -> None:
    from fedmedlora_crypto import errors

    reasons = {v.reason for v in vars(errors).values() if isinstance(v, type) and hasattr(v, "reason")}
    table = TEXT[TEXT.index("## 7.") : TEXT.index("## 8.")]
    assert reasons <= set(re.findall(r"`(\w+)`", table))
