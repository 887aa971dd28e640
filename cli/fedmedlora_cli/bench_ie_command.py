"""`fedmedlora bench ie`: the extraction grid."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fedmedlora_cli.demo.table import results_table
from fedmedlora_cli.output import JsonOption, write_json

if TYPE_CHECKING:
    from fedmedlora_bench.ie import IeOptions

DATA_VARIABLE = "FEDMEDLORA_DATA"


DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the open corpora mtsamples, maccrobat2020, phee, chia, or with sites/*.jsonl "
        "and outside/*.jsonl of your own; the synthetic clinic when left out.",
        envvar=DATA_VARIABLE,
    ),
]
BaseOption = Annotated[
    Path | None, typer.Option(help="Folder of the base model; the shipped one or that of FEDMEDLORA_MODELS.")
]
ProfileOption = Annotated[
    str | None,
    typer.Option(help="Name or file of a profile; chosen by the kind of model when left out."),
]
ScenarioOption = Annotated[
    list[str] | None,
    typer.Option(help="main, strategies, external, new_site, uneven, sites or all; may be repeated."),
]
FewOption = Annotated[
    list[int] | None, typer.Option(help="Labelled notes of the new site; may be repeated.", min=1)
]
SiteCountOption = Annotated[
    list[int] | None,
    typer.Option(help="Hospitals of a federation in scenario sites; may be repeated.", min=3, max=10),
]
SentencesOption = Annotated[
    int | None, typer.Option(help="Training sentences of all of them together there.", min=60)
]
WorkOption = Annotated[
    Path | None, typer.Option(help="Folder of finished jobs; a run that was killed goes on from there.")
]


def command(
    data: DataOption = None,
    clinic: Annotated[
        bool, typer.Option("--clinic", help="The synthetic clinic, even where a folder of corpora is set.")
    ] = False,
    base: BaseOption = None,
    profile: ProfileOption = None,
    seeds: Annotated[int, typer.Option(help="How many seeds; figures are means over them.", min=1)] = 1,
    scenario: ScenarioOption = None,
    quick: Annotated[bool, typer.Option(help="Subsample, so that it takes minutes.")] = True,
    rounds: Annotated[int | None, typer.Option(help="Rounds of every system.", min=1)] = None,
    train: Annotated[int | None, typer.Option(help="Training sentences of each site.", min=1)] = None,
    test: Annotated[int | None, typer.Option(help="Test sentences of each site.", min=1)] = None,
    few_notes: FewOption = None,
    site_count: SiteCountOption = None,
    sentences: SentencesOption = None,
    work: WorkOption = None,
    jobs: Annotated[int, typer.Option(help="Jobs at a time, one thread each.", min=1)] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Run the jobs on Ray (extra `ray`).")] = False,
    json_file: JsonOption = None,
) -> None:
    """Compare untuned, single-site, federated and centralised extraction.

    Example: fedmedlora bench ie --data corpora --base models/minilm-l6 --seeds 3 --work grid --json ie.json
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch, which the other commands do without
    from fedmedlora_bench.ie import SCENARIOS, IeOptions, run_ie

    corpora = None if clinic else data
    size = (IeOptions.quick if quick else IeOptions.full)(corpora=corpora is not None)
    wanted = scenario or ["main"]
    result = run_ie(
        data=corpora,
        base=base,
        profile=profile,
        seeds=seeds,
        scenarios=list(SCENARIOS) if "all" in wanted else wanted,
        options=_spread(
            _sized(size, rounds=rounds, train=train, test=test, few_notes=few_notes),
            site_count=site_count,
            sentences=sentences,
        ),
        work=work,
        jobs=jobs,
        ray=ray,
        repeat=repeat_command(sys.argv[1:]),
    )
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        Console().print(results_table(result["systems"]))


def _sized(
    size: IeOptions,
    *,
    rounds: int | None,
    train: int | None,
    test: int | None,
    few_notes: list[int] | None,
) -> IeOptions:
    """Change what was given."""
    limits = size.limits
    if train is not None:
        limits = replace(limits, train=train)
    if test is not None:
        limits = replace(limits, test=test)
    few = tuple(few_notes or size.few_notes)
    return replace(size, limits=limits, rounds=rounds or size.rounds, few_notes=few)


def _spread(size: IeOptions, *, site_count: list[int] | None, sentences: int | None) -> IeOptions:
    """Change what was given for scenario sites."""
    return replace(
        size,
        site_counts=tuple(sorted(set(site_count or size.site_counts))),
        spread_sentences=sentences or size.spread_sentences,
    )


def repeat_command(arguments: Sequence[str]) -> str:
    """The command as it was given, without the folders of this machine."""
    words = ["fedmedlora"]
    for before, word in zip(["", *arguments], arguments, strict=False):
        option, equals, value = word.partition("=")
        if before in _FOLDERS:
            words.append(Path(word).name)
        elif equals and option in _FOLDERS:
            words.append(f"{option}={Path(value).name}")
        else:
            words.append(word)
    return " ".join(words)


_FOLDERS = ("--data", "--base", "--work", "--json")
