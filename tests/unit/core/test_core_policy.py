"""The site's policy refuses a study and nothing can override it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_core.errors import ConfigError, PolicyRefusal
from fedmedlora_core.policy import SitePolicy
from fedmedlora_testkit.studies import changed, make_study


def test_a_plain_policy_accepts_the_demo_study() -> None:
    SitePolicy().judge(make_study())


@pytest.mark.parametrize(
    ("policy", "section", "values", "sentence"),
    [
        ({}, "secure_aggregation", {"mode": "none"}, "requires secure aggregation"),
        ({"studies": ("other",)}, "study", {}, "not in this site's list of studies"),
        ({"base_models": ("f" * 64,)}, "study", {}, "base model"),
        ({"min_sites": 4}, "study", {}, "this site requires 4"),
        ({"min_colluding_sites": 2}, "study", {}, "colluding"),
        ({"max_rounds": 3}, "training", {"rounds": 4}, "allows 3"),
        ({}, "aggregation", {"weights": "exact"}, "exact weights"),
    ],
)
def test_each_key_refuses_with_its_own_sentence(
    policy: dict[str, object], section: str, values: dict[str, object], sentence: str
) -> None:
    # R2.2.2
    study = changed(make_study(), section, **values)
    with pytest.raises(PolicyRefusal, match=sentence) as caught:
        SitePolicy.model_validate(policy).judge(study)
    assert caught.value.reason == "policy"


TERMS = {
    "unit": "patient",
    "delta": "1e-5",
    "epsilon_milli": 8000,
    "noise_milli": 1000,
    "clip_micro": 1_000_000,
    "sampling_micro": 10_000,
    "steps": 10,
    "batch_units": 8,
}


@pytest.mark.parametrize(
    ("policy", "terms", "sentence"),
    [
        ({"required": True}, None, "requires differential privacy, the study has none"),
        (
            {"required": True},
            {"unit": "document"},
            "protects each document, this site's budget is by patient",
        ),
        ({"epsilon_milli": 9000}, {"unit": "document"}, "protects each document"),
        ({"epsilon_milli": 9000, "unit": "document"}, {}, "protects each patient"),
        ({"epsilon_milli": 7999}, {}, "may spend epsilon 8, this site's whole budget is 7.999"),
        ({"epsilon_milli": 9000}, {"delta": "1e-4"}, "delta is 1e-4, this site's budget has 1e-5"),
        ({"epsilon_milli": 8000}, {}, None),
        ({"epsilon_milli": 7999}, {"delta": "1e-6"}, None),  # the ledger decides
        ({}, {"unit": "document"}, None),
        ({}, None, None),
    ],
)
def test_a_study_that_the_privacy_budget_cannot_hold_is_refused(
    policy: dict[str, object], terms: dict[str, object] | None, sentence: str | None
) -> None:
    # R4.13.6
    study = make_study(overrides={"aggregation__size_exponent_milli": 0})
    if terms is not None:
        study = changed(study, "privacy", **{**TERMS, **terms})
    judge = SitePolicy.model_validate({"privacy": policy}).judge
    if sentence is None:
        judge(study)
        return
    with pytest.raises(PolicyRefusal, match=sentence):
        judge(study)


CONTEXT = "c" * 64
SHARED = {"mode": "ckks", "ckks": {"custody": "shared", "context": CONTEXT}}
HELD = {"mode": "ckks", "ckks": {"custody": "holder", "holder": "site-b", "context": CONTEXT}}


@pytest.mark.parametrize(
    ("policy", "values", "sentence"),
    [
        ({}, HELD, "'site-b' would hold the CKKS key .* names nobody"),
        ({"ckks_key_holder": "site-a"}, HELD, "names site-a"),
        ({"ckks_shared_key_allowed": True}, HELD, "names nobody"),
        ({}, SHARED, "every member would hold"),
        ({"ckks_key_holder": "site-b"}, SHARED, "every member would hold"),
    ],
)
def test_a_custody_that_the_site_did_not_name_is_refused(
    policy: dict[str, object], values: dict[str, object], sentence: str
) -> None:
    """R6.16.5: by default no key custody is good enough, and each has to be allowed by name."""
    with pytest.raises(PolicyRefusal, match=sentence):
        SitePolicy.model_validate(policy).judge(changed(make_study(), "secure_aggregation", **values))


def test_a_named_holder_and_an_allowed_shared_key_are_accepted() -> None:
    held = changed(make_study(), "secure_aggregation", **HELD)
    SitePolicy.model_validate({"ckks_key_holder": "site-b"}).judge(held)
    shared = changed(make_study(), "secure_aggregation", **SHARED)
    SitePolicy.model_validate({"ckks_shared_key_allowed": True}).judge(shared)


@pytest.mark.parametrize(("values", "words"), [(HELD, "'site-b' could read"), (SHARED, "any one site")])
def test_a_ckks_study_says_who_could_read_what(values: dict[str, object], words: str) -> None:
    warnings = "\n".join(changed(make_study(), "secure_aggregation", **values).warnings())
    assert words in warnings
    assert "colluding_sites protects nothing" in warnings


@pytest.mark.parametrize(
    "values",
    [
        {"graph": {"neighbours": 2, "share_threshold": 2, "window_survivors": 1}},
        {"vote": {"every_rounds": 1}},
    ],
)
def test_ckks_has_neither_graph_nor_vote(values: dict[str, object]) -> None:
    """R6.16.9: its flow adds no masks, so the votes would be readable."""
    with pytest.raises(ConfigError, match="neither a graph nor a masked vote"):
        changed(make_study(), "secure_aggregation", **HELD, **values)


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("secure_agregation_required = false\n")
    with pytest.raises(ConfigError, match="did you mean 'secure_aggregation_required'"):
        SitePolicy.load(file)
