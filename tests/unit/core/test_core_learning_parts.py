"""Training a half of an adapter in a round, and training what stays at a site."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import half_of, halves_of, moved, runs_of, with_personal
from fedmedlora_core.codec import FloatVector
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import LoraTerms
from fedmedlora_core.learning.site_round import LocalUpdate, first_adapter, learner_for, train_round
from fedmedlora_core.study import Study
from fedmedlora_testkit.models import make_notes, write_causal
from fedmedlora_testkit.studies import changed, make_study

NOTES = make_notes(8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal"))


def made(folder: Path, mode: Any) -> tuple[Study, Adapter, Learner]:
    labels = label_set(["problem", "drug"], ["negation", "strength"])
    terms = LoraTerms(4, 8, ("q_proj", "v_proj"), mode)
    initial, digest = first_adapter(
        folder, kind="causal", terms=terms, labels=labels, seed=7, base_name="tiny"
    )
    study = make_study(
        initial_digest=initial.digest,
        dimension=initial.dimension,
        halves=halves_of(initial, mode),
        overrides={
            "adapter__mode": mode,
            "adapter__rank": 4,
            "adapter__alpha": 8,
            "adapter__targets": ["q_proj", "v_proj"],
            "labels__entities": ["problem", "drug"],
            "labels__modifiers": ["negation", "strength"],
        },
    )
    study = changed(study, "model", digest=digest)
    return study, initial, learner_for(study, folder)


def trained(study: Study, learner: Learner, adapter: Adapter, number: int, **more: Any) -> LocalUpdate:
    return train_round(
        learner,
        study,
        adapter,
        train=NOTES,
        validation=NOTES,
        round_number=number,
        seed=number,
        **more,
    )


def test_alternating_rounds_train_one_half_each_and_send_only_it(folder: Path) -> None:
    # R4.10.1
    study, adapter, learner = made(folder, "alternating")
    for number, half in ((1, ".lora_B."), (2, ".lora_A."), (3, ".lora_B.")):
        update = trained(study, learner, adapter, number)
        assert update.delta.shape == (study.update_dimension(number),)
        after = moved(adapter, update.delta, runs_of(adapter, half_of("alternating", number)))
        for name in adapter.tensors:
            assert np.array_equal(after.tensors[name], adapter.tensors[name]) is (half not in name)
        adapter = after


def own_tensors(tensors: Mapping[str, Any]) -> FloatVector:
    found: FloatVector = np.concatenate([tensors[n].ravel() for n in sorted(tensors) if ".lora_B." in n])
    return found


def test_mode_sa_trains_both_shares_a_and_goes_on_with_its_own_b(folder: Path) -> None:
    # R4.11.1
    study, adapter, learner = made(folder, "sa")
    assert all(".lora_A." in name for name in adapter.trainable)
    first = trained(study, learner, adapter, 1)
    assert first.personal is not None
    assert first.delta.shape == (adapter.dimension,)
    assert np.any(first.personal)
    assert not np.any(own_tensors(adapter.tensors)), "B of the study's adapter stays as it began"
    again = adapter.with_vector((adapter.vector() + first.delta).astype(np.float32))
    second = trained(study, learner, again, 2, personal=first.personal)
    fresh = trained(study, learner, again, 2)
    assert second.personal is not None
    assert fresh.personal is not None
    assert not np.array_equal(second.personal, fresh.personal), "what the site had was not gone on from"
    repeated = trained(study, learner, again, 2, personal=first.personal)
    assert repeated.delta.tobytes() == second.delta.tobytes()
    assert repeated.personal is not None
    assert repeated.personal.tobytes() == second.personal.tobytes()
    assert np.array_equal(own_tensors(with_personal(again, second.personal).tensors), second.personal)


@pytest.mark.parametrize("mode", ["ffa", "ab", "alternating"])
def test_other_modes_leave_nothing_to_a_site(folder: Path, mode: str) -> None:
    study, adapter, learner = made(folder, mode)
    assert trained(study, learner, adapter, 1).personal is None
