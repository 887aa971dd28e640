"""A training that goes on from a kept state ends with the bytes of one that was never interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.checkpoint import job_digest, restore
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import LoraTerms, read_vector
from fedmedlora_core.learning.site_round import make_learner
from fedmedlora_core.learning.terms import Saving, TrainTerms
from fedmedlora_core.learning.train import TrainResult, train_local
from fedmedlora_core.strategy_terms import AdapterMode
from fedmedlora_testkit.models import make_notes, write_causal

LABELS = label_set(["problem", "drug"], ["negation", "strength"])
TERMS = TrainTerms(
    local_epochs=3, batch_size=4, learning_rate=5e-3, warmup_steps=2, relation_cap=0.7, accumulation=2
)


class Shelf:
    """Keeps the state after each of some steps, in memory."""

    def __init__(self, state: bytes | None = None) -> None:
        self.state = state
        self.written: list[bytes] = []

    def read(self) -> bytes | None:
        return self.state

    def due(self) -> bool:
        return True

    def write(self, state: bytes) -> None:
        self.written.append(state)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal"))


def make(folder: Path, *, mode: AdapterMode = "ab", drawn: int = 1, spare: bool = False) -> Learner:
    """Load the model; `spare` adds a layer to it that no step uses."""
    adapter = LoraTerms(rank=4, alpha=8, targets=("all-linear",), mode=mode)
    base = load_base(folder, kind="causal")
    if spare:
        base.model.spare = torch.nn.Linear(8, 8).requires_grad_(False)
    return make_learner(base, adapter, LABELS, seed=drawn, max_tokens=256)


def run(
    folder: Path,
    shelf: Shelf | None,
    *,
    terms: TrainTerms = TERMS,
    seed: int = 3,
    notes: int = 14,
    charter: str = "",
    learner: Learner | None = None,
) -> tuple[Learner, TrainResult, list[int]]:
    learner = learner or make(folder)
    steps: list[int] = []
    samples = learner.samples(make_notes(notes), ["ner", "re"])
    result = train_local(
        learner,
        samples,
        terms,
        seed=seed,
        on_step=lambda step, *_: steps.append(step),
        checkpoints=shelf,
        charter=charter,
    )
    return learner, result, steps


def test_every_state_leads_to_the_same_bytes(folder: Path) -> None:
    plain, result, steps = run(folder, None)
    shelf = Shelf()
    run(folder, shelf)
    assert len(shelf.written) == len(steps) - 1 > 5  # none after the last step: the update is there
    for taken in (1, len(steps) // 2, len(steps) - 1):
        learner, again, left = run(folder, Shelf(shelf.written[taken - 1]))
        assert left == steps[taken:]
        assert read_vector(learner.model).tobytes() == read_vector(plain.model).tobytes()
        assert again == result


def test_a_site_that_saves_memory_since_goes_on_from_its_state(folder: Path) -> None:
    """Recomputing changes no bit, fewer examples together change the last ones; neither is another job."""
    plain, result, steps = run(folder, None)
    shelf, taken = Shelf(), len(steps) // 2
    run(folder, shelf)
    state = shelf.written[taken - 1]
    for saving, same in ((Saving(recompute=True), True), (Saving(examples=1, recompute=True), False)):
        learner, again, left = run(folder, Shelf(state), terms=replace(TERMS, saving=saving))
        assert left == steps[taken:]
        found, whole = read_vector(learner.model), read_vector(plain.model)
        assert (found.tobytes() == whole.tobytes()) is same
        np.testing.assert_allclose(found, whole, atol=2e-3)
        assert again.loss == pytest.approx(result.loss, rel=1e-3)


def test_a_state_of_another_job_is_not_taken(folder: Path) -> None:
    shelf = Shelf()
    _, _, steps = run(folder, shelf)
    state = shelf.written[-1]
    other = TrainTerms(**{**vars(TERMS), "round": 2, "rounds": 2})
    assert run(folder, Shelf(state), seed=4)[2] == steps
    assert run(folder, Shelf(state), terms=other)[2] == steps
    assert run(folder, Shelf(state), notes=13)[2][0] == 1
    assert run(folder, Shelf(state))[2] == steps[-1:]


def test_a_state_of_another_study_is_not_taken(folder: Path) -> None:
    """Another base model or scale of the adapter is another study: nothing else here would tell."""
    terms = TrainTerms(local_epochs=1, batch_size=4, learning_rate=5e-3, max_steps=2)
    shelf = Shelf()
    run(folder, shelf, terms=terms, charter="one", notes=4)
    (state,) = shelf.written
    assert run(folder, Shelf(state), terms=terms, charter="one", notes=4)[2] == [2]
    assert run(folder, Shelf(state), terms=terms, charter="two", notes=4)[2] == [1, 2]


def test_a_state_beside_another_frozen_half_is_not_taken(folder: Path) -> None:
    """What trains is zero under both; what is frozen differs."""
    terms = TrainTerms(local_epochs=1, batch_size=4, learning_rate=5e-3, max_steps=2)
    shelf = Shelf()
    run(folder, shelf, terms=terms, notes=4, learner=make(folder, mode="ffa"))
    (state,) = shelf.written
    for drawn, left in ((1, [2]), (2, [1, 2])):
        learner = make(folder, mode="ffa", drawn=drawn)
        assert run(folder, Shelf(state), terms=terms, notes=4, learner=learner)[2] == left


def test_a_layer_that_no_step_uses_has_its_place_in_a_state(folder: Path) -> None:
    terms = TrainTerms(local_epochs=1, batch_size=4, learning_rate=5e-3, weight_decay=0.1, max_steps=3)
    shelf = Shelf()
    whole, _, _ = run(folder, shelf, terms=terms, notes=4, learner=make(folder, spare=True))
    again, _, left = run(
        folder, Shelf(shelf.written[0]), terms=terms, notes=4, learner=make(folder, spare=True)
    )
    assert left == [2, 3]
    assert read_vector(again.model).tobytes() == read_vector(whole.model).tobytes()


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 64, None])
def test_a_damaged_state_changes_nothing(folder: Path, damage: bytes | None) -> None:
    shelf = Shelf()
    learner, _, steps = run(folder, shelf)
    state = shelf.written[0][:-9] if damage is None else damage
    parameters = [p for p in learner.model.parameters() if p.requires_grad]
    before = read_vector(learner.model).tobytes()
    assert restore(state, b"", parameters, torch.optim.AdamW(parameters)) is None
    assert read_vector(learner.model).tobytes() == before
    assert run(folder, Shelf(state))[2] == steps


def test_the_job_digest_separates_its_parts() -> None:
    assert job_digest(["ab", "c"]) != job_digest(["a", "bc"])
    assert job_digest([1, b"x"]) == job_digest([1, b"x"])
