"""Scores of one system on one site as plain JSON and back: what a scoring job leaves for the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora_bench.systems import TASKS, SiteScores
from fedmedlora_core.scores import Counts, MatchScore, Scores

__all__ = ["scores_from_table", "scores_to_table"]

_BY_PATIENT = ("ner_by_patient", "re_by_patient", "re_gold_heads_by_patient")


def scores_to_table(scores: SiteScores) -> dict[str, Any]:
    """Write counts by task, way of matching and type; patients stay in their fixed order, without names."""
    found: dict[str, Any] = {task: _write(getattr(scores, task)) for task in TASKS}
    for field in _BY_PATIENT:
        found[field] = [_write(patient) for patient in getattr(scores, field)]
    return found | {"malformed": scores.malformed, "asked": scores.asked}


def scores_from_table(table: Mapping[str, Any]) -> SiteScores:
    """Read back what `scores_to_table` wrote."""
    fields: dict[str, Any] = {task: _read(table[task]) for task in TASKS}
    fields |= {field: tuple(_read(patient) for patient in table[field]) for field in _BY_PATIENT}
    return SiteScores(**fields, malformed=int(table["malformed"]), asked=int(table["asked"]))


def _write(scores: Scores) -> dict[str, dict[str, list[int]]]:
    return {
        way: {name: [counts.tp, counts.fp, counts.fn] for name, counts in match.per_type.items()}
        for way, match in (("strict", scores.strict), ("lenient", scores.lenient))
    }


def _read(table: Mapping[str, Mapping[str, Sequence[int]]]) -> Scores:
    strict, lenient = (
        MatchScore({name: Counts(*counts) for name, counts in table[way].items()})
        for way in ("strict", "lenient")
    )
    return Scores(strict, lenient)
