"""`fedmedlora audit …`: judge a study from files alone (needs only the audit extra)."""

from __future__ import annotations

import typer

from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict
from fedmedlora_cli.audit_judgement import (
    EXIT_CODES,
    BundleArgument,
    EvidenceOption,
    HeadsOption,
    SpotOption,
    TrustOption,
    judge,
)
from fedmedlora_cli.audit_report_command import report
from fedmedlora_cli.audit_show_command import show
from fedmedlora_cli.output import JsonOption, say, write_json

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Judge a study from files alone."""


@app.command()
def verify(
    bundle: BundleArgument,
    trust: TrustOption,
    heads: HeadsOption = None,
    evidence: EvidenceOption = None,
    spot: SpotOption = None,
    json_file: JsonOption = None,
) -> None:
    """Recompute the log and check every rule; exit 0 pass, 1 fail, 2 could not judge.

    Example: fedmedlora audit verify bundle --trust trust.json --evidence evidence
    """
    verdict = judge(bundle, Trust.load(trust), heads, evidence, spot)
    write_json(json_file, verdict.to_json())
    if json_file is None or str(json_file) != "-":
        _print(verdict)
    raise typer.Exit(EXIT_CODES[verdict.verdict])


app.command()(report)
app.command()(show)


def _print(verdict: Verdict) -> None:
    """Say the verdict, then each check that failed or could not be judged."""
    counts = {"pass": 0, "fail": 0, "not judged": 0}
    for result in verdict.checks.values():
        counts[result.result] += 1
    say(
        f"verdict: {verdict.verdict} ({verdict.events} events; {counts['pass']} checks passed, "
        f"{counts['fail']} failed, {counts['not judged']} not judged)"
    )
    if verdict.checks["A3"].result == "pass":
        say(f"  A3 pass: {verdict.checks['A3'].sentence}")
    for name, result in verdict.checks.items():
        if result.result != "pass":
            place = "" if result.first is None else f" (first at event {result.first})"
            say(f"  {name} {result.result}: {result.sentence}{place}")
