"""The charter: one file, one digest, and rules that no operator can talk it out of."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import Study, threshold_for
from fedmedlora_testkit.studies import changed, make_study


def test_toml_and_canonical_json_round_trip(tmp_path: Path) -> None:
    study = make_study()
    study.write(tmp_path / "study.toml")
    assert Study.load(tmp_path) == study
    assert Study.from_canonical_json(study.canonical_json()).digest == study.digest


def test_every_value_is_bound_by_the_digest() -> None:
    # R2.1.4
    study = make_study()
    assert changed(study, "training", rounds=9).digest != study.digest
    assert changed(study, "study", title="x").digest != study.digest


def test_non_canonical_bytes_are_refused() -> None:
    data = make_study().canonical_json()
    with pytest.raises(ConfigError, match="canonical"):
        Study.from_canonical_json(data.replace(b":", b": ", 1))


@pytest.mark.parametrize(
    ("n", "c", "quorum"), [(3, 1, 3), (4, 1, 3), (5, 1, 4), (10, 3, 7), (50, 16, 34), (1000, 333, 667)]
)
def test_threshold_is_the_formula_of_the_protocol(n: int, c: int, quorum: int) -> None:
    # R2.3.1
    assert threshold_for(n, c) == quorum


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    make_study().write(file)
    file.write_text(file.read_text().replace("local_epochs", "local_epoch"))
    with pytest.raises(
        ConfigError, match=r"unknown key 'training.local_epoch'; did you mean 'local_epochs'\?"
    ):
        Study.load(file)


def test_files_that_are_not_toml_say_so(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    with pytest.raises(ConfigError, match="cannot be read"):
        Study.load(file)
    file.write_text("[study\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        Study.load(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        Study.load(file)
    for endless in ("a = " + "[" * 9999, "a = " + "1" * 9999):
        file.write_text(endless)
        with pytest.raises(ConfigError, match="is not TOML that this program reads"):
            Study.load(file)


@pytest.mark.parametrize(
    ("section", "values", "sentence"),
    [
        ("secure_aggregation", {"threshold": 2}, "threshold must be 3"),
        ("secure_aggregation", {"threshold": 4}, "threshold must be 3"),
        ("secure_aggregation", {"colluding_sites": 4, "threshold": 5}, "cannot withstand"),
        ("secure_aggregation", {"colluding_sites": 2, "threshold": 4, "min_sites": 5}, "min_sites"),
        ("secure_aggregation", {"colluding_sites": 3, "threshold": 4}, "at least 2"),
        ("aggregation", {"weight_max": 2**30}, "does not fit the ring"),
        ("aggregation", {"rule": "fedmedlora+"}, "tau_milli"),
        ("aggregation", {"tau_milli": 5}, "ignores the loss"),
    ],
)
def test_broken_rules_are_refused_with_their_sentence(
    section: str, values: dict[str, object], sentence: str
) -> None:
    # R2.3.2, R4.2.2
    with pytest.raises(ConfigError, match=sentence):
        changed(make_study(), section, **values)


def test_members_are_distinct_in_id_and_every_key() -> None:
    study = make_study()
    table = study.model_dump(mode="json", by_alias=True)
    table["members"][1]["event_vkey"] = table["members"][0]["witness_vkey"]
    with pytest.raises(ValueError, match="one key appears twice"):
        Study.model_validate(table, strict=False)
    table = study.model_dump(mode="json", by_alias=True)
    table["members"][1]["id"] = "site-a"
    with pytest.raises(ValueError, match="same id"):
        Study.model_validate(table, strict=False)


def test_encoder_rows_need_a_quorum_of_annotating_sites() -> None:
    # R4.2.3
    study = changed(make_study(), "model", kind="token_classification")
    table = study.model_dump(mode="json", by_alias=True)
    for member in table["members"][:2]:
        member["annotated"] = [label for label in member["annotated"] if label != "severity"]
    with pytest.raises(ValueError, match="'severity' is annotated by 2 members"):
        Study.model_validate(table, strict=False)


def test_warnings_say_what_a_setting_weakens() -> None:
    study = changed(make_study(), "secure_aggregation", mode="none")
    study = changed(study, "aggregation", weights="exact")
    sentences = " ".join(study.warnings(expected_weight=1))
    assert "secure aggregation is off" in sentences
    assert "exact weights" in sentences
    assert "1/64" in sentences
    assert make_study().warnings() == []


def test_post_quantum_key_agreement_is_the_default() -> None:
    assert make_study().secure_aggregation.key_agreement == "hybrid"
    weaker = changed(make_study(), "secure_aggregation", key_agreement="x25519")
    assert "post-quantum" in " ".join(weaker.warnings())
