"""Label sets: the clinical schema, legal pairs, links, restriction."""

from __future__ import annotations

import pytest

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.labels import (
    CLINICAL,
    ENTITY_TYPES,
    LEGAL_PAIRS,
    MODIFIER_TYPES,
    LabelSet,
    Link,
    label_set,
)


def test_clinical_schema_has_four_entities_sixteen_modifiers_and_22_pairs() -> None:
    assert (len(ENTITY_TYPES), len(MODIFIER_TYPES)) == (4, 16)
    assert sum(len(modifiers) for modifiers in LEGAL_PAIRS.values()) == 22
    assert {modifier for modifiers in LEGAL_PAIRS.values() for modifier in modifiers} == set(MODIFIER_TYPES)


def test_relation_type_is_the_modifier_and_illegal_pairs_have_none() -> None:
    assert CLINICAL.relation_type("drug", "dosage") == "dosage"
    assert CLINICAL.relation_type("drug", "dosage", "hasAttr") == "dosage"
    assert CLINICAL.relation_type("drug", "severity") is None
    assert CLINICAL.relation_type("drug", "problem") is None
    assert CLINICAL.is_legal("test", "labvalue", "labvalue")
    assert not CLINICAL.is_legal("test", "dosage", "labvalue")


def test_link_between_entities_is_chosen_by_name() -> None:
    labels = LabelSet(
        ("problem", "drug"),
        links=(Link("drug", "adverse_effect", "problem"), Link("drug", "treats", "problem")),
    )
    assert labels.relation_type("drug", "problem", "treats") == "treats"
    assert labels.relation_type("drug", "problem", "other") is None
    assert labels.relation_type("drug", "problem") is None  # two links: only the name can decide
    assert labels.is_legal("drug", "adverse_effect", "problem")
    assert not labels.is_legal("problem", "adverse_effect", "drug")
    assert labels.annotatable == {"problem", "drug", "adverse_effect", "treats"}


def test_restricted_set_keeps_order_and_drops_pairs() -> None:
    small = CLINICAL.restricted_to(["drug", "problem", "route", "severity"])
    assert small.entities == ("problem", "drug")
    assert small.modifiers_of("drug") == ("route",)
    assert small.modifiers_of("test") == ()


def test_label_set_of_a_study_uses_clinical_pairs_and_admits_own_labels() -> None:
    labels = label_set(["problem", "device"], ["severity", "dosage", "colour"])
    assert labels.modifiers_of("problem") == ("severity", "colour")
    assert labels.modifiers_of("device") == ("severity", "dosage", "colour")


@pytest.mark.parametrize(
    ("entities", "modifiers", "pairs", "links"),
    [
        (("Problem",), (), {}, ()),
        (("problem", "problem"), (), {}, ()),
        (("problem",), ("problem",), {}, ()),
        (("problem",), ("severity",), {"drug": ("severity",)}, ()),
        (("problem",), ("severity",), {"problem": ("dosage",)}, ()),
        (("problem",), (), {}, (Link("problem", "causes", "drug"),)),
        (("problem",), (), {}, (Link("problem", "problem", "problem"),)),
    ],
)
def test_malformed_label_set_is_refused(
    entities: tuple[str, ...],
    modifiers: tuple[str, ...],
    pairs: dict[str, tuple[str, ...]],
    links: tuple[Link, ...],
) -> None:
    with pytest.raises(ConfigError):
        LabelSet(entities, modifiers, pairs, links)
