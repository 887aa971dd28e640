"""FedProx: the proximal term holds local training to the adapter that the round began with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_core.codec import FloatVector
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.lora import LoraTerms, load_vector, read_vector
from fedmedlora_core.learning.site_round import make_learner
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import train_local
from fedmedlora_testkit.models import make_notes, write_causal
from fedmedlora_testkit.studies import changed, make_study

LABELS = label_set(["problem", "drug"], ["negation", "strength"])
TERMS = TrainTerms(local_epochs=4, batch_size=4, learning_rate=5e-3, gradient_clip=1e9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal"))


def trained(folder: Path, terms: TrainTerms) -> tuple[FloatVector, FloatVector]:
    """(start, end) of one round; it starts away from zero, so that a pull to zero would be another result."""
    base = load_base(folder, kind="causal")
    learner = make_learner(base, LoraTerms(4, 8, ("q_proj", "v_proj"), "ab"), LABELS, seed=1, max_tokens=400)
    start = read_vector(learner.model)
    start = (start + np.random.default_rng(3).normal(0, 0.05, start.shape)).astype(np.float32)
    load_vector(learner.model, start)
    train_local(learner, learner.samples(make_notes(12), ["ner"]), terms, seed=5)
    return start, read_vector(learner.model)


def test_the_proximal_term_pulls_toward_the_base_of_the_round(folder: Path) -> None:
    # R4.8.1: the larger mu, the nearer to the base; without it nothing is pulled.
    lengths = []
    for mu in (0.0, 1.0, 100.0):
        start, end = trained(folder, replace(TERMS, proximal=mu))
        lengths.append(float(np.linalg.norm(end - start)))
    assert lengths[0] > 1.05 * lengths[1] > 1.1 * lengths[2] > 0


def test_the_first_step_is_the_same_with_and_without_the_term(folder: Path) -> None:
    """At the base the term's gradient is zero, so a round of one step cannot differ; of two it does."""
    one, two = replace(TERMS, max_steps=1), replace(TERMS, max_steps=2)
    assert np.array_equal(trained(folder, one)[1], trained(folder, replace(one, proximal=10.0))[1])
    assert not np.array_equal(trained(folder, two)[1], trained(folder, replace(two, proximal=10.0))[1])


def test_a_study_without_the_key_has_the_charter_it_always_had() -> None:
    plain, held = make_study(), make_study(overrides={"training__proximal_micro": 10_000})
    assert b"proximal" not in plain.canonical_json()
    assert changed(held, "training", proximal_micro=None).digest == plain.digest != held.digest
    assert TrainTerms.of(plain, 1).proximal == 0.0
    assert TrainTerms.of(held, 1).proximal == pytest.approx(0.01)
