"""`fedmedlora audit report`: a bundle judged and explained on one page (needs the report extra)."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_audit.report import build_report
from fedmedlora_audit.trust import Trust
from fedmedlora_cli.audit_judgement import (
    EXIT_CODES,
    BundleArgument,
    EvidenceOption,
    HeadsOption,
    SpotOption,
    TrustOption,
    judge,
    need_extra,
)
from fedmedlora_cli.audit_verifier import verifier_digest, verifier_version
from fedmedlora_cli.output import JsonOption, say, write_json


def report(
    bundle: BundleArgument,
    trust: TrustOption,
    heads: HeadsOption = None,
    evidence: EvidenceOption = None,
    spot: SpotOption = None,
    out: Annotated[Path, typer.Option(help="The page to write.", dir_okay=False)] = Path("report.html"),
    json_file: JsonOption = None,
) -> None:
    """Judge a bundle and explain the verdict on one page; exit codes as of audit verify.

    Example: fedmedlora audit report bundle --trust trust.json --heads heads --out report.html
    """
    try:
        from fedmedlora_cli.audit_page import render_page
    except ModuleNotFoundError as error:
        raise need_extra("audit report", "report", error) from None
    known = Trust.load(trust)
    verdict = judge(bundle, known, heads, evidence, spot)
    made = build_report(
        verdict,
        known,
        verifier=verifier_version(),
        verifier_digest=verifier_digest(),
        judged_at=datetime.now(UTC),
        repeat=_command(bundle, trust, heads, evidence, spot),
    )
    out.write_text(render_page(made), encoding="utf-8")
    write_json(json_file, made.to_json())
    if json_file is None or str(json_file) != "-":
        say(f"verdict: {verdict.verdict}; {out}")
    raise typer.Exit(EXIT_CODES[verdict.verdict])


def _command(bundle: Path, trust: Path, heads: Path | None, evidence: Path | None, spot: int | None) -> str:
    words = ["fedmedlora", "audit", "verify", str(bundle), "--trust", str(trust)]
    words += ["--heads", str(heads)] if heads is not None else []
    words += ["--evidence", str(evidence)] if evidence is not None else []
    words += ["--spot", str(spot)] if spot is not None else []
    return shlex.join(words)
