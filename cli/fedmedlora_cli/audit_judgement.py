"""What the audit commands share: a bundle judged as its options ask."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fedmedlora_audit.bundle import need_bundle
from fedmedlora_audit.evidence import SumJudge
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict, verify_bundle

MOST_WORKERS = 4
"""More processes check signatures faster than one process can apply the law to what they have checked."""
EXIT_CODES = {"pass": 0, "fail": 1, "incomplete": 2}

BundleArgument = Annotated[
    Path, typer.Argument(help="The exported bundle: a folder, or its .tar.gz.", metavar="BUNDLE")
]
TrustOption = Annotated[Path, typer.Option(help="Trust file, received by another route than the bundle.")]
HeadsOption = Annotated[
    Path | None, typer.Option(help="Folder of heads and journals collected from the sites.")
]
EvidenceOption = Annotated[
    Path | None,
    typer.Option(help="Exported evidence: recompute the published sums from the uploads (check A3)."),
]
SpotOption = Annotated[
    int | None, typer.Option(min=1, help="Check this many random chunks of each sum instead of all.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Processes for a long log; all cores, but at most 4, if left out."),
]


def judge(
    bundle: Path,
    trust: Trust,
    heads: Path | None,
    evidence: Path | None,
    spot: int | None,
    workers: int | None = None,
) -> Verdict:
    """Judge a bundle, with a bar on standard error where somebody watches.

    Raises:
        BundleError: There is no such bundle (the caller's mistake).
        typer.Exit: Evidence was given and its extra is not installed.
    """
    if spot is not None and evidence is None:
        raise typer.BadParameter("--spot checks evidence: give it with --evidence")
    need_bundle(bundle)
    sums = None if evidence is None else _sum_judge(evidence, spot)
    hidden = not sys.stderr.isatty()
    with typer.progressbar(length=1, label="events", file=sys.stderr, hidden=hidden) as bar:
        return verify_bundle(
            bundle,
            trust,
            heads=heads,
            sums=sums,
            now=datetime.now(UTC),
            workers=workers or min(_cores(), MOST_WORKERS),
            progress=lambda done, total: _draw(bar, done, total),
        )


def _draw(bar: Any, done: int, total: int) -> None:
    bar.length = total
    bar.update(done - bar.pos)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def need_extra(option: str, extra: str, error: ModuleNotFoundError) -> typer.Exit:
    """Say in one line what to install; return what to raise. A missing module of our own is a bug.

    Raises:
        ModuleNotFoundError: The module is one of ours.
    """
    if (error.name or "").startswith("fedmedlora"):
        raise error
    typer.echo(
        f"error: {option} needs the '{extra}' extra ({error.name} is not installed): "
        f"pip install 'fedmedlora[{extra}]'",
        err=True,
    )
    return typer.Exit(2)


def _sum_judge(evidence: Path, spot: int | None) -> SumJudge:
    """Load what recomputes sums; only this needs more than the audit extra."""
    try:
        from fedmedlora_cli.sum_review import SumReview
    except ModuleNotFoundError as error:
        raise need_extra("--evidence", "evidence", error) from None
    return SumReview(evidence, spot=spot)
