"""`fedmedlora audit export`: the events of a judged bundle for other systems (needs only the audit extra)."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from fedmedlora_audit.bundle import need_bundle
from fedmedlora_audit.export import Format, export_line
from fedmedlora_audit.export.record import Records, read_records
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict
from fedmedlora_cli.audit_judgement import BundleArgument, EvidenceOption, HeadsOption, TrustOption, judge
from fedmedlora_cli.output import JsonOption, say, write_json


class Form(StrEnum):
    """Forms of an export."""

    JSONL = "jsonl"
    FHIR = "fhir"
    OCSF = "ocsf"


def export(
    bundle: BundleArgument,
    trust: TrustOption,
    form: Annotated[
        Form, typer.Option("--format", help="JSON Lines, FHIR R4B AuditEvent (NDJSON), or OCSF 6003.")
    ],
    out: Annotated[Path, typer.Option(help="File to write; it appears whole or not at all.", dir_okay=False)],
    heads: HeadsOption = None,
    evidence: EvidenceOption = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Export a bundle that fails, and mark every row.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Verify a bundle and write its events for another system; exit 0 written, 1 the bundle fails.

    Judged as by `audit verify`: every row names the verdict, so give what you gave there.

    Example: fedmedlora audit export bundle --trust trust.json --format fhir --out events.ndjson
    """
    need_bundle(bundle)
    if out.resolve().is_relative_to(bundle.resolve()):
        raise typer.BadParameter("a further file would break the bundle: choose another place for --out")
    verdict = judge(bundle, Trust.load(trust), heads, evidence, spot=None)
    facts: dict[str, Any] = _facts(verdict, form.value)
    if verdict.verdict == "fail" and not unverified:
        write_json(json_file, facts)
        _refuse(verdict)
    records = read_records(bundle, verdict)
    digest = _write(out, records, form.value)
    facts |= {
        "file": out.name,
        "rows": len(records),
        "unreadable": list(records.unreadable),
        "sha256": digest,
    }
    write_json(json_file, facts)
    if json_file is None or str(json_file) != "-":
        _tell(verdict, records, out)


def _facts(verdict: Verdict, form: Format) -> dict[str, Any]:
    """Say what was judged; the rows are filled in once they are written."""
    open_checks = [name for name, result in verdict.checks.items() if result.result == "not judged"]
    return {
        "format": form,
        "verdict": verdict.verdict,
        "origin": verdict.origin,
        "root": verdict.root,
        "events": verdict.events,
        "not_judged": open_checks,
        "file": None,
        "rows": 0,
        "unreadable": [],
        "sha256": None,
    }


def _refuse(verdict: Verdict) -> None:
    first = verdict.findings[0] if verdict.findings else None
    why = f" ({first.check}: {first.sentence})" if first is not None else ""
    typer.echo(
        f"error: the bundle fails{why}; nothing was written. `audit verify` lists the findings; "
        "--unverified exports it all the same and marks every row",
        err=True,
    )
    raise typer.Exit(1)


def _tell(verdict: Verdict, records: Records, out: Path) -> None:
    marks = {"fail": ", each marked unverified: the bundle FAILS", "incomplete": ", each marked incomplete"}
    say(f"{out}: {len(records)} rows of {verdict.events} events{marks.get(verdict.verdict, '')}")
    if verdict.verdict == "incomplete":
        for name, result in verdict.checks.items():
            if result.result == "not judged":
                say(f"  {name} not judged: {result.sentence}")
    if records.unreadable:
        say(f"  left out, of the wrong form: {', '.join(map(str, records.unreadable))}")


def _write(out: Path, records: Records, form: Format) -> str:
    """Write all rows, then give the file its name; returns its SHA-256 in hex."""
    digest = hashlib.sha256()
    with _whole_file(out) as file:
        for line in _lines(records, form):
            file.write(line)
            digest.update(line)
    return digest.hexdigest()


def _lines(records: Records, form: Format) -> Iterator[bytes]:
    with typer.progressbar(records, length=len(records), label=f"{form} rows", file=sys.stderr) as rows:
        for record in rows:
            yield export_line(record, form)


@contextmanager
def _whole_file(out: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `out` that takes its name when all is written and synced; else it is removed."""
    number, name = tempfile.mkstemp(prefix=f".{out.name}-", dir=out.parent)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
