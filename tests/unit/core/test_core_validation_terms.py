"""The charter's table of validation counts: optional, refused where it must be, and read alike by the law."""

from __future__ import annotations

import json

import pytest
import rfc8785

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import CharterError
from fedmedlora_audit.validation_terms import COUNT_MAX as LAW_COUNT_MAX
from fedmedlora_audit.validation_terms import ValidationRules
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.privacy_terms import PrivacyTerms
from fedmedlora_core.private_releases import check_releases
from fedmedlora_core.site_noise import SiteNoiseTerms
from fedmedlora_core.study import Study
from fedmedlora_core.validation_counts import COUNT_MAX, CountLayout
from fedmedlora_testkit.studies import make_study

TABLE = {"every_rounds": 2, "choose": "best"}
LABELS = (*make_study().labels.entities, *make_study().labels.modifiers)


def counted(**options: object) -> Study:
    return make_study(overrides={"secure_aggregation__validation": TABLE}, **options)  # type: ignore[arg-type]


def test_a_charter_without_the_table_keeps_its_bytes() -> None:
    plain = make_study().canonical_json()
    assert b"validation" not in plain.replace(b"validation_percent", b"")
    assert ValidationRules.of(json.loads(plain)) is None
    assert make_study().digest != counted().digest


def test_rounds_that_count_are_those_of_the_charter_and_the_last() -> None:
    """R4.15.1."""
    table = json.loads(counted().canonical_json())
    rules = ValidationRules.of(table)
    assert rules is not None and rules.chooses
    table["training"]["rounds"] = 5
    for member, number in zip(table["members"], range(4), strict=True):
        member["event_vkey"], member["witness_vkey"] = keys(number)
    table["log"]["log_vkey"], table["log"]["coordinator_vkey"] = log_keys()
    terms = CharterTerms.from_json(rfc8785.dumps(table))
    assert [number for number in range(1, 6) if terms.counts_in(number)] == [2, 4, 5]


def keys(number: int) -> tuple[str, str]:
    from fedmedlora_testkit.audit_log import charter_table

    row = charter_table()["members"][number]
    return row["event_vkey"], row["witness_vkey"]


def log_keys() -> tuple[str, str]:
    from fedmedlora_testkit.audit_log import charter_table

    log = charter_table()["log"]
    return log["log_vkey"], log["coordinator_vkey"]


@pytest.mark.parametrize(
    "sites", [LABELS[:0], ("site-a", "site-b", "site-c"), ("site-b", "site-c", "site-d")]
)
def test_the_law_gives_every_session_the_layout_that_sites_use(sites: tuple[str, ...]) -> None:
    """R4.15.4."""
    study = counted(annotated={"site-a": LABELS[1:], "site-d": LABELS[2:]})
    rules = ValidationRules.of(json.loads(study.canonical_json()))
    assert rules is not None
    layout, there = CountLayout.of(study, sites or None), sites or study.member_ids
    assert rules.placed(there, study.threshold) == (len(layout.entities), len(layout.relations))
    assert rules.length(there, study.threshold) == layout.length
    assert LAW_COUNT_MAX == COUNT_MAX


def test_counts_are_refused_with_differential_privacy_and_where_uploads_or_adapters_are_no_masked_ones() -> (
    None
):
    """R4.15.9: by the study, and by the law for a charter that no study wrote."""
    good = json.loads(counted().canonical_json())
    for section, change, reason in (
        ("privacy", {"any": 1}, "differential privacy"),
        ("adapter", {**good["adapter"], "mode": "sa"}, "sa"),
        ("secure_aggregation", {**good["secure_aggregation"], "mode": "ckks"}, "masks"),
        ("secure_aggregation", {**good["secure_aggregation"], "mode": "none"}, "masks"),
        (
            "secure_aggregation",
            {**good["secure_aggregation"], "validation": {"every_rounds": 0}},
            "every_rounds",
        ),
        ("secure_aggregation", {**good["secure_aggregation"], "validation": {"every_rounds": 1}}, "choose"),
    ):
        with pytest.raises(CharterError, match=reason):
            ValidationRules.of({**good, section: change})
    with pytest.raises((ConfigError, ValueError), match="no two sites share"):
        make_study(overrides={"secure_aggregation__validation": TABLE, "adapter__mode": "sa"})
    with pytest.raises((ConfigError, ValueError), match="need mode"):
        make_study(overrides={"secure_aggregation__validation": TABLE, "secure_aggregation__mode": "none"})
    with pytest.raises((ConfigError, ValueError), match="no type"):
        counted(annotated={site: () for site in ("site-a", "site-b", "site-c", "site-d")})


def test_exact_counts_are_refused_in_a_study_with_differential_privacy() -> None:
    """R4.15.9: neither beside the patients' table nor beside noise inside the masks."""
    study = counted()
    constant = study.aggregation.model_copy(update={"size_exponent_milli": 0, "tau_milli": 0})
    for table in (
        {"privacy": PrivacyTerms.model_construct()},
        {"site_noise": SiteNoiseTerms.model_construct()},
    ):
        with pytest.raises(ValueError, match="exact validation counts"):
            check_releases(study.model_copy(update={"aggregation": constant, **table}))
    check_releases(study)
