"""The registry of the zoo: each specimen falsifies a whole bundle of the same small study.

A specimen names the check that must name it (`check`) and what else sees it (`also`): a rewriter who breaks
one rule breaks others on the way. With all of them switched off the bundle passes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict, verify_bundle


@dataclass(frozen=True, slots=True)
class Scene:
    """What an auditor is handed: a bundle, the trust file, and heads where there are some."""

    bundle: Path
    trust: Trust
    heads: Path | None = None

    def judge(self, **given: Any) -> Verdict:
        """Verify it."""
        return verify_bundle(self.bundle, self.trust, self.heads, **given)


Make = Callable[[Path], Scene]


@dataclass(frozen=True, slots=True)
class Specimen:
    """One attack.

    Attributes:
        check: Id of the check that must name it.
        also: Ids of the further checks that see it.
        make: Builds the falsified bundle below a folder.
        story: What the attacker does, from the first line of the function's docstring or its name.
    """

    check: str
    also: frozenset[str]
    make: Make
    story: str

    @property
    def seen_by(self) -> frozenset[str]:
        """All checks that see it."""
        return self.also | {self.check}


ZOO: Final[dict[str, Specimen]] = {}
"""Name -> attack."""

ELSEWHERE: Final[dict[str, str]] = {
    "A3": "tests/unit/cli/test_cli_sum_review.py::test_one_altered_value_is_found_by_event_and_chunk",
    "C7": "tests/unit/audit/test_audit_stamps.py"
    "::test_a_bad_stamp_is_named_and_passes_unseen_without_the_check",
    "H1": "tests/unit/audit/test_audit_retention.py"
    "::test_quiet_deletion_is_named_and_passes_unseen_without_the_check",
    "U6": "tests/unit/audit/test_audit_law_ckks.py",
}
"""Checks whose attacks need payloads or another kind of study: where they are attacked."""


def specimen(check: str, *also: str, name: str = "") -> Callable[[Make], Make]:
    """Register an attack under its function's name, or another."""

    def register(make: Make) -> Make:
        called = name or make.__name__
        assert called not in ZOO, called
        story = (make.__doc__ or called.replace("_", " ")).strip().splitlines()[0]
        ZOO[called] = Specimen(check, frozenset(also), make, story)
        return make

    return register
