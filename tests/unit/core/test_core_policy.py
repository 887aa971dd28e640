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


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("secure_agregation_required = false\n")
    with pytest.raises(ConfigError, match="did you mean 'secure_aggregation_required'"):
        SitePolicy.load(file)
