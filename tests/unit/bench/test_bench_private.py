"""A federation under differential privacy in one process: the sites' own code, with noise and constants."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_bench.bench_study import make_bench_study
from fedmedlora_bench.federation import federate, noise_of
from fedmedlora_bench.systems import split_sites, train_alone
from fedmedlora_core.best_round import BestRound
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.site_round import learner_for
from fedmedlora_core.profile import Profile
from fedmedlora_core.study import Study
from fedmedlora_testkit.models import write_encoder
from fedmedlora_testkit.private import notes_of_patients, private_terms

SITES = ("site-a", "site-b", "site-c", "site-d")


def test_a_private_federation_repeats_itself_and_its_weights_are_constants(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    profile = Profile.load("encoder").override(
        adapter__rank=4,
        adapter__targets=["query", "value"],
        training__rounds=2,
        training__max_tokens=128,
        aggregation__size_exponent_milli=0,
        aggregation__tau_milli=0,
    )
    notes = {site: notes_of_patients(6 + number) for number, site in enumerate(SITES)}
    made = make_bench_study(profile, notes, encoder, seed=3)
    privacy = private_terms(steps=3)
    study = Study.from_canonical_json(made.study.model_copy(update={"privacy": privacy}).canonical_json())
    sites = split_sites(study, notes)
    learner = learner_for(study, encoder)
    first, rounds = federate(study, learner, made.initial, sites)
    again, _ = federate(study, learner, made.initial, sites)
    assert first.digest == again.digest != made.initial.digest
    assert len({figures.weight_sum for figures in rounds}) == 1
    assert all(figures.clipped == 0 for figures in rounds)

    def alone(**options: object) -> str:
        options = {"noise_of": noise_of(study, "site-a"), **options}
        return train_alone(
            study,
            encoder,
            made.initial,
            sites["site-a"],
            name="site-a",
            learner=learner,
            **options,  # type: ignore[arg-type]
        ).digest

    assert alone() == alone() != first.digest
    with pytest.raises(ConfigError, match="takes its last round"):
        federate(study, learner, made.initial, sites, best=BestRound())
    with pytest.raises(ConfigError, match="takes its last round"):
        alone(best=BestRound())
