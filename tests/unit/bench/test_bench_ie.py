"""The extraction benchmark: cohorts, federation in one process, figures."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_bench.bench_study import kind_of, make_bench_study, shared_types
from fedmedlora_bench.cohorts import (
    SizeLimits,
    annotated_types,
    clinic_cohort,
    cut_notes,
    excerpt,
    split_cohort,
)
from fedmedlora_bench.corpora import corpora_cohort
from fedmedlora_bench.federation import federate, summed_validation
from fedmedlora_bench.figures import mean_over_seeds
from fedmedlora_bench.ie import IeOptions, run_ie
from fedmedlora_bench.ie.strategies import STRATEGIES
from fedmedlora_core.best_round import BestRound
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.site_round import learner_for
from fedmedlora_core.learning.validation import count_on_notes
from fedmedlora_core.profile import Profile
from fedmedlora_core.records import Note, validate_note
from fedmedlora_core.scores import Counts, MatchScore
from fedmedlora_core.sentences import split_sentences
from fedmedlora_core.splits import Splits
from fedmedlora_core.validation_counts import ValidationCounts
from fedmedlora_testkit.models import make_notes, write_causal, write_encoder

TINY = IeOptions(
    rounds=1,
    limits=SizeLimits(train=4, validation=2, test=1),
    site_count=3,
    sentences=60,
    few_notes=(5,),
    even_steps_notes=0,
    site_counts=(3, 4),
    spread_sentences=180,
)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def sites_of_three() -> dict[str, Splits]:
    parts = [make_notes(8, first=first) for first in (0, 20, 40)]
    return {
        f"site-{i}": Splits(tuple(notes[:5]), tuple(notes[5:6]), tuple(notes[6:]))
        for i, notes in enumerate(parts)
    }


def test_excerpt_keeps_what_lies_in_it() -> None:
    notes = clinic_cohort(seed=3, site_count=1, sentences=60).sites["cardiology"]
    for note in notes:
        part, count = excerpt(note, 2)
        assert count == len(split_sentences(part.text)) <= 2
        validate_note(part)
        assert [part.text_of(e) for e in part.entities] == [
            note.text_of(note.entity(e.id)) for e in part.entities
        ]


def test_cut_takes_the_asked_number_of_sentences() -> None:
    notes = clinic_cohort(seed=3, site_count=1, sentences=80).sites["cardiology"]
    cut = cut_notes(notes, 20, 3)
    counts = [len(split_sentences(note.text)) for note in cut]
    assert sum(counts) == 20
    assert max(counts) <= 3
    assert cut_notes(notes, None, None) == tuple(notes)


def test_clinic_keeps_a_hospital_outside() -> None:
    cohort = clinic_cohort(seed=3, site_count=3, sentences=40)
    assert len(cohort.sites) == 3
    assert len(cohort.outside) == 1
    assert not set(cohort.sites) & set(cohort.outside)


def test_encoder_study_leaves_out_types_of_too_few_sites() -> None:
    notes = make_notes(4)
    without_drugs = [note.restricted_to({"problem", "negation"}) for note in notes]
    sites: dict[str, list[Note]] = {"a": notes, "b": notes, "c": without_drugs, "d": without_drugs}
    assert annotated_types(without_drugs) == ("problem", "negation")
    assert shared_types(sites, "token_classification") == ("problem", "negation")
    assert shared_types(sites, "causal") == ("problem", "drug", "negation", "strength")


def test_masks_and_none_give_the_same_bytes(causal: Path) -> None:
    sites = sites_of_three()
    train = {name: splits.train for name, splits in sites.items()}
    vectors = []
    for mode in ("masks", "none"):
        profile = Profile.load("tiny").override(
            training__rounds=2, adapter__rank=4, secure_aggregation__mode=mode
        )
        made = make_bench_study(profile, train, causal, seed=5)
        adapter, rounds = federate(made.study, learner_for(made.study, causal), made.initial, sites)
        vectors.append((adapter.vector(), [r.weight_sum for r in rounds]))
        assert len(rounds) == 2
        assert rounds[0].update_norm > 0
    # The two studies differ in their digest, so in their rounding streams: equal up to the codec's bound.
    bound = 2 * 2 * made.study.codec().error_bound(weight_sum=vectors[0][1][0], m=3)
    assert vectors[0][1] == vectors[1][1]
    assert np.abs(vectors[0][0] - vectors[1][0]).max() <= max(bound, 1e-3)


def test_round_is_chosen_by_a_masked_sum_of_counts(encoder: Path) -> None:
    """A round's counts are the sum over sites, the same with and without masks, and the best is kept."""
    sites = sites_of_three()
    counts: dict[str, int] = {}
    for mode in ("masks", "none"):
        profile = Profile.load("encoder").override(
            training__rounds=2,
            training__local_epochs=12,
            training__learning_rate_micro=20_000,
            secure_aggregation__mode=mode,
        )
        made = make_bench_study(profile, {n: s.train for n, s in sites.items()}, encoder, seed=5)
        learner, best = learner_for(made.study, encoder), BestRound()
        adapter, rounds = federate(made.study, learner, made.initial, sites, best=best)
        assert best.history == [r.validation.f1 for r in rounds if r.validation is not None]
        assert best.f1 == max(best.history) > 0
        assert best.history[best.round - 1] == best.f1
        alone = [count_on_notes(learner, made.study, adapter, s.validation) for s in sites.values()]
        opened = summed_validation(made.study, learner, adapter, sites, 9)
        for task in ("entities", "relations"):
            summed = sum((getattr(one, task) for one in alone), MatchScore())
            found = {name: c for name, c in getattr(opened, task).per_type.items() if not c.is_empty}
            assert found == {name: c for name, c in summed.per_type.items() if not c.is_empty}
        counts[mode] = opened.entities.micro.tp
    assert counts["masks"] > 0
    assert counts["none"] > 0


def test_earlier_of_two_equal_rounds_is_kept(causal: Path) -> None:
    train = {name: splits.train for name, splits in sites_of_three().items()}
    profile = Profile.load("tiny").override(adapter__rank=4)
    first = make_bench_study(profile, train, causal, seed=5).initial
    second = first.with_vector(first.vector() + np.float32(1))
    best = BestRound()
    with pytest.raises(ValueError, match="no round was offered"):
        _ = best.adapter
    some = ValidationCounts(MatchScore({"drug": Counts(1, 1, 1)}), MatchScore())
    for number, adapter in enumerate((first, second), start=1):
        best.offer(number, adapter, some)
    assert (best.round, best.adapter.digest) == (1, first.digest)


def test_same_study_federates_to_the_same_bytes(causal: Path) -> None:
    sites = sites_of_three()
    profile = Profile.load("tiny").override(training__rounds=1, adapter__rank=4)
    made = make_bench_study(profile, {n: s.train for n, s in sites.items()}, causal, seed=5)
    learner = learner_for(made.study, causal)
    first, _ = federate(made.study, learner, made.initial, sites)
    second, _ = federate(made.study, learner, made.initial, sites)
    assert first.digest == second.digest  # the masks are fresh each time, the sum is not


def test_federated_average_is_the_weighted_mean_of_the_sites(causal: Path) -> None:
    """With one round and equal sizes the federation ends at the mean of the single sites."""
    from fedmedlora_bench.systems import train_alone

    sites = sites_of_three()
    profile = Profile.load("tiny").override(training__rounds=1, adapter__rank=4)
    made = make_bench_study(profile, {n: s.train for n, s in sites.items()}, causal, seed=5)
    learner = learner_for(made.study, causal)
    adapter, _ = federate(made.study, learner, made.initial, sites)
    singles = [
        train_alone(made.study, causal, made.initial, splits, name=name, learner=learner).vector()
        for name, splits in sites.items()
    ]
    assert np.abs(adapter.vector() - np.mean(singles, axis=0)).max() < 1e-4


@pytest.mark.parametrize("kind", [pytest.param("causal", marks=pytest.mark.slow), "token_classification"])
def test_run_writes_flat_json(causal: Path, encoder: Path, tmp_path: Path, kind: str) -> None:
    base = causal if kind == "causal" else encoder
    profile = "tiny" if kind == "causal" else "encoder"
    out = tmp_path / "ie.json"
    result = run_ie(base=base, options=TINY, out=out, profile=profile, show_progress=False)
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    assert list(result["systems"]) == ["zero_shot", "single_site", "federated", "centralised"]
    for system in result["systems"].values():
        for task in ("ner", "re", "re_gold_heads"):
            assert 0 <= system[task]["strict_f1"] <= system[task]["lenient_f1"] <= 1
    assert result["model"]["kind"] == kind
    others = {"zero_shot", "centralised", "single_site", *result["data"]["sites"]}
    assert set(result["federated_minus"]) == others
    assert set(result["systems"]["single_site"]["own_site"]) == set(result["data"]["sites"])
    federated = result["systems"]["federated"]["ner"]
    assert federated["macro_over_sites"]["strict_f1"] == federated["strict_f1"]
    assert set(result["data"]["sites"]) == set(result["systems"]["federated"]["by_site"])


def test_missing_corpora_and_models_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, causal: Path
) -> None:
    with pytest.raises(ConfigError, match="expected the corpora mtsamples, maccrobat2020, phee, chia"):
        corpora_cohort(tmp_path)
    monkeypatch.delenv("FEDMEDLORA_MODELS", raising=False)
    with pytest.raises(ConfigError, match="name a base model with --base"):
        run_ie(data=tmp_path, show_progress=False)
    with pytest.raises(ConfigError, match="there is no scenario 'nothing'"):
        run_ie(base=causal, scenarios=["nothing"], show_progress=False)
    with pytest.raises(ConfigError, match="is not a folder with a base model"):
        kind_of(tmp_path)


def test_splits_share_no_patient() -> None:
    notes = clinic_cohort(seed=3, site_count=1, sentences=120).sites["cardiology"]
    shuffled = list(notes)
    random.Random(0).shuffle(shuffled)  # noqa: S311 - an order, no secret
    splits = split_cohort(shuffled, seed=1, limits=SizeLimits(train=40))
    parts = [{note.patient_key for note in part} for part in (splits.train, splits.validation, splits.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert splits == split_cohort(notes, seed=1, limits=SizeLimits(train=40))


def test_means_and_spreads_over_seeds() -> None:
    runs = [
        {"a": {"strict_f1": 0.2, "n": 1}, "s": "x"},
        {"a": {"strict_f1": 0.4, "n": 3, "new": 1.0}, "s": "x"},
    ]
    found = mean_over_seeds(runs)
    assert found["a"]["strict_f1"] == pytest.approx(0.3)
    assert found["a"]["strict_f1_sd"] == pytest.approx(0.1414, abs=1e-3)
    assert (found["a"]["n"], found["a"]["new"], found["s"]) == (2, 1.0, "x")
    assert "strict_f1_sd" not in mean_over_seeds(runs[:1])["a"]


def test_other_scenarios_stand_under_their_names(encoder: Path, tmp_path: Path) -> None:
    scenarios = ["external", "new_site", "strategies", "uneven"]
    result = run_ie(base=encoder, options=TINY, scenarios=scenarios, work=tmp_path, show_progress=False)
    outside = set(result["external"]["systems"]["federated"]["by_site"])
    assert len(outside) == 1
    assert not outside & set(result["data"]["sites"])
    assert set(result["new_site"]["curve"]) == {"5"}
    assert set(result["new_site"]["curve"]["5"]["adapted"]["by_site"]) == outside
    assert list(result["strategies"]) == list(STRATEGIES)
    assert "minus_fedmedlora" not in result["strategies"]["fedmedlora"]
    assert set(result["strategies"]["fedmedlora+"]["minus_fedmedlora"]) <= {"ner", "re", "re_gold_heads"}
    rules = {"fedmedlora+", "types"}
    assert set(result["uneven"]["systems"]) == {"single_site", "federated", "evenly_annotated"} | rules
    again = run_ie(base=encoder, options=TINY, scenarios=scenarios, work=tmp_path, show_progress=False)
    for key in result.keys() - {"seconds"}:  # read from the finished jobs: their processor time is the same
        assert again[key] == result[key], key


@pytest.mark.slow
def test_federation_grows_over_hospitals(encoder: Path) -> None:
    result = run_ie(base=encoder, options=TINY, scenarios=["sites"], show_progress=False)
    assert {count: len(found["federated"]["by_site"]) for count, found in result["sites"].items()} == {
        "3": 3,
        "4": 4,
    }
