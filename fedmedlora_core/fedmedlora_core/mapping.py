"""Label mappings: how the names of an outside corpus become the labels of a study.

A mapping is a TOML file:

    [types]                      # source span type = label of the study; other types are dropped and counted
    Disease_disorder = "problem"
    [relations]                  # source relation = which of its two arguments is the head
    MODIFY = "second"
    CID = "role:Chemical"        # or the role of the head, where the format names roles
    "Medication:Dose" = "first"  # the argument Dose of an event Medication; "first" is the trigger
    [links]                      # source relation = relation between two entities of the study
    ADE-Drug = "adverse_effect"

Two further tables read corpora whose relations are events: `[[containers]]` joins spans that stand inside the
same longer span, `[[events]]` joins arguments of an event. The mappings of the open corpora come with the
package.

What this module leaves out: applying a mapping to documents (`importing`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from fedmedlora_core.config import Section, load_toml
from fedmedlora_core.errors import ConfigError

_HEAD = r"^(first|second|role:[^\s:]+)$"


class Container(Section):
    """Spans that stand inside one longer span belong together: PHEE's Drug and Dosage inside a Treatment.

    Args:
        inside: Source type of the longer span.
        head: Source type of the heads inside it.
        tails: Source types of the modifiers inside it; each belongs to the nearest head.
        joined_by: Source relation that also puts a span (second argument) into a container (first argument).
    """

    inside: str
    head: str
    tails: tuple[str, ...]
    joined_by: str | None = None


class EventRule(Section):
    """Arguments of one event belong together: PHEE's Drug and Effect of an Adverse_event.

    An event without arguments, in a document in which it is the only one of `among`, has all spans of the
    document as arguments (that is how PHEE writes it).

    Args:
        event: Source type of the event.
        among: Source types of events that compete for the spans of a document.
        head: Source type of the heads; they stand inside an argument of type `via`.
        via: Source type of the argument that contains the heads.
        tail: Source type of the argument that is the tail.
        relation: Type of the relation, a link of the label set.
    """

    event: str
    among: tuple[str, ...]
    head: str
    via: str
    tail: str
    relation: str


class LabelMapping(Section):
    """How the names of an outside corpus become labels; see the module.

    Args:
        title: One line that names the corpus.
        types: Source span type -> label.
        relations: Source relation -> which argument is the head ("first", "second", or "role:NAME").
            Relations not named are dropped and counted. An argument of an event is named "Event:Role".
        links: Source relation -> the study's name of a relation between two entities; the source's own name
            where it is left out. A relation with a modifier always takes the modifier's type.
        discontinuous: What becomes of a span of several pieces with words between them: "drop" counts and
            drops it, "cover" takes everything from its first to its last character.
        annotated: Labels that the corpus' annotators looked for; the labels of `types` where it is left out.
        patient_pattern: Regular expression; its first group, in a document's file name, is the patient.
        accepted_mismatches: Places ("NAME.ann:LINE") where the text is known to differ from the text of
            the line; such a span is dropped and counted instead of stopping the import.
        containers: Spans that belong together because a longer span holds them.
        events: Spans that belong together because an event has them as arguments.
    """

    title: str = ""
    types: Mapping[str, str]
    relations: Mapping[str, Annotated[str, Field(pattern=_HEAD)]] = Field(default_factory=dict)
    links: Mapping[str, str] = Field(default_factory=dict)
    discontinuous: Literal["drop", "cover"] = "drop"
    annotated: tuple[str, ...] | None = None
    patient_pattern: str | None = None
    accepted_mismatches: frozenset[str] = frozenset()
    containers: tuple[Container, ...] = ()
    events: tuple[EventRule, ...] = ()

    @field_validator("patient_pattern")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        """Refuse a pattern that is none or has no group."""
        if value is None:
            return value
        try:
            groups = re.compile(value).groups
        except re.error:
            raise ValueError("is not a regular expression") from None
        if groups < 1:
            raise ValueError("has no group for the patient")
        return value

    def patient_of(self, document_name: str) -> str | None:
        """The patient that a document's file name tells, or None."""
        if self.patient_pattern is None:
            return None
        match = re.search(self.patient_pattern, document_name)
        return match.group(1) if match else None

    @property
    def labels_annotated(self) -> frozenset[str]:
        """The labels that the corpus' annotators looked for."""
        if self.annotated is not None:
            return frozenset(self.annotated)
        return frozenset(self.types.values()) | frozenset(self.links.values())


def load_mapping(source: str | Path) -> LabelMapping:
    """Read a mapping: a file, or the name of one that comes with the package.

    Args:
        source: Path of a TOML file, or one of `mapping_names()`.

    Raises:
        ConfigError: There is no such mapping, or it is malformed.
    """
    if isinstance(source, str) and source in mapping_names():
        with resources.as_file(resources.files("fedmedlora_core.mappings") / f"{source}.toml") as path:
            return load_toml(path, LabelMapping)
    path = Path(source)
    if not path.is_file():
        raise ConfigError(
            f"{source}: no such mapping file; those of the package are {', '.join(mapping_names())}"
        )
    return load_toml(path, LabelMapping)


def mapping_names() -> tuple[str, ...]:
    """Names of the mappings that come with the package."""
    folder = resources.files("fedmedlora_core.mappings")
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml")))
