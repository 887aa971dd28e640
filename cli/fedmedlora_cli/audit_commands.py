"""`fedmedlora audit …`: judge a study from files alone (needs only the audit extra)."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_audit.canary import Canaries, Report, scan_folder
from fedmedlora_audit.errors import BundleError
from fedmedlora_audit.evidence import SumJudge
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_cli.audit_export_command import export
from fedmedlora_cli.output import JsonOption, say, write_json

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

app.command()(export)

EXIT_CODES = {"pass": 0, "fail": 1, "incomplete": 2}
SCAN_CODES = {"clean": 0, "found": 1, "incomplete": 2}
PROGRESS_FILES = 100


@app.callback()
def group() -> None:
    """Judge a study from files alone."""


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="The exported bundle.", metavar="BUNDLE")],
    trust: Annotated[Path, typer.Option(help="Trust file, received by another route than the bundle.")],
    heads: Annotated[
        Path | None, typer.Option(help="Folder of heads and journals collected from the sites.")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(help="Exported evidence: recompute the published sums from the uploads (check A3)."),
    ] = None,
    spot: Annotated[
        int | None, typer.Option(min=1, help="Check this many random chunks of each sum instead of all.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Recompute the log and check every rule; exit 0 pass, 1 fail, 2 could not judge.

    Example: fedmedlora audit verify bundle --trust trust.json --evidence evidence
    """
    if spot is not None and evidence is None:
        raise typer.BadParameter("--spot checks evidence: give it with --evidence")
    if not bundle.is_dir():
        raise BundleError("there is no such bundle folder", file=str(bundle))
    sums = None if evidence is None else _sum_judge(evidence, spot)
    verdict = verify_bundle(bundle, Trust.load(trust), heads=heads, sums=sums, now=datetime.now(UTC))
    write_json(json_file, verdict.to_json())
    if json_file is None or str(json_file) != "-":
        _print(verdict)
    raise typer.Exit(EXIT_CODES[verdict.verdict])


def _sum_judge(evidence: Path, spot: int | None) -> SumJudge:
    """Load what recomputes sums; only this needs more than the audit extra."""
    try:
        from fedmedlora_cli.sum_review import SumReview
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("fedmedlora"):
            raise
        typer.echo(
            f"error: --evidence needs the 'evidence' extra ({exc.name} is not installed): "
            "pip install 'fedmedlora[evidence]'",
            err=True,
        )
        raise typer.Exit(2) from None
    return SumReview(evidence, spot=spot)


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
