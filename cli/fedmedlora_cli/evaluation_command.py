"""`fedmedlora evaluate`: strict and lenient scores of an adapter on annotated notes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedmedlora_cli.output import JsonOption, write_json
from fedmedlora_cli.trained import load_trained
from fedmedlora_core.learning.evaluate import predict_entities, predict_relations
from fedmedlora_core.records import read_notes
from fedmedlora_core.scores import Scores, score_entities, score_relations


def command(
    adapter: Annotated[Path, typer.Option(help="Folder of a released adapter.")],
    data: Annotated[Path, typer.Option(help="Annotated notes (JSONL, as `site import` keeps them).")],
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model; the shipped one if left out.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Score an adapter on annotated notes: entities, relations with gold heads and with its own.

    Example: fedmedlora evaluate --adapter demo-run/coordinator/released --data site-a/data/notes.jsonl
    """
    _, learner = load_trained(adapter, base)
    gold = read_notes(data)
    found = predict_entities(learner, gold)
    own = predict_relations(learner, found.notes)
    given = predict_relations(learner, gold)
    scores = {
        "ner": score_entities(gold, found.notes, labels=learner.labels),
        "re": score_relations(gold, own.notes, labels=learner.labels),
        "re_gold_heads": score_relations(gold, given.notes, labels=learner.labels),
    }
    write_json(
        json_file,
        {task: figures(score) for task, score in scores.items()}
        | {"malformed": found.malformed, "asked": found.asked, "notes": len(gold)},
    )
    if json_file is None or str(json_file) != "-":
        Console().print(_table(scores))


def figures(score: Scores) -> dict[str, object]:
    """Figures of one task as the JSON carries them."""
    return {
        "strict_f1": score.strict.f1,
        "lenient_f1": score.lenient.f1,
        "micro": {"strict_f1": score.strict.f1, "lenient_f1": score.lenient.f1},
        "per_type": score.as_dict(),
    }


def _table(scores: dict[str, Scores]) -> Table:
    table = Table()
    for column in ("", "strict F1", "lenient F1", "precision", "recall"):
        table.add_column(column, justify="left" if not column else "right")
    names = {"ner": "entities", "re": "relations, own heads", "re_gold_heads": "relations, gold heads"}
    for task, score in scores.items():
        micro = score.strict.micro
        table.add_row(
            names[task],
            f"{score.strict.f1:.3f}",
            f"{score.lenient.f1:.3f}",
            f"{micro.precision:.3f}",
            f"{micro.recall:.3f}",
        )
    return table
