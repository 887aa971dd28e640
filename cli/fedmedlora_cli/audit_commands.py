"""`fedmedlora audit …`: judge a study from files alone (needs only the audit extra)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_audit.canary import Canaries, Report, scan_folder
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict
from fedmedlora_cli.audit_export_command import export
from fedmedlora_cli.audit_judgement import (
    EXIT_CODES,
    BundleArgument,
    EvidenceOption,
    HeadsOption,
    SpotOption,
    TrustOption,
    WorkersOption,
    judge,
)
from fedmedlora_cli.audit_report_command import report
from fedmedlora_cli.audit_show_command import show
from fedmedlora_cli.output import JsonOption, say, write_json

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

SCAN_CODES = {"clean": 0, "found": 1, "incomplete": 2}
PROGRESS_FILES = 100


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
    workers: WorkersOption = None,
    json_file: JsonOption = None,
) -> None:
    """Recompute the log and check every rule; exit 0 pass, 1 fail, 2 could not judge.

    Example: fedmedlora audit verify bundle --trust trust.json --evidence evidence
    """
    verdict = judge(bundle, Trust.load(trust), heads, evidence, spot, workers)
    write_json(json_file, verdict.to_json())
    if json_file is None or str(json_file) != "-":
        _print(verdict)
    raise typer.Exit(EXIT_CODES[verdict.verdict])


app.command()(report)
app.command()(show)
app.command()(export)


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


@app.command()
def scan(
    folder: Annotated[Path, typer.Argument(help="The folder or file to search.", metavar="DIR")],
    canaries: Annotated[
        list[Path], typer.Option(help="File of marks of canary patients; may be given several times.")
    ],
    skip: Annotated[
        list[Path] | None,
        typer.Option(help="File or folder to leave out, such as the hospital's own; several times."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Search a folder for marks of canary patients; exit 0 none, 1 found, 2 could not search all.

    Example: fedmedlora audit scan bundle --canaries canaries.json
    """
    marks = Canaries.load(canaries)
    report = scan_folder(folder, marks, skip=skip or (), on_progress=_scan_progress)
    write_json(json_file, report.to_json())
    if json_file is None or str(json_file) != "-":
        _print_scan(report, marks)
    raise typer.Exit(SCAN_CODES[report.verdict])


def _scan_progress(files: int, n_bytes: int) -> None:
    """Say now and then how far a long search is, where somebody watches."""
    if files % PROGRESS_FILES == 0 and sys.stderr.isatty():
        typer.echo(f"searched {files} files, {n_bytes / 1e6:.0f} MB", err=True)


def _print_scan(report: Report, marks: Canaries) -> None:
    """Say the verdict, then each find and each file that could not be read; never a mark."""
    say(
        f"canaries: {report.verdict} ({len(marks.canaries)} canaries, {report.files} files, "
        f"{report.bytes / 1e6:.1f} MB, {len(report.found)} found)"
    )
    for item in report.found:
        place = f" ({item.place})" if item.place else ""
        say(f"  {item.file}{place}: {item.mark} of {item.canary}, {item.spelling}")
    for unread in report.not_searched:
        say(f"  {unread.file}: not searched: {unread.reason}")
