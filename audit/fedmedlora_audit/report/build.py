"""How a verdict becomes a report (AUDIT "Report")."""

import hashlib
from collections import Counter
from datetime import UTC, datetime
from typing import Final

from fedmedlora_audit.chain import event_time
from fedmedlora_audit.event_data import Genesis, KeyRevoked, KeyRotated, SiteLeft
from fedmedlora_audit.events import COORDINATOR_ID
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.report.claims import AREAS, OTHER_AREA, area_of, claim_of
from fedmedlora_audit.report.keeping import keeping_of
from fedmedlora_audit.report.model import (
    CheckRow,
    FindingRow,
    Fingerprint,
    PersonRow,
    Report,
    Scope,
    Witnesses,
    WitnessRow,
)
from fedmedlora_audit.report.oddities import oddities
from fedmedlora_audit.report.rounds import round_rows
from fedmedlora_audit.report.sentences import headline_of, limits_of, meaning_of, privacy_of, secured_by
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verdict import Verdict

SPELT_OUT: Final = 3
"""Findings of one check that a report spells out; the verdict's JSON has more of them."""


def build_report(
    verdict: Verdict, trust: Trust, *, verifier: str, verifier_digest: str, judged_at: datetime, repeat: str
) -> Report:
    """Return the report of a verdict.

    Args:
        verdict: From `verify_bundle`.
        trust: What it was judged by.
        verifier: Name and version of the program that judged.
        verifier_digest: SHA-256 of that program's sources, 64 hex.
        judged_at: When, with its time zone.
        repeat: The command that gives the same verdict again.
    """
    checks = _checks(verdict)
    return Report(
        verdict=verdict.verdict,
        headline=headline_of(verdict, checks),
        meaning=meaning_of(verdict, checks),
        first_fault=_first_fault(verdict),
        scope=_scope(verdict, trust, (verifier, verifier_digest), judged_at),
        witnesses=_witnesses(verdict, trust),
        keeping=keeping_of(verdict),
        checks=checks,
        findings=_findings(verdict),
        findings_left=_findings_left(verdict),
        rounds=round_rows(verdict.state, verdict.entries) if verdict.state is not None else (),
        rounds_known=verdict.state is not None,
        privacy=privacy_of(verdict),
        people=_people(verdict, trust),
        oddities=oddities(verdict.entries, verdict.state),
        limits=limits_of(verdict, checks),
        repeat=repeat,
    )


def utc(seconds: float) -> str:
    """Write a time as events do, in whole seconds of UTC."""
    return event_time(datetime.fromtimestamp(seconds, UTC))


def _grouped(vkey: str) -> str:
    digest = hashlib.sha256(VerifierKey.parse(vkey).public).hexdigest()
    return " ".join(digest[place : place + 4] for place in range(0, len(digest), 4))


def _scope(verdict: Verdict, trust: Trust, verifier: tuple[str, str], judged_at: datetime) -> Scope:
    events = [entry.event for entry in verdict.entries]
    genesis = next((event.data for event in events if isinstance(event.data, Genesis)), None)
    terms = verdict.terms
    keys = [
        ("the log", "signs heads", trust.log_vkey),
        ("coordinator", "signs events", trust.coordinator_vkey),
    ]
    for site, member in trust.members.items():
        keys.append((site, "signs events", member.event_vkey))
        keys.append((site, "witness", member.witness_vkey))
    return Scope(
        study=terms.study_id if terms is not None else "",
        origin=verdict.origin,
        runs=tuple(dict.fromkeys(event.run for event in events if event.run)),
        events=verdict.events,
        followed=len(events),
        root=verdict.root,
        first_time=events[0].time if events else "",
        last_time=events[-1].time if events else "",
        exporter=verdict.exporter,
        software=genesis.software if genesis is not None else "",
        verifier=verifier[0],
        verifier_digest=verifier[1],
        judged_at=event_time(judged_at),
        charter=trust.charter,
        charter_is_trusted=verdict.checks["T1"].result == "pass" if "T1" in verdict.checks else False,
        members=len(trust.members),
        threshold=terms.threshold if terms is not None else None,
        colluding=terms.colluding_sites if terms is not None else None,
        secured_by=secured_by(terms),
        fingerprints=tuple(Fingerprint(party, key, _grouped(vkey)) for party, key, vkey in keys),
    )


def _witnesses(verdict: Verdict, trust: Trust) -> Witnesses:
    judged = verdict.witnesses
    rows = []
    for site in trust.members:
        sizes = [size for size in judged.quorums if site in judged.heads[size].times]
        last = sizes[-1] if sizes else None
        fetched = verdict.fetched.get(site)
        rows.append(
            WitnessRow(
                site=site,
                cosigned=len(sizes),
                last_size=last,
                last_time=utc(judged.heads[last].times[site]) if last is not None else "",
                fetched="not fetched" if fetched is None else "agrees" if fetched.agrees else "differs",
                fetched_size=fetched.size if fetched is not None else None,
            )
        )
    return Witnesses(
        quorum=trust.quorum,
        demanded=verdict.terms is not None and "C3" in verdict.terms.demands,
        quorum_heads=len(judged.quorums),
        covered=judged.covered,
        rows=tuple(rows),
    )


def _checks(verdict: Verdict) -> tuple[CheckRow, ...]:
    """Return all checks, area by area."""
    demands = verdict.terms.demands if verdict.terms is not None else frozenset[str]()
    rows = []
    for name, found in verdict.checks.items():
        claim = claim_of(name, found.sentence)
        remark = found.sentence if found.sentence != claim else ""
        rows.append(
            CheckRow(
                name, area_of(name), claim, found.result, found.count, found.first, remark, name in demands
            )
        )
    order = [area for area, _ in AREAS] + [OTHER_AREA]
    return tuple(sorted(rows, key=lambda row: order.index(row.area)))


def _findings(verdict: Verdict) -> tuple[FindingRow, ...]:
    said = {entry.index: entry.event for entry in verdict.entries}
    rows = []
    told: Counter[str] = Counter()
    for finding in verdict.findings:
        told[finding.check] += 1
        if told[finding.check] > SPELT_OUT:
            continue
        event = said.get(finding.index) if finding.index is not None else None
        who, kind = (event.actor.id, event.type) if event is not None else ("", "")
        rows.append(FindingRow(finding.check, finding.sentence, finding.index, finding.file, who, kind))
    return tuple(rows)


def _findings_left(verdict: Verdict) -> tuple[tuple[str, int], ...]:
    found = Counter(finding.check for finding in verdict.findings)
    return tuple((check, count - SPELT_OUT) for check, count in found.items() if count > SPELT_OUT)


def _first_fault(verdict: Verdict) -> str:
    """Name the first event that something is wrong with; most of what follows is its consequence."""
    blamed = [finding for finding in verdict.findings if finding.index is not None]
    if not blamed:
        return ""
    first = min(blamed, key=lambda finding: finding.index or 0)
    said = next((entry.event for entry in verdict.entries if entry.index == first.index), None)
    what = f", {said.type} by {said.actor.id}, dated {said.time}" if said is not None else ""
    return f"The first event at fault is event {first.index}{what} ({first.check}: {first.sentence})."


def _people(verdict: Verdict, trust: Trust) -> tuple[PersonRow, ...]:
    times: dict[tuple[str, str], str] = {}
    acts: dict[str, list[str]] = {}
    said: Counter[str] = Counter()
    for entry in verdict.entries:
        event, data = entry.event, entry.event.data
        said[event.actor.id] += 1
        about = getattr(data, "site", event.actor.id)
        if event.type in ("site.enrolled", "charter.signed"):
            times.setdefault((about, event.type), event.time)
        elif isinstance(data, KeyRotated | KeyRevoked | SiteLeft):
            what = f" ({data.key} key, {_id(data.vkey)})" if isinstance(data, KeyRotated) else ""
            acts.setdefault(about, []).append(f"{event.type}{what} at event {entry.index}, {event.time}")
    rows = [
        PersonRow(COORDINATOR_ID, _id(trust.coordinator_vkey), "", "", "", _acts(COORDINATOR_ID, said, acts))
    ]
    for site, keys in trust.members.items():
        rows.append(
            PersonRow(
                party=site,
                key_id=_id(keys.event_vkey),
                witness_key_id=_id(keys.witness_vkey),
                enrolled_at=times.get((site, "site.enrolled"), ""),
                signed_at=times.get((site, "charter.signed"), ""),
                acts=_acts(site, said, acts),
            )
        )
    return tuple(rows)


def _acts(party: str, said: Counter[str], acts: dict[str, list[str]]) -> tuple[str, ...]:
    return (f"{said[party]} events", *acts.get(party, ()))


def _id(vkey: str) -> str:
    return VerifierKey.parse(vkey).key_id
