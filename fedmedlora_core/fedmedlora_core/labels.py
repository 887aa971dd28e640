"""Label types of clinical entities and relations, and which pairs of them are legal.

An entity (problem, treatment, test, drug) is the head of a relation; a modifier (severity, dosage ...) is its
tail, and the relation's type is the modifier's type. A study may use other labels, and relations between two
entities whose type is their own (`adverse_effect` from a drug to a problem): both are `LabelSet`s.

What this module leaves out: which types a site annotated (that is a property of a note, `records.Note`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from fedmedlora_core.errors import ConfigError

ENTITY_TYPES: tuple[str, ...] = ("problem", "treatment", "test", "drug")

MODIFIER_TYPES: tuple[str, ...] = (
    "bodyloc",
    "condition",
    "course",
    "dosage",
    "duration",
    "form",
    "frequency",
    "labvalue",
    "negation",
    "reference_range",
    "route",
    "severity",
    "strength",
    "subject",
    "temporal",
    "uncertain",
)

LEGAL_PAIRS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "problem": (
            "severity",
            "condition",
            "uncertain",
            "subject",
            "bodyloc",
            "course",
            "temporal",
            "negation",
        ),
        "treatment": ("temporal", "negation"),
        "test": ("labvalue", "reference_range", "temporal", "negation"),
        "drug": ("strength", "dosage", "duration", "form", "frequency", "route", "temporal", "negation"),
    }
)
"""Head type -> modifier types it may carry; 22 pairs."""

_LABEL = re.compile(r"^[a-z][a-z0-9_]{0,63}$")


@dataclass(frozen=True)
class Link:
    """A relation type between two entities, for example `adverse_effect` from drug to problem."""

    head: str
    type: str
    tail: str


@dataclass(frozen=True)
class LabelSet:
    """The labels of a study: entity types, modifier types, and the legal pairs of them.

    Args:
        entities: Types that can be the head of a relation, in the order in which prompts list them.
        modifiers: Types that are only ever the tail of a relation.
        pairs: Head type -> modifier types it may carry.
        links: Relations between two entities, named by their own type.

    Raises:
        ConfigError: A label is malformed, occurs twice, or a pair names an unknown label.
    """

    entities: tuple[str, ...]
    modifiers: tuple[str, ...] = ()
    pairs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    links: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        """Refuse labels that are malformed, doubled or unknown."""
        names = (*self.entities, *self.modifiers)
        for name in (*names, *(link.type for link in self.links)):
            if not _LABEL.match(name):
                raise ConfigError(f"label {name!r}: expected lower-case letters, digits and underscores")
        if len(set(names)) != len(names):
            raise ConfigError("a label occurs twice among the entity and modifier types")
        for head, modifiers in self.pairs.items():
            if head not in self.entities or not set(modifiers) <= set(self.modifiers):
                raise ConfigError(f"legal pairs of {head!r} name a label that is not in the label set")
        for link in self.links:
            if not {link.head, link.tail} <= set(self.entities):
                raise ConfigError(f"link {link.type!r} joins a label that is not an entity type")
            if link.type in names:
                raise ConfigError(f"link {link.type!r} has the name of an entity or modifier type")

    @property
    def types(self) -> tuple[str, ...]:
        """All span types, entities first."""
        return (*self.entities, *self.modifiers)

    @property
    def annotatable(self) -> frozenset[str]:
        """What a note can say it was annotated for: span types and the types of links."""
        return frozenset(self.types) | {link.type for link in self.links}

    def is_entity(self, span_type: str) -> bool:
        """Whether spans of this type are entities (heads)."""
        return span_type in self.entities

    def modifiers_of(self, head_type: str) -> tuple[str, ...]:
        """Modifier types that an entity of this type may carry, in schema order."""
        return self.pairs.get(head_type, ())

    def relation_type(self, head_type: str, tail_type: str, named: str | None = None) -> str | None:
        """The type of a relation between spans of these types, or None where there is none.

        Args:
            head_type: Type of the head entity.
            tail_type: Type of the tail.
            named: The type that the source gives the relation; decides between several links.
        """
        if tail_type in self.modifiers_of(head_type):
            return tail_type
        found = [link.type for link in self.links if (link.head, link.tail) == (head_type, tail_type)]
        if named is not None:
            return named if named in found else None
        return found[0] if len(found) == 1 else None

    def is_legal(self, head_type: str, relation_type: str, tail_type: str) -> bool:
        """Whether a relation of this type may join a head and a tail of these types."""
        if relation_type == tail_type:
            return tail_type in self.modifiers_of(head_type)
        return Link(head_type, relation_type, tail_type) in self.links

    def restricted_to(self, types: Iterable[str]) -> LabelSet:
        """The part of this label set that uses only these span types; order is kept."""
        keep = set(types)
        return LabelSet(
            entities=tuple(name for name in self.entities if name in keep),
            modifiers=tuple(name for name in self.modifiers if name in keep),
            pairs={
                head: tuple(name for name in modifiers if name in keep)
                for head, modifiers in self.pairs.items()
                if head in keep
            },
            links=tuple(link for link in self.links if {link.head, link.tail} <= keep),
        )


CLINICAL = LabelSet(entities=ENTITY_TYPES, modifiers=MODIFIER_TYPES, pairs=LEGAL_PAIRS)
"""Four entity types, sixteen modifiers, 22 legal pairs: the default label set."""


def label_set(entities: Iterable[str], modifiers: Iterable[str] = ()) -> LabelSet:
    """Make the label set of a study from its entity and modifier types.

    The legal pairs of the clinical schema are used for heads that belong to it; an entity type of the study's
    own may carry every modifier of the study.

    Args:
        entities: Entity types of the study, in schema order.
        modifiers: Modifier types of the study, in schema order.

    Raises:
        ConfigError: A label is malformed or occurs twice.
    """
    heads, tails = tuple(entities), tuple(modifiers)
    pairs = {
        head: tuple(
            tail for tail in tails if tail in LEGAL_PAIRS.get(head, tails) or tail not in MODIFIER_TYPES
        )
        for head in heads
    }
    return LabelSet(entities=heads, modifiers=tails, pairs=pairs)
