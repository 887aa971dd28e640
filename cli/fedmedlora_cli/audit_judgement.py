"""What the audit commands share: a bundle judged as its options ask."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_audit.errors import BundleError
from fedmedlora_audit.evidence import SumJudge
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict, verify_bundle

EXIT_CODES = {"pass": 0, "fail": 1, "incomplete": 2}

BundleArgument = Annotated[Path, typer.Argument(help="The exported bundle.", metavar="BUNDLE")]
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


def judge(bundle: Path, trust: Trust, heads: Path | None, evidence: Path | None, spot: int | None) -> Verdict:
    """Judge a bundle.

    Raises:
        BundleError: There is no such folder (the caller's mistake).
        typer.Exit: Evidence was given and its extra is not installed.
    """
    if spot is not None and evidence is None:
        raise typer.BadParameter("--spot checks evidence: give it with --evidence")
    if not bundle.is_dir():
        raise BundleError("there is no such bundle folder", file=str(bundle))
    sums = None if evidence is None else _sum_judge(evidence, spot)
    return verify_bundle(bundle, trust, heads=heads, sums=sums, now=datetime.now(UTC))


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
