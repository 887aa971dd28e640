"""What a charter says of validation counts: how often they are summed, what they decide (PROTOCOL §4.15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fedmedlora_core.config import Section

if TYPE_CHECKING:
    from fedmedlora_core.study import Study

__all__ = ["ValidationTerms", "annotators_of", "check_validation"]


class ValidationTerms(Section):
    """The sites' masked sums of validation counts; a study without the table never opens a count.

    Attributes:
        every_rounds: Counts are summed in every round whose number this divides, and in the last one.
        choose: "best": the adapter of the round with the best summed F1 is released. "last": that of the last
            round; the sums are for reading only.
    """

    every_rounds: Annotated[int, Field(ge=1, lt=2**53)] = 1
    choose: Literal["best", "last"] = "best"


def annotators_of(study: Study, label: str) -> frozenset[str]:
    """Ids of the members that annotate a type: only they count it."""
    return frozenset(member.id for member in study.members if label in member.annotated)


def check_validation(study: Study) -> None:
    """Refuse a table of counts that the rest of the charter cannot carry.

    Raises:
        ValueError: One sentence.
    """
    rules = study.secure_aggregation
    if rules.validation is None:
        return
    if study.adapter.mode == "sa":
        raise ValueError("adapter mode 'sa' has no validation counts: no two sites share an adapter")
    types = (
        *(study.labels.entities if "ner" in study.labels.tasks else ()),
        *(study.labels.modifiers if "re" in study.labels.tasks else ()),
    )
    if not any(len(annotators_of(study, label)) >= study.threshold for label in types):
        raise ValueError(
            f"validation: no type of the study's tasks is annotated by {study.threshold} members, so no "
            "count could be summed"
        )
