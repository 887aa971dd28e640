"""R4.13.8, the self-test: each planted fault is refused, a sound mechanism leaves no trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmedlora_core.errors import ConfigError, SelfTestError
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import read_vector
from fedmedlora_core.learning.private import gradients
from fedmedlora_core.learning.private.clipped_sum import GRID, ClippedSum
from fedmedlora_core.learning.private.draws import Draws
from fedmedlora_core.learning.private.gradients import RowGradients, row_gradients
from fedmedlora_core.learning.private.self_test import PublicWords, SelfTest
from fedmedlora_core.learning.private.training import train_private
from fedmedlora_core.learning.private.units import PrivateUnit, units_of
from fedmedlora_crypto.xof import Keystream
from fedmedlora_testkit.models import write_causal, write_encoder
from fedmedlora_testkit.private import KEY, TRAINING, notes_of_patients, private_terms, small_learner

KINDS = ["causal", "encoder"]
add, noised = ClippedSum.add, ClippedSum.noised


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "causal": write_causal(tmp_path_factory.mktemp("causal")),
        "encoder": write_encoder(tmp_path_factory.mktemp("encoder")),
    }


def train(learner: Learner, words: Any = None) -> None:
    train_private(
        learner,
        notes_of_patients(4),
        ["ner", "re"],
        TRAINING,
        private_terms(steps=2),
        noise=words or Keystream(KEY),
    )


@pytest.mark.parametrize("mode", ["ffa", "ab"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_mechanism_passes_and_leaves_no_trace(folders: dict[str, Path], kind: str, mode: Any) -> None:
    learner = small_learner(folders[kind], mode=mode)
    before = read_vector(learner.model).tobytes()
    units = units_of(learner, notes_of_patients(3), ["ner", "re"], unit="patient", terms=TRAINING)
    test = SelfTest(learner, units)
    with row_gradients(learner) as rows:
        test.run(rows, TRAINING, private_terms())
        assert all(parameter.grad is None for parameter in rows.parameters)
    assert read_vector(learner.model).tobytes() == before


def test_the_self_test_reads_no_word_of_the_trainings_keystream(folders: dict[str, Path]) -> None:
    """What it made from these words would be noise of the training, used twice."""

    class Words:
        def reader(self, start: int) -> Any:
            raise AssertionError("read")

    learner = small_learner(folders["causal"])
    seen = PublicWords().reader(0)(4)
    assert not (seen == Keystream(KEY).reader(0)(4)).all()
    with pytest.raises(AssertionError, match="read"):  # by the first step: the self-test has passed by then
        train(learner, Words())


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_adapters_are_refused(folders: dict[str, Path], kind: str) -> None:
    learner = small_learner(folders[kind])
    learner.model.requires_grad_(False)
    with pytest.raises(SelfTestError, match="nothing of the adapter trains"):
        train(learner)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_that_the_model_passes_by_are_refused(folders: dict[str, Path], kind: str) -> None:
    """As after a wrong order of wrapping: what trains is no part of what is computed."""
    learner = small_learner(folders[kind], targets=("q_proj",) if kind == "causal" else ("query",))
    learner.model.disable_adapter_layers()
    for name, parameter in learner.model.named_parameters():
        parameter.requires_grad_(".lora_B." in name)
    with pytest.raises((SelfTestError, ConfigError, RuntimeError)):
        train(learner)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_hooks_are_refused(
    folders: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = gradients._modules
    monkeypatch.setattr(gradients, "_modules", lambda model, folded: original(model, folded)[1:])
    with pytest.raises(ConfigError, match="sees no single rows"):
        train(small_learner(folders[kind]))


def test_rows_that_are_not_the_examples_own_are_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of the batch in each row's place, and rows that are too large by the size of the batch."""
    of = RowGradients.of

    def averaged(self: RowGradients, batch: Sequence[Any], weights: Any = None) -> list[torch.Tensor]:
        return [rows.mean(0, keepdim=True).expand_as(rows).clone() for rows in of(self, batch, weights)]

    def enlarged(self: RowGradients, batch: Sequence[Any], weights: Any = None) -> list[torch.Tensor]:
        return [rows * len(batch) for rows in of(self, batch, weights)]

    for wrong, reason in ((averaged, "do not differ"), (enlarged, "not the one of its example")):
        monkeypatch.setattr(RowGradients, "of", wrong)
        with pytest.raises(SelfTestError, match=reason):
            train(small_learner(folders["causal"]))


def clips_the_mean(self: ClippedSum, found: Sequence[torch.Tensor]) -> None:
    """Batch-mean clipping, as public code has it: the batch's sum is scaled, not its rows."""
    add(self, [rows.mean(0, keepdim=True) for rows in found])


def clips_nothing(self: ClippedSum, found: Sequence[torch.Tensor]) -> None:
    for total, rows in zip(self.sums, found, strict=True):
        total.add_((rows * GRID).round().sum(0))


def clips_each_parameter(self: ClippedSum, found: Sequence[torch.Tensor]) -> None:
    """Every parameter's rows by themselves: the whole is longer than C."""
    for place, rows in enumerate(found):
        alone = [rows if other == place else torch.zeros_like(part) for other, part in enumerate(found)]
        add(self, alone)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (clips_the_mean, "not the sum of its rows"),
        (clips_nothing, "longer than the clip"),
        (clips_each_parameter, "longer than the clip"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_clip_is_refused(
    folders: dict[str, Path], kind: str, wrong: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClippedSum, "add", wrong)
    with pytest.raises(SelfTestError, match=reason):
        train(small_learner(folders[kind]))


def off(self: ClippedSum, draws: Draws, multiplier: float, divisor: int) -> list[torch.Tensor]:
    return noised(self, draws, 0.0, divisor)


def divided_twice(self: ClippedSum, draws: Draws, multiplier: float, divisor: int) -> list[torch.Tensor]:
    """Noise whose size is already that of a mean, divided again."""
    return noised(self, draws, multiplier / divisor, divisor)


def smaller_with_rows(self: ClippedSum, draws: Draws, multiplier: float, divisor: int) -> list[torch.Tensor]:
    """Noise that is less where somebody is drawn."""
    drawn = any(bool(total.any()) for total in self.sums)
    return noised(self, draws, multiplier / (4 if drawn else 1), divisor)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (off, "noise of a step has another size"),
        (divided_twice, "noise of a step has another size"),
        (smaller_with_rows, "depends on who is in it"),
    ],
)
def test_wrong_noise_is_refused(
    folders: dict[str, Path], wrong: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClippedSum, "noised", wrong)
    with pytest.raises(SelfTestError, match=reason):
        train(small_learner(folders["causal"]))


def test_an_optimiser_that_steps_nowhere_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Still(torch.optim.AdamW):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            return None

    monkeypatch.setattr(torch.optim, "AdamW", Still)
    with pytest.raises(SelfTestError, match="leaves a part of the adapter as it was"):
        train(small_learner(folders["causal"]))


def test_an_adapter_that_changes_no_output_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SelfTest, "_said", lambda self: torch.zeros(2))
    with pytest.raises(SelfTestError, match="does not change what the model says"):
        train(small_learner(folders["causal"]))


def test_a_gradient_that_is_not_finite_is_refused(folders: dict[str, Path]) -> None:
    learner = small_learner(folders["causal"])
    with torch.no_grad():
        next(iter(learner.model.get_base_model().parameters()))[0] = float("nan")
    with pytest.raises(SelfTestError, match="no two different training examples with finite gradients"):
        train(learner)


def test_one_patient_without_a_finite_gradient_does_not_decide_whether_training_begins(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal stands in the log: it would tell of one patient, and no accountant charges it."""
    learner = small_learner(folders["causal"])
    units = units_of(learner, notes_of_patients(3), ["ner"], unit="patient", terms=TRAINING)
    bad, losses = units[0].samples[0].ids, Learner.row_losses

    def overflowing(self: Learner, batch: Sequence[Any]) -> torch.Tensor:
        factors = torch.tensor([float("inf") if sample.ids == bad else 1.0 for sample in batch])
        return losses(self, batch) * factors

    monkeypatch.setattr(Learner, "row_losses", overflowing)
    test = SelfTest(learner, units)
    with row_gradients(learner) as rows:
        test.run(rows, TRAINING, private_terms())


def test_one_example_is_too_few_to_try_it_on(folders: dict[str, Path]) -> None:
    learner = small_learner(folders["causal"])
    (sample, *_) = learner.samples(notes_of_patients(1), ["ner"])
    twice = [PrivateUnit(((1, (sample,)),)), PrivateUnit(((2, (sample, sample)),))]
    with pytest.raises(SelfTestError, match="no two different"):
        SelfTest(learner, twice)
