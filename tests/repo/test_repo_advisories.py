"""`make security` says in one line what is known against the pinned packages, or that nobody was asked."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

from fedmedlora_testkit.repository import ROOT


def load() -> ModuleType:
    """The script, which is of no package."""
    spec = importlib.util.spec_from_file_location("audit_script", ROOT / "deploy/requirements/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = load()
SOUND = {"name": "grpcio", "version": "1.80.0", "vulns": []}
FLAWED = {
    "name": "pyyaml", "version": "5.3", "vulns": [{"id": "CVE-2020-14343", "fix_versions": ["5.4"]}],
}  # fmt: skip
STRANGE = {"name": "hatchling", "skip_reason": "not found, could not be audited"}


@pytest.mark.parametrize(
    ("report", "code", "says"),
    [
        (None, 2, "NOT checked: no advisory service answered"),
        ([], 2, "NOT checked"),
        ([SOUND, STRANGE], 2, r"NOT checked.*does not know 1 of 2 packages \(hatchling"),
        ([SOUND, STRANGE, FLAWED], 1, r"pyyaml 5.3: CVE-2020-14343, fixed in 5.4"),
        ([SOUND], 0, "nothing is known against its 1 packages"),
    ],
)
def test_what_was_not_asked_does_not_pass(
    report: list[dict[str, object]] | None, code: int, says: str
) -> None:
    found, lines = SCRIPT.judged("site", report)
    assert found == code
    assert len(lines) == 1
    assert re.search(says, lines[0])


def test_every_file_of_pins_is_asked_about() -> None:
    files = {path.stem for path in (ROOT / "deploy/requirements").glob("*.txt")}
    assert set(SCRIPT.FILES) == files
