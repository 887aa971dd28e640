"""What the law takes from the charter's table of validation counts: how often, of which types, to what end.

A type has a place in a session's sum if at least T of the session's sites annotate it; so every party knows
the vector's layout from the charter and the session alone (PROTOCOL §4.15).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from fedmedlora_audit.errors import CharterError

COUNT_MAX: Final = (1 << 18) - 1
"""Largest count of one site; a larger one is refused there."""
FIELDS: Final = 3
"""Integers of a type: found rightly, found wrongly, missed."""


@dataclass(frozen=True, slots=True)
class ValidationRules:
    """The table, with who annotates which type.

    Attributes:
        every: Counts are summed in every round whose number this divides, and in the last.
        chooses: Whether the best sum decides which round's adapter is released.
        entities: For each entity type of the charter, in its order, the members that annotate it; none if the
            study has no such task.
        relations: The same of relation types.
    """

    every: int
    chooses: bool
    entities: tuple[frozenset[str], ...]
    relations: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, study: Mapping[str, Any]) -> Self | None:
        """Read the table of a charter; None without one.

        Raises:
            CharterError: It is malformed, or stands where no exact count may be opened.
        """
        rules = study.get("secure_aggregation")
        table = rules.get("validation") if isinstance(rules, dict) else None
        if table is None:
            return None
        _refuse_exact_counts(study)
        if not isinstance(table, dict):
            raise CharterError("secure_aggregation.validation is a table")
        every, choose = table.get("every_rounds"), table.get("choose")
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise CharterError("secure_aggregation.validation.every_rounds is at least 1")
        if choose not in ("best", "last"):
            raise CharterError("secure_aggregation.validation.choose is 'best' or 'last'")
        return cls(
            every,
            choose == "best",
            _annotators(study, "entities", "ner"),
            _annotators(study, "modifiers", "re"),
        )

    def placed(self, sites: Collection[str], least: int) -> tuple[int, int]:
        """Return how many entity and relation types have a place in a sum over these sites."""
        return sum(self._places(self.entities, sites, least)), sum(self._places(self.relations, sites, least))

    def length(self, sites: Collection[str], least: int) -> int:
        """Return how many integers a vector of a session of these sites has."""
        return FIELDS * sum(self.placed(sites, least))

    def bears(self, ready: Collection[str], sites: Collection[str], least: int) -> bool:
        """Say whether these sites bear a session's layout: every type with a place has enough of them."""
        return all(
            self._places(types, ready, least) == self._places(types, sites, least)
            for types in (self.entities, self.relations)
        )

    @staticmethod
    def _places(types: tuple[frozenset[str], ...], sites: Collection[str], least: int) -> tuple[bool, ...]:
        there = frozenset(sites)
        return tuple(len(annotators & there) >= least for annotators in types)


def _refuse_exact_counts(study: Mapping[str, Any]) -> None:
    """R4.15.9: no exact count under differential privacy, without masks over single uploads, or of "sa"."""
    if study.get("privacy") or study.get("differential_privacy"):
        raise CharterError("a study with differential privacy opens no exact validation counts")
    if study["secure_aggregation"].get("mode") != "masks":
        raise CharterError("validation counts need mode 'masks'")
    adapter = study.get("adapter")
    if isinstance(adapter, dict) and adapter.get("mode") == "sa":
        raise CharterError("a study with adapter mode 'sa' has no validation counts")


def _annotators(study: Mapping[str, Any], kind: str, task: str) -> tuple[frozenset[str], ...]:
    labels, members = study.get("labels"), study.get("members")
    if not isinstance(labels, dict) or not isinstance(members, list):
        raise CharterError("validation counts need the tables labels and members")
    types, tasks = labels.get(kind, []), labels.get("tasks", [])
    if not isinstance(types, list) or not isinstance(tasks, list) or len(set(map(str, types))) != len(types):
        raise CharterError(f"labels.{kind} and labels.tasks are lists without repetition")
    if task not in tasks:
        return ()
    return tuple(
        frozenset(row["id"] for row in members if label in row.get("annotated", ())) for label in types
    )
