"""Options of `study new`, named where their help would hide what the command does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

YearsOption = Annotated[
    int, typer.Option(min=1, max=100, help="Years for which the log is kept whole after the run.")
]
ContinuesOption = Annotated[
    Path | None, typer.Option(help="Bundle of the log that this study follows; the new one names its head.")
]
AdapterOption = Annotated[
    Path | None, typer.Option(help="Adapter to go on from: the released folder of the study before.")
]
BaseOption = Annotated[
    Path | None, typer.Option(help="Folder of the base model; the shipped one if left out.")
]
ContextOption = Annotated[
    Path | None, typer.Option(help="Public context that the key holder made with `site ckks-key`.")
]
VoteOption = Annotated[
    int | None,
    typer.Option(help="Sites vote on the new adapter in every so-manieth round; 0: never."),
]
MarginOption = Annotated[
    int, typer.Option(help="Thousandths of a nat by which its held-out loss may be worse unopposed.")
]
AgreementOption = Annotated[
    str | None, typer.Option(help="hybrid (with ML-KEM-768) or x25519, instead of the profile's.")
]
WireOption = Annotated[
    int | None,
    typer.Option(help="16, 24 or 32 bits a value on the wire; the narrowest that fits if left out."),
]
DropOption = Annotated[
    int,
    typer.Option(min=0, max=49, help="Above 128 members: random drop-outs to provide for, in percent."),
]
SiteEpsilonOption = Annotated[
    float | None,
    typer.Option(help="What all rounds may cost a hospital: noise inside the masks is fitted to it."),
]
SiteDeltaOption = Annotated[str, typer.Option(help="Delta of that budget, written like 1e-5.")]
SiteClipOption = Annotated[
    float | None, typer.Option(help="Largest L2 norm of an update, instead of the profile's.")
]
ValidateOption = Annotated[
    int | None, typer.Option(help="Sum the sites' validation counts in every so-manieth round; 0: never.")
]
ChooseOption = Annotated[
    str, typer.Option(help="best or last: which round is released, where counts are summed.")
]
