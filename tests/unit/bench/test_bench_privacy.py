"""`bench privacy`: one training for each budget, tables that say what was needed, refused sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedmedlora_audit.accountant import Mechanism, epsilon_of
from fedmedlora_bench.grid import with_needs
from fedmedlora_bench.privacy import PrivacyOptions, run_privacy
from fedmedlora_bench.privacy.measuring import as_large, private_terms
from fedmedlora_bench.privacy.run import _jobs, _setting
from fedmedlora_bench.privacy_rows import privacy_conditions, privacy_tables
from fedmedlora_bench.report.sections import section_of
from fedmedlora_cli.app import build_app
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.privacy_terms import ORDERS
from fedmedlora_core.shipped import shipped_base

TINY = replace(
    PrivacyOptions.quick(),
    sentences=240,
    rounds=1,
    steps=1,
    batch_units=4,
    site_count=3,
    test=4,
    members=6,
    alone=(),
)


@pytest.mark.parametrize("epsilon", [8.0, 2.0])
def test_noise_of_a_budget_costs_no_more_than_it(epsilon: float) -> None:
    options = PrivacyOptions()
    terms = private_terms(options, "patient", epsilon, 4200)
    steps = options.rounds * options.steps
    spent = epsilon_of([Mechanism(terms.noise_milli, terms.sampling_micro, steps)], delta=1e-5, orders=ORDERS)
    assert 0.97 * epsilon < spent <= epsilon and terms.epsilon_milli <= 1000 * epsilon
    assert terms.sampling_rate * 4200 == pytest.approx(options.batch_units, rel=1e-3)


def test_without_a_budget_there_is_no_noise_to_speak_of_and_a_wide_clip() -> None:
    options = PrivacyOptions()
    terms = private_terms(options, "patient", None, 4200)
    assert terms.noise_multiplier < 0.01 and terms.clip > 10 * options.clip_micro / 1e6


def test_larger_hospitals_have_so_many_times_less_noise_in_a_step_and_the_same_budget() -> None:
    options = PrivacyOptions()
    small = private_terms(options, "patient", 8.0, 4200)
    large = private_terms(replace(options, batch_units=4 * options.batch_units), "patient", 8.0, 4 * 4200)
    assert (large.noise_milli, large.epsilon_milli) == (small.noise_milli, small.epsilon_milli)
    lent = as_large(small, 4)
    assert lent.noise_multiplier / small.batch_units == pytest.approx(
        large.noise_multiplier / large.batch_units, rel=0.01
    )
    assert lent.epsilon_milli > 1000 * small.epsilon_milli, "it claims nothing"
    assert as_large(small, 1) == small


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    work = tmp_path_factory.mktemp("curve")
    attacks = {
        "inversion": [
            {
                "case": case,
                "sentences": 1,
                "mode": "ffa",
                "recovered": share,
                "guesser_recovered": 0.2,
                "auc": {"value": 0.5, "low": 0.4, "high": 0.6},
            }
            for case, share in (("one step, plain", 1.0), ("one step, masked upload", 0.1))
        ]
    }
    found = run_privacy(options=TINY, work=work, attacks=attacks, show_progress=False)
    again = run_privacy(options=TINY, work=work, attacks=attacks, show_progress=False)
    assert [r["ner"] for r in again["rows"]] == [r["ner"] for r in found["rows"]]
    assert json.loads(json.dumps(found))["command"] == "bench privacy"
    return found


@pytest.mark.slow
def test_every_budget_has_a_row_with_what_was_needed(result: dict[str, Any]) -> None:
    assert [row["epsilon"] for row in result["rows"]] == [None, 8.0]
    private = result["rows"][1]
    assert 0 < private["epsilon_claimed"] <= 8 and private["noise_multiplier"] > 0
    assert private["units_of_smallest_site"] > 0 and private["steps"] == 1
    for row in result["rows"]:
        area = row["membership"]["auc"]
        assert 0 <= row["ner"]["f1"] <= 1 and area["low"] <= area["value"] <= area["high"]
        assert row["ner_alone"] is None and row["re"] is None


@pytest.mark.slow
def test_modes_differ_in_what_is_seen_and_what_it_costs(result: dict[str, Any]) -> None:
    rows = {row["mode"]: row for row in result["modes"]}
    assert rows["none"]["inversion"]["recovered"] == 1.0
    assert rows["masks"]["inversion"]["recovered"] == 0.1 and rows["ckks"]["inversion"] is None
    assert rows["none"]["upload_bytes"] == rows["masks"]["upload_bytes"] < rows["ckks"]["upload_bytes"]
    assert result["noise_by_hospital"][0]["noise_to_clip"] > 1


@pytest.mark.slow
def test_tables_and_page_say_it(result: dict[str, Any]) -> None:
    tables = privacy_tables(result)
    assert [len(table.rows) for table in tables] == [2, 2, 4, 1]
    assert all(len(row) == len(table.head) for table in tables for row in table.rows)
    assert "3 hospitals" in privacy_conditions(result) and "nobody" not in privacy_conditions(result)
    lent = {**result["settings"], "options": {**result["settings"]["options"], "as_large": 4}}
    assert "4 times larger: it protects nobody" in privacy_conditions({**result, "settings": lent})
    section = section_of("privacy", result)
    assert len(section.grids) == 4 and len(section.plots) == 2
    assert b"<svg" in section.plots[0].render("svg")


def test_more_budgets_keep_what_was_trained_and_another_size_does_not() -> None:
    def keys(**changes: Any) -> set[str]:
        options = replace(TINY, **changes)
        setting = _setting(shipped_base(), options, 1)
        return {job.key for job in with_needs(_jobs(setting, options)).values()}

    few = keys()
    assert few < keys(epsilons=(*TINY.epsilons, 4.0), units=("patient", "document"), alone=(8.0,))
    assert not few & keys(steps=2)


def test_a_federation_of_two_is_refused() -> None:
    with pytest.raises(ConfigError, match="--sites lies in 3"):
        run_privacy(options=replace(TINY, site_count=2), show_progress=False)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--epsilon", "-1"], "above 0"),
        (["--epsilon", "much"], "above 0"),
        (["--unit", "window"], "window"),
        (["--task", "sum"], "sum"),
        (["--attacks", "nowhere.json"], "not a result"),
    ],
)
def test_bad_options_are_one_line(arguments: list[str], reason: str, tmp_path: Path) -> None:
    command = ["bench", "privacy", *arguments, "--work", str(tmp_path)]
    found = CliRunner().invoke(build_app(command), command)
    assert found.exit_code == 2 and reason in found.output
