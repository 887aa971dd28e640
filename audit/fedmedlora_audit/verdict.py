"""What the verifier says: findings, one result per check, and the verdict (AUDIT "Verifier")."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.events import Entry, Event
from fedmedlora_audit.finding import Finding
from fedmedlora_audit.heads import FetchedHead
from fedmedlora_audit.law import State
from fedmedlora_audit.stamps import StampsJudged
from fedmedlora_audit.witnessing import JudgedWitnesses

Result = Literal["pass", "fail", "not judged"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What became of one check.

    Attributes:
        result: pass, fail or not judged.
        count: How many things were looked at.
        first: Index of the first event that failed it, if an event is to blame.
        sentence: What it claims or, after a failure, what is wrong first.
    """

    result: Result
    count: int
    first: int | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The auditor's judgement of a bundle.

    Attributes:
        verdict: pass, fail or incomplete.
        events: Number of entries read.
        checks: One result per check id.
        findings: Everything wrong, in the order found.
        origin: The log's origin, as trusted.
        root: Root recomputed from the entries, 64 hex.
        exporter: Name of the key that signed the manifest, if it could be opened.
        state: The law's state at the end, None where the law stopped; for reports.
        entries: The entries that the law judged; for reports.
        terms: The charter's terms, None where it could not be read; for reports.
        witnesses: The cosigned heads of the bundle; for reports.
        fetched: What was found at each site whose head was fetched, by member; for reports.
        stamps: The time stamps of the bundle; for reports.
        read: The events that could be read, with their indexes, of a pruned log too; for reports.
    """

    verdict: Literal["pass", "fail", "incomplete"]
    events: int
    checks: Mapping[str, CheckResult]
    findings: tuple[Finding, ...]
    origin: str
    root: str
    exporter: str | None
    state: State | None = field(default=None, repr=False, compare=False)
    entries: tuple[Entry, ...] = field(default=(), repr=False, compare=False)
    terms: CharterTerms | None = field(default=None, repr=False, compare=False)
    witnesses: JudgedWitnesses = field(default_factory=JudgedWitnesses, repr=False, compare=False)
    fetched: Mapping[str, FetchedHead] = field(default_factory=dict, repr=False, compare=False)
    stamps: StampsJudged = field(default_factory=lambda: StampsJudged(""), repr=False, compare=False)
    read: tuple[tuple[int, Event], ...] = field(default=(), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return {
            "verdict": self.verdict,
            "events": self.events,
            "origin": self.origin,
            "root": self.root,
            "exporter": self.exporter,
            "checks": {
                name: {"result": c.result, "count": c.count, "first": c.first, "sentence": c.sentence}
                for name, c in self.checks.items()
            },
            "findings": [
                {"check": f.check, "index": f.index, "file": f.file, "sentence": f.sentence}
                for f in self.findings
            ],
        }
