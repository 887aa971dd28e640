"""Rates of a round: linear over the study, or a cosine with warm-up that starts anew in each round."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.study import Study
from fedmedlora_core.training_terms import TrainingTerms
from fedmedlora_testkit.studies import changed, make_study

COSINE = TrainTerms(
    local_epochs=2, batch_size=4, learning_rate=2e-4, rounds=3, schedule="cosine", warmup_fraction=0.05
)


def test_the_cosine_warms_up_in_a_twentieth_of_the_steps_and_falls_to_nothing() -> None:
    rates = [COSINE.rate(step, 200) for step in range(200)]
    assert rates[:10] == pytest.approx([2e-4 * (step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(2e-4)
    assert rates[105] == pytest.approx(1e-4)
    assert rates[-1] < 2e-8
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))


def test_the_cosine_starts_anew_in_each_round_and_the_line_does_not() -> None:
    later = TrainTerms(**{**vars(COSINE), "round": 3})
    assert [later.rate(s, 50) for s in range(50)] == [COSINE.rate(s, 50) for s in range(50)]
    line = TrainTerms(local_epochs=1, batch_size=4, learning_rate=1.0, rounds=3)
    last = TrainTerms(local_epochs=1, batch_size=4, learning_rate=1.0, round=3, rounds=3)
    assert line.rate(0, 10) == 1.0
    assert last.rate(0, 10) < line.rate(9, 10)


def test_a_study_says_all_of_it() -> None:
    study = changed(
        make_study(),
        "training",
        schedule="cosine",
        warmup_steps=0,
        warmup_percent=5,
        gradient_accumulation_steps=4,
        gradient_checkpointing=True,
    )
    terms = TrainTerms.of(study, 2)
    assert (terms.schedule, terms.warmup_fraction, terms.accumulation, terms.recompute, terms.round) == (
        "cosine",
        0.05,
        4,
        True,
        2,
    )
    assert terms.step_size == 4 * study.training.batch_size


def test_keys_that_are_left_out_do_not_reach_the_charter() -> None:
    study = make_study()
    text = study.canonical_json().decode()
    for key in TrainingTerms.model_fields:
        unset = getattr(study.training, key) is None
        assert (f'"{key}"' in text) == (not unset), key
    assert '"prompt"' not in text
    assert Study.from_canonical_json(study.canonical_json()).digest == study.digest


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"warmup_steps": 5, "warmup_percent": 5}, "keep one of them"),
        ({"quantisation": "nf4"}, 'needs compute_dtype = "bf16"'),
        ({"schedule": "step"}, "training.schedule"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        changed(make_study(), "training", **changes)
