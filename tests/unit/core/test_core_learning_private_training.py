"""Private training: the same bytes for the same key, also after a kill; what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import LoraTerms, read_vector
from fedmedlora_core.learning.private.training import train_private
from fedmedlora_core.learning.site_round import first_adapter, learner_for, train_round
from fedmedlora_core.learning.team import Team
from fedmedlora_core.learning.terms import AS_CHARTERED, Saving
from fedmedlora_core.records import Note
from fedmedlora_core.study import ModelTerms, Study
from fedmedlora_crypto.xof import Keystream
from fedmedlora_testkit.models import write_causal, write_encoder
from fedmedlora_testkit.private import KEY, TRAINING, notes_of_patients, private_terms, small_learner
from fedmedlora_testkit.studies import make_study


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "causal": write_causal(tmp_path_factory.mktemp("causal")),
        "encoder": write_encoder(tmp_path_factory.mktemp("encoder")),
    }


class Shelf:
    """Keeps the state after each step, in memory."""

    def __init__(self, state: bytes | None = None) -> None:
        self.state = state
        self.written: list[bytes] = []

    def read(self) -> bytes | None:
        return self.state

    def due(self) -> bool:
        return True

    def write(self, state: bytes) -> None:
        self.written.append(state)


def train(
    folder: Path,
    *,
    key: bytes = KEY,
    notes: list[Note] | None = None,
    shelf: Shelf | None = None,
    learner: Learner | None = None,
    charter: str = "one",
    saving: Saving = AS_CHARTERED,
    **values: Any,
) -> tuple[bytes, list[int]]:
    learner = learner or small_learner(folder, mode="ab")
    steps: list[int] = []
    train_private(
        learner,
        notes_of_patients(6) if notes is None else notes,
        ["ner", "re"],
        replace(TRAINING, saving=saving),
        private_terms(**values),
        noise=Keystream(key),
        on_step=lambda step, *_: steps.append(step),
        checkpoints=shelf,
        charter=charter,
    )
    return read_vector(learner.model).tobytes(), steps


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_one_key_gives_the_same_bytes_and_another_one_others(folders: dict[str, Path], kind: str) -> None:
    one, steps = train(folders[kind])
    again, _ = train(folders[kind], notes=notes_of_patients(6)[::-1])
    other, _ = train(folders[kind], key=bytes(32))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert one == again
    assert one != other


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_a_killed_training_ends_with_the_same_bytes(folders: dict[str, Path], kind: str) -> None:
    whole, steps = train(folders[kind])
    shelf = Shelf()
    assert train(folders[kind], shelf=shelf)[0] == whole
    assert len(shelf.written) == len(steps) - 1
    for taken in (1, 3, 5):
        found, left = train(folders[kind], shelf=Shelf(shelf.written[taken - 1]))
        assert left == steps[taken:]
        assert found == whole


def test_a_site_that_recomputes_since_ends_with_the_same_bytes(folders: dict[str, Path]) -> None:
    """R4.13.4: what helps against lack of memory in the middle of a round makes no second release of it."""
    shelf, saving = Shelf(), Saving(recompute=True)
    whole, steps = train(folders["causal"], shelf=shelf)
    found, left = train(folders["causal"], shelf=Shelf(shelf.written[2]), saving=saving)
    assert left == steps[3:]
    assert found == whole


def test_a_state_of_another_key_mechanism_study_or_notes_is_not_taken(folders: dict[str, Path]) -> None:
    shelf = Shelf()
    _, steps = train(folders["causal"], shelf=shelf)
    changes: list[dict[str, Any]] = [
        {"key": bytes(32)},
        {"noise_milli": 1001},
        {"charter": "two"},
        {"notes": notes_of_patients(5)},
    ]
    for change in changes:
        _, left = train(folders["causal"], shelf=Shelf(shelf.written[3]), **change)
        assert left == steps


def test_steps_without_anybody_are_taken_and_noisy(folders: dict[str, Path]) -> None:
    learner = small_learner(folders["causal"])
    before = read_vector(learner.model)
    _, steps = train(folders["causal"], learner=learner, sampling_micro=1, steps=3)
    assert steps == [1, 2, 3]
    assert np.count_nonzero(read_vector(learner.model) - before) > 0.99 * before.size


def test_a_note_without_patient_is_refused_by_patient_and_not_by_document(folders: dict[str, Path]) -> None:
    notes = [replace(note, patient_id=None) for note in notes_of_patients(2)]
    with pytest.raises(DataError, match="patient id"):
        train(folders["causal"], notes=notes)
    assert train(folders["causal"], notes=notes, unit="document")[1]


@pytest.fixture(scope="module")
def round_of(folders: dict[str, Path]) -> tuple[Study, Learner, Adapter]:
    plain = make_study()
    labels = label_set(plain.labels.entities, plain.labels.modifiers)
    shape = LoraTerms(plain.adapter.rank, plain.adapter.alpha, plain.adapter.targets, plain.adapter.mode)
    adapter, digest = first_adapter(
        folders["causal"], kind="causal", terms=shape, labels=labels, seed=7, base_name="random"
    )
    study = make_study(
        initial_digest=adapter.digest,
        dimension=adapter.dimension,
        overrides={"aggregation__size_exponent_milli": 0},
    )
    model = ModelTerms(kind="causal", name="random", digest=digest)
    table = study.model_copy(update={"model": model, "privacy": private_terms(steps=2)})
    study = Study.from_canonical_json(table.canonical_json())
    return study, learner_for(study, folders["causal"]), adapter


def test_a_rounds_figures_are_constants_under_privacy(round_of: tuple[Study, Learner, Adapter]) -> None:
    """R4.13.2: whatever the notes, only the update follows from them."""
    study, learner, adapter = round_of
    updates = [
        train_round(
            learner,
            study,
            adapter,
            train=notes_of_patients(patients),
            validation=(),
            round_number=1,
            seed=patients,
            noise=Keystream(KEY),
        )
        for patients in (3, 5)
    ]
    assert updates[0].delta.any()
    assert updates[0].delta.tobytes() != updates[1].delta.tobytes()
    told = [replace(update, delta=np.zeros(0, np.float32)) for update in updates]
    assert {(u.validation_loss, u.n_notes, u.steps, u.training_loss, u.left_out) for u in told} == {
        (0.0, 1, 2, 0.0, 0)
    }
    assert all(update.mentions == {} and update.personal is None for update in told)


def test_a_private_study_never_trains_without_noise_or_in_several_processes(
    round_of: tuple[Study, Learner, Adapter],
) -> None:
    study, learner, adapter = round_of

    class Two(Team):
        size = 2

    def run(**options: Any) -> None:
        notes = notes_of_patients(3)
        train_round(learner, study, adapter, train=notes, validation=notes, round_number=1, seed=1, **options)

    with pytest.raises(ConfigError, match="there is none"):
        run()
    with pytest.raises(ConfigError, match=r"set trainer\.processes to 1"):
        run(noise=Keystream(KEY), team=Two())


def test_nothing_to_train_on_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="no training example"):
        train(folders["causal"], notes=[])
