"""From scores to tables, plots and docs/RESULTS.md: figures are those of the scores, and gaps are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_bench import results_page
from fedmedlora_bench.cohorts import clinic_cohort, split_cohort
from fedmedlora_bench.extraction_rows import conditions, difference, points, sections
from fedmedlora_bench.ie.jobs import Training
from fedmedlora_bench.ie.options import IeOptions
from fedmedlora_bench.ie.scenarios import SCENARIOS, Layout
from fedmedlora_bench.ie.setting import Setting, profile_text
from fedmedlora_bench.ie.strategies import STRATEGIES
from fedmedlora_bench.report.sections import section_of
from fedmedlora_bench.systems import SiteScores
from fedmedlora_core.profile import Profile
from fedmedlora_core.scores import Counts, MatchScore, Scores
from fedmedlora_core.sentences import split_sentences

SITES = ("north", "south", "west")
OPTIONS = IeOptions(few_notes=(10, 25), site_counts=(3, 10))


def layout(cohort: Any = "clinic") -> Layout:
    profile = profile_text(Profile.load("encoder"))
    setting = Setting(cohort, "", "", "base", "ab" * 32, profile, 1, OPTIONS.limits, 3, 60)
    return Layout(setting, SITES, ("east",), OPTIONS, "token_classification")


def scores(right: int) -> SiteScores:
    """Of ten entities and ten relations of two patients, so many are right."""
    each = [
        Counts(right // 2, 5 - right // 2, 5 - right // 2),
        Counts(right - right // 2, 5 - right + right // 2, 0),
    ]
    patients = tuple(Scores(MatchScore({"drug": c}), MatchScore({"drug": c})) for c in each)
    total = Scores.total(patients)
    return SiteScores(
        ner=total,
        re=total,
        re_gold_heads=total,
        ner_unseen=total,
        ner_type_blind=total,
        re_any_head=total,
        re_gold_heads_any_head=total,
        malformed=0,
        asked=1,
        ner_by_patient=patients,
        re_by_patient=patients,
        re_gold_heads_by_patient=patients,
    )


def scored(scenario: str, seed: int) -> dict[str, dict[str, SiteScores]]:
    """Scores for everything that a scenario asks: later systems are better, seeds differ a little."""
    plan = SCENARIOS[scenario].plan(layout())
    assert not isinstance(plan, str)
    better = {"zero_shot": 0, "from_scratch:10": 1, "from_scratch:25": 2, "centralised": 8}
    return {
        name: {site: scores(better.get(name, 4 if ":" in name else 6) + seed) for site in by_site}
        for name, by_site in plan.items()
    }


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    found = {
        name: scenario.table([scored(name, seed) for seed in (0, 1)], layout())
        for name, scenario in SCENARIOS.items()
    }
    return {
        "command": "bench ie",
        "repeat": {"command": "fedmedlora bench ie --clinic"},
        "versions": {"python": "3.11", "torch": "2"},
        "seeds": [1, 2],
        "model": {"name": "m", "kind": "causal", "parameters": 1000, "adapter_parameters": 10},
        "data": {"cohort": "clinic", "sites": dict.fromkeys(SITES)},
        "settings": {"training": {"rounds": 2, "local_epochs": 1}},
        "cost": {"jobs": 7, "cpu_hours": 0.5},
        **found.pop("main"),
        **found,
    }


def test_every_scenario_plans_what_it_shows(result: dict[str, Any]) -> None:
    assert list(result["systems"]) == ["zero_shot", "single_site", "federated", "centralised"]
    assert list(result["strategies"]) == list(STRATEGIES)
    assert list(result["new_site"]["curve"]) == ["10", "25"]
    assert list(result["sites"]) == ["3", "10"]
    assert SCENARIOS["sites"].plan(layout("corpora")) == "only the synthetic clinic has more sites"
    assert set(result["uneven"]["minus_size_weights"]) == {"fedmedlora+", "types"}
    assert result["uneven"]["type_minus_loss_weights"]["ner"]["low"] <= 0
    causal = replace(layout(), kind="causal")
    for scenario in ("strategies", "uneven"):
        plan = SCENARIOS[scenario].plan(causal)
        assert "types" not in plan, "a causal model has no rows by label type"
        assert "fedmedlora+" in plan


def test_new_site_starts_from_the_federation_that_main_trained() -> None:
    main, new = SCENARIOS["main"].plan(layout()), SCENARIOS["new_site"].plan(layout())
    assert not isinstance(main, str)
    assert not isinstance(new, str)
    federated = main["federated"]["north"].adapter
    fitted, scratch = new["adapted:10"]["east"].adapter, new["from_scratch:10"]["east"].adapter
    assert isinstance(fitted, Training)
    assert isinstance(scratch, Training)
    assert fitted.start == federated == new["federated"]["east"].adapter
    assert scratch.start is None


def test_hospitals_share_the_same_training_and_a_round_keeps_its_steps() -> None:
    plan = SCENARIOS["sites"].plan(layout())
    assert not isinstance(plan, str)
    for count, epochs in ((3, 1), (10, 3)):
        jobs = {way: next(iter(plan[f"{way}:{count}"].values())) for way in ("federated", "centralised")}
        setting = jobs["federated"].setting
        assert setting == jobs["centralised"].setting, "both pass over every note as often"
        assert setting.limits.train == OPTIONS.spread_sentences // count
        prepared = clinic_cohort(seed=1, site_count=count, sentences=setting.sentences)
        for notes in prepared.sites.values():
            splits = split_cohort(notes, seed=1, limits=setting.limits)
            sizes = [sum(len(split_sentences(n.text)) for n in part) for part in (splits.train, splits.test)]
            assert sizes == [setting.limits.train, setting.limits.test], "no test is taken from the training"
        assert json.loads(setting.profile)["training"]["local_epochs"] == epochs


def test_means_spreads_and_differences_are_those_of_the_scores(result: dict[str, Any]) -> None:
    def f1(right: int) -> float:
        return scores(right).ner.strict.f1

    federated, zero = result["systems"]["federated"]["ner"], result["systems"]["zero_shot"]["ner"]
    assert federated["strict_f1"] == pytest.approx((f1(6) + f1(7)) / 2)
    assert zero["strict_f1"] == pytest.approx((f1(0) + f1(1)) / 2)
    assert federated["strict_f1_sd"] == pytest.approx(abs(f1(7) - f1(6)) / 2**0.5)
    found = result["federated_minus"]["zero_shot"]["ner"]
    assert found["strict_f1_difference"] == pytest.approx(federated["strict_f1"] - zero["strict_f1"])
    assert found["low"] <= found["strict_f1_difference"] <= found["high"]
    assert points(federated) == f"{100 * federated['strict_f1']:.1f} ± {100 * federated['strict_f1_sd']:.1f}"
    gain = 100 * ((f1(6) + f1(7)) - (f1(4) + f1(5))) / 2
    assert difference(result["federated_minus"]["single_site"], "ner").startswith(f"{gain:+.1f} (")
    own = result["systems"]["single_site"]["own_site"]
    assert own["south"] == result["systems"]["single_site"]["adapters"]["south"]["by_site"]["south"]


def test_report_shows_every_part_and_leaves_out_what_is_not_there(result: dict[str, Any]) -> None:
    titles = [rows.title for rows in sections(result)]
    assert any("External" in title for title in titles)
    assert len(titles) == len(set(titles)) == 12
    section = section_of("ie-clinic", result)
    assert [plot.name for plot in section.plots] == [
        "ie-clinic-systems",
        "ie-clinic-external",
        "ie-clinic-new-site",
    ]
    assert all(plot.render("svg").startswith(b"<?xml") for plot in section.plots)
    less = {k: v for k, v in result.items() if k not in SCENARIOS} | {"sites": {"skipped": "no"}}
    assert [rows.title for rows in sections(less)] == titles[:3]
    assert len(section_of("ie", less).plots) == 1
    assert "7 jobs, 0.50 CPU-hours" in conditions(result)


def test_a_shorter_run_is_told_beside_the_longer_one(result: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "ie-clinic-15-rounds.json").write_text(json.dumps(result))
    page, rounds = results_page.render(tmp_path), result["settings"]["training"]["rounds"]
    told = next(line for line in page.splitlines() if line.startswith("How the federation stands"))
    assert f"After {rounds} rounds" in told and "; 10 hospitals +0.0 (" in told
    assert "`docs/results/ie-clinic-15-rounds.json`" in told
    (tmp_path / "ie-clinic-15-rounds.json").unlink()
    assert "How the federation stands" not in results_page.render(tmp_path)


def test_page_has_the_files_figures_and_names_the_gaps(result: dict[str, Any], tmp_path: Path) -> None:
    folder, page = tmp_path / "results", tmp_path / "RESULTS.md"
    folder.mkdir()
    (folder / "ie-clinic.json").write_text(json.dumps(result))
    arguments = ["--page", str(page), "--results", str(folder)]
    assert results_page.main([*arguments, "--check"]) == 1
    assert results_page.main(arguments) == 0
    assert results_page.main([*arguments, "--check"]) == 0
    text = page.read_text()
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in text.splitlines()}
    assert rows["10 sites against centralised"][2] == "not measured"
    assert rows["10 sites against centralised"][3].startswith("entities +0.0 (")
    assert "with 25 notes" in rows["new site, few labels"][3]
    assert rows["BERT to federated LLM, relations"][2].startswith("not measured")
    assert "there is no `docs/results/ie-corpora.json`" in text
    (folder / "ie-sites.json").write_text(json.dumps({**result, "seeds": [7]}))
    del result["sites"]
    (folder / "ie-clinic.json").write_text(json.dumps(result))
    assert results_page.main([*arguments, "--check"]) == 1, "another file, another page"
    results_page.main(arguments)
    text = page.read_text()
    assert "| 10 sites against centralised | about -2 % | not measured | entities +0.0" in text
    assert text.count("### As many training sentences over more sites") == 1, (
        "a scenario from a run of its own"
    )
    assert "seed 7; 7 jobs" in text
    assert text.count("### External cohorts, which") == 1, "and nothing else of that run"
    (folder / "ie-sites.json").unlink()
    results_page.main(arguments)
    assert "| 10 sites against centralised | about -2 % | not measured | not measured |" in page.read_text()


def test_bytes_and_memory_come_from_the_file_of_costs(tmp_path: Path) -> None:
    def row(name: str, up: float, memory: float) -> dict[str, Any]:
        saved = {"up_reduction": up, "down_reduction": 0.99, "down_with_check_reduction": up - 0.02}
        computed = {"training_bytes": memory * 1e9, "inference_bytes_one": memory * 5e8}
        return {"profile": name, "communication": saved, "computed": computed}

    page = results_page.render(tmp_path)
    assert "| communication against full-model updates | -98.5 % | not measured |" in page
    rows = [row("tiny", 0.1, 0.2), row("llama-3.2-1b", 0.993, 6.0), row("qwen3-4b", 0.985, 9.0)]
    (tmp_path / "cost.json").write_text(json.dumps({"profiles": rows}))
    page = results_page.render(tmp_path)
    assert "-98.5 % at least, up and down apart, for 2 profiles" in page, "the demo's model is exempt"
    assert "to check the sum -96.5 %" in page
    assert "llama-3.2-1b 6.0 GB to train, 3.0 GB to read one note" in page
    (tmp_path / "cost.json").write_text(json.dumps({"profiles": []}))
    page = results_page.render(tmp_path)
    assert "| communication against full-model updates | -98.5 % | not measured |" in page
    assert "| memory | 8B on one 16-24 GB GPU; 1B on a mid-range GPU | not measured |" in page
