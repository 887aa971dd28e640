"""The grid behind `bench ie`: keys, resuming, parallel jobs, and what a damaged work folder gives."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_bench.cohort_folder import folder_cohort, folder_names
from fedmedlora_bench.cohorts import SizeLimits, annotated_types
from fedmedlora_bench.federation import federate
from fedmedlora_bench.grid import with_needs, workers_for
from fedmedlora_bench.ie import IeOptions, run_ie
from fedmedlora_bench.ie.jobs import Scoring, Training
from fedmedlora_bench.ie.setting import Setting, profile_text
from fedmedlora_bench.ie.strategies import REFERENCE, STRATEGIES
from fedmedlora_bench.score_tables import scores_from_table, scores_to_table
from fedmedlora_bench.systems import TASKS, SiteScores, train_alone
from fedmedlora_bench.uneven import withhold_types
from fedmedlora_core.errors import ConfigError, DataError, NonFiniteError
from fedmedlora_core.profile import Profile
from fedmedlora_core.records import write_notes
from fedmedlora_core.scores import Counts, MatchScore, Scores
from fedmedlora_core.splits import Splits
from fedmedlora_core.study import Study
from fedmedlora_testkit.models import make_notes, write_encoder

TINY = IeOptions(
    rounds=1, limits=SizeLimits(train=4, validation=2, test=1), site_count=3, sentences=60, few_notes=(4,)
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def setting() -> Setting:
    return Setting(
        cohort="clinic",
        data="",
        data_digest="",
        base="models/one",
        base_digest="ab" * 32,
        profile=profile_text(Profile.load("encoder")),
        seed=1,
        limits=SizeLimits(train=4),
        site_count=3,
        sentences=60,
    )


def test_key_holds_what_decides_and_nothing_else() -> None:
    plain = setting()
    first = Training(plain, "federated")
    assert Training(replace(plain, base="elsewhere/one"), "federated").key == first.key
    others = [
        Training(replace(plain, seed=2), "federated"),
        Training(replace(plain, base_digest="cd" * 32), "federated"),
        Training(replace(plain, data_digest="cd" * 32), "federated"),
        Training(replace(plain, limits=SizeLimits(train=5)), "federated"),
        Training(replace(plain, uneven=True), "federated"),
        Training(plain.with_profile(training__rounds=9), "federated"),
        Training(plain, "centralised"),
        Training(plain, "federated", choose_round=False),
        Training(plain, "few", site="a", notes=5),
        Training(plain, "few", site="a", notes=5, start=first),
        Training(plain, "few", site="a", notes=5, start=replace(first, choose_round=False)),
    ]
    assert len({job.key for job in [first, *others]}) == len(others) + 1
    scorings = [Scoring(plain, first, "a"), Scoring(plain, first, "b"), Scoring(plain, None, "a")]
    assert len({job.key for job in scorings}) == 3


def test_every_strategy_is_a_study_of_its_own() -> None:
    plain = setting()
    keys = {
        name: Training(plain.with_profile(**changes), "federated").key for name, changes in STRATEGIES.items()
    }
    assert len(set(keys.values())) == len(STRATEGIES)
    assert keys[REFERENCE] == Training(plain, "federated").key, "the profile's own rule is the reference"


def test_needs_come_first_and_once() -> None:
    trained = Training(setting(), "federated")
    fitted = Training(setting(), "few", site="x", notes=5, start=trained)
    jobs = [Scoring(setting(), fitted, "x"), Scoring(setting(), trained, "x"), Scoring(setting(), None, "x")]
    assert list(with_needs(jobs)) == [trained.key, fitted.key, *(job.key for job in jobs)]


def test_killed_run_goes_on_where_it_was(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, real = tmp_path / "work", train_alone
    calls: list[str] = []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(named["name"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr("fedmedlora_bench.ie.running.train_alone", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_ie(base=encoder, options=TINY, work=work, show_progress=False)
    finished = {path.parent.name: path.stat().st_mtime_ns for path in work.glob("*/result.json")}
    assert not [path for path in work.iterdir() if path.name.startswith(".")], "a draft was left"
    result = run_ie(base=encoder, options=TINY, work=work, show_progress=False)
    assert len(calls) == 3 + 2, "of four systems trained alone two were finished"
    after = {path.parent.name: path.stat().st_mtime_ns for path in work.glob("*/result.json")}
    assert all(after[name] == written for name, written in finished.items())
    whole = run_ie(base=encoder, options=TINY, show_progress=False)
    assert whole["systems"] == result["systems"]
    assert whole["federated_minus"] == result["federated_minus"]


def test_strategy_that_diverges_is_named_and_costs_nothing_else(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(study: Study, *arguments: Any, **named: Any) -> Any:
        if study.aggregation.rule == "fedmedlora+":
            raise NonFiniteError("the training loss of step 3 is not finite")
        return federate(study, *arguments, **named)

    monkeypatch.setattr("fedmedlora_bench.ie.running.federate", diverging)
    result = run_ie(base=encoder, options=TINY, scenarios=["strategies"], work=tmp_path, show_progress=False)
    assert "fedmedlora" in result["strategies"]
    failed = result["strategies"]["failed"]
    assert failed["fedmedlora+"] == "the training loss of step 3 is not finite"
    assert not set(failed) & (set(result["strategies"]) - {"failed"})

    def always(*arguments: Any, **named: Any) -> Any:
        raise NonFiniteError("the training loss of step 3 is not finite")

    monkeypatch.setattr("fedmedlora_bench.ie.running.federate", always)
    with pytest.raises(NonFiniteError, match=r"main, federated: the training loss of step 3"):
        run_ie(base=encoder, options=replace(TINY, rounds=2), show_progress=False)


def test_damaged_result_is_named(encoder: Path, tmp_path: Path) -> None:
    run_ie(base=encoder, options=TINY, work=tmp_path, show_progress=False)
    file = next(file for file in sorted(tmp_path.glob("*/result.json")) if "scores" in file.read_text())
    file.write_text("{")
    with pytest.raises(DataError, match=r"result\.json: is damaged; delete its folder and run again"):
        run_ie(base=encoder, options=TINY, work=tmp_path, show_progress=False)


@pytest.mark.slow
def test_processes_give_what_one_process_gives(encoder: Path) -> None:
    one = run_ie(base=encoder, options=TINY, scenarios=["new_site"], show_progress=False)
    two = run_ie(base=encoder, options=TINY, scenarios=["new_site"], jobs=2, show_progress=False)
    for key in ("systems", "federated_minus", "new_site", "by_seed"):
        assert two[key] == one[key]


def test_ray_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--ray needs the extra `ray`: pip install 'fedmedlora\[ray\]'"):
        workers_for(tmp_path, jobs=1, ray=True)


def test_scores_survive_their_file() -> None:
    def scores(first: int) -> Scores:
        strict = MatchScore({"drug": Counts(first, first + 1, first + 2)})
        return Scores(strict, strict + strict)

    numbers: Iterator[int] = iter(range(100))
    tasks = {task: scores(next(numbers)) for task in TASKS}
    patients = {
        f"{task}_by_patient": tuple(scores(next(numbers)) for _ in range(3))
        for task in ("ner", "re", "re_gold_heads")
    }
    fields: dict[str, Any] = {**tasks, **patients}
    made = SiteScores(**fields, malformed=3, asked=9)
    assert scores_from_table(json.loads(json.dumps(scores_to_table(made)))) == made


def test_types_are_withheld_as_far_as_the_study_allows() -> None:
    notes = tuple(make_notes(6))
    sites = {f"site-{i}": Splits(notes[:4], notes[4:5], notes[5:]) for i in range(4)}
    every = annotated_types(notes)
    for kind, least in (("token_classification", 3), ("causal", 2)):
        uneven = withhold_types(sites, kind)  # type: ignore[arg-type]
        holders = {
            name: [s for s, parts in uneven.items() if name in annotated_types(parts.train)] for name in every
        }
        assert {len(found) for found in holders.values()} == {least}
        assert len({tuple(found) for found in holders.values()}) > 1, "not always the same site"
        for parts in uneven.values():
            assert parts.test == notes[5:]
            assert annotated_types(parts.validation) == annotated_types(parts.train)
            gone = set(every) - set(annotated_types(parts.train))
            assert not gone & {entity.type for note in parts.train for entity in note.entities}


def cohort_folder(root: Path) -> Path:
    for place, name in enumerate(("north", "south", "west")):
        (root / "sites").mkdir(parents=True, exist_ok=True)
        write_notes(root / "sites" / f"{name}.jsonl", make_notes(8, first=20 * place))
    (root / "outside").mkdir()
    write_notes(root / "outside" / "east.jsonl", make_notes(10, first=80))
    return root


def test_own_cohorts_run_like_the_open_ones(encoder: Path, tmp_path: Path) -> None:
    data = cohort_folder(tmp_path / "cohorts")
    scenarios = ["external", "new_site", "sites"]
    result = run_ie(data=data, base=encoder, options=TINY, scenarios=scenarios, show_progress=False)
    assert list(result["data"]["sites"]) == ["north", "south", "west"]
    assert result["new_site"]["site"] == "east"
    assert set(result["external"]["systems"]["federated"]["by_site"]) == {"east"}
    assert result["sites"] == {"skipped": "only the synthetic clinic has more sites"}
    assert result["cost"]["cpu_hours"] > 0


def test_own_cohorts_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    data = cohort_folder(tmp_path / "cohorts")
    assert [len(notes) for notes in folder_cohort(data).sites.values()] == [8, 8, 8]
    (data / "outside" / "north.jsonl").write_bytes((data / "sites" / "north.jsonl").read_bytes())
    with pytest.raises(ConfigError, match="'north' is both a site and outside"):
        folder_names(data)
    (data / "sites" / "north.jsonl").rename(data / "sites" / "North.jsonl")
    with pytest.raises(ConfigError, match="small letters, digits and hyphens"):
        folder_names(data)
    (data / "sites" / "North.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"expected at least 3 files <site>\.jsonl, found 2"):
        folder_names(data)
