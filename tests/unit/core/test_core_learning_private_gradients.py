"""Gradients of single rows: those of a loop over the rows, for both kinds of model and every mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning import fusing
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import load_vector, read_vector, train_only
from fedmedlora_core.learning.private.clipped_sum import row_norms
from fedmedlora_core.learning.private.gradients import row_gradients
from fedmedlora_core.learning.private.loop import PrivateLoop
from fedmedlora_core.learning.private.self_test import PublicWords
from fedmedlora_core.strategy_terms import AdapterMode
from fedmedlora_testkit.models import make_notes, write_causal, write_encoder
from fedmedlora_testkit.private import TRAINING, private_terms, small_learner


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "causal": write_causal(tmp_path_factory.mktemp("causal")),
        "encoder": write_encoder(tmp_path_factory.mktemp("encoder")),
    }


def moved(learner: Learner) -> Learner:
    """The learner with an adapter that is not at its beginning: B is not zero, so A has gradients too."""
    size = read_vector(learner.model).size
    load_vector(learner.model, np.random.default_rng(1).normal(0, 0.05, size).astype(np.float32))
    return learner


@contextmanager
def half(learner: Learner, mode: str) -> Iterator[None]:
    with train_only(learner.model, {"A": "A", "B": "B"}.get(mode[-1])):  # type: ignore[arg-type]
        yield


def rows_one_by_one(learner: Learner, batch: list[object]) -> list[torch.Tensor]:
    """What each parameter's rows must be, without any hook."""
    trainable = [p for p in learner.model.parameters() if p.requires_grad]
    rows = [torch.autograd.grad(learner.row_losses([sample])[0], trainable) for sample in batch]
    return [torch.stack(parts) for parts in zip(*rows, strict=True)]


MODES = ["ffa", "ab", "alternating-A", "alternating-B"]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_rows_are_those_of_a_loop(
    folders: dict[str, Path],
    kind: str,
    mode: str,
    folded: bool,
    recompute: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not folded:
        monkeypatch.setattr(fusing, "_LARGEST", 0)
    name: AdapterMode = mode.partition("-")[0]  # type: ignore[assignment]
    learner = moved(small_learner(folders[kind], mode=name))
    batch = learner.samples(make_notes(4), ["ner", "re"])
    with half(learner, mode):
        wanted = rows_one_by_one(learner, batch)
        with row_gradients(learner, recompute=recompute) as rows:
            found = rows.of(batch)
            again = rows.of(batch[:2])
    assert len(found) == len(wanted) > 3
    for ours, theirs, few in zip(found, wanted, again, strict=True):
        largest = theirs.abs().max()  # the rows of an untrained encoder are small
        assert float(largest) > 0
        torch.testing.assert_close(ours / largest, theirs / largest, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(few / largest, theirs[:2] / largest, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_afterwards_nothing_is_left_of_the_hooks(folders: dict[str, Path], kind: str) -> None:
    learner = small_learner(folders[kind], mode="ab")
    batch = learner.samples(make_notes(2), ["ner"])
    with torch.no_grad():
        before = learner.row_losses(batch)
    with pytest.raises(RuntimeError, match="stop"), row_gradients(learner) as rows:
        rows.of(batch)
        raise RuntimeError("stop")
    for module in learner.model.modules():
        assert not module._forward_hooks and not module._backward_hooks
        assert "forward" not in vars(module)
        assert not module.training
    assert not any(hasattr(p, "grad_sample") or p.grad is not None for p in learner.model.parameters())
    with torch.no_grad():
        assert torch.equal(learner.row_losses(batch), before)


def test_a_loss_of_a_row_is_the_mean_over_its_own_answer(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        learner = small_learner(folder)
        batch = learner.samples(make_notes(3), ["ner", "re"])
        with torch.no_grad():
            losses = learner.row_losses(batch)
            for loss, sample in zip(losses, batch, strict=True):
                total, count = learner.loss([sample])
                assert float(loss) == pytest.approx(float(total) / count, rel=1e-4)


def test_a_module_that_gets_tokens_in_a_heap_is_refused(folders: dict[str, Path]) -> None:
    """As the experts of a mixture do: what looks like rows there is something else."""
    learner = small_learner(folders["causal"], mode="ab")
    base: Any = learner.model.get_base_model()
    block = base.model.layers[0].mlp
    inner = block.forward

    def heaped(hidden: torch.Tensor) -> Any:
        return inner(hidden.reshape(-1, hidden.shape[-1])).reshape(hidden.shape)

    block.forward = heaped
    batch = learner.samples(make_notes(3), ["ner"])
    with row_gradients(learner) as rows, pytest.raises(ConfigError, match="sees no single rows"):
        rows.of(batch)


def test_what_is_not_linear_is_refused(folders: dict[str, Path]) -> None:
    learner = small_learner(folders["causal"])
    base: Any = learner.model.get_base_model()
    base.model.norm.weight.requires_grad_(True)
    with pytest.raises(ConfigError, match="cannot train privately"), row_gradients(learner):
        pass


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_rows_under_a_base_model_in_half_precision_are_float32_and_near_the_loops(
    folders: dict[str, Path], kind: str
) -> None:
    """As large models are stored; the adapter is float32 there too, and no module is folded."""
    learner = moved(small_learner(folders[kind], mode="ab", dtype=torch.bfloat16))
    batch = learner.samples(make_notes(4), ["ner", "re"])
    wanted = rows_one_by_one(learner, batch)
    with row_gradients(learner) as rows:
        found = rows.of(batch)
    apart = [ours.float() - theirs.float() for ours, theirs in zip(found, wanted, strict=True)]
    assert float((row_norms(apart) / row_norms(wanted)).max()) < 0.1
    assert float(row_norms(apart).max()) > 0  # else nothing was in half precision


def test_whoever_is_added_moves_the_sum_by_the_clip_at_most_also_in_bfloat16(
    folders: dict[str, Path],
) -> None:
    # R4.13.1: in few bits a batch's padding and kernels round each row by what lies beside it
    learner = moved(small_learner(folders["causal"], dtype=torch.bfloat16))
    seen = {sample.ids: sample for sample in learner.samples(make_notes(24), ["ner", "re"])}
    batch = sorted(seen.values(), key=lambda sample: sample.length)
    terms, privacy = replace(TRAINING, batch_size=8), private_terms(clip_micro=1000)
    with row_gradients(learner) as rows:
        loop = PrivateLoop(rows, terms, privacy, PublicWords())
        whole, rest, own = (loop.summed(part).sums for part in (batch, batch[1:], batch[:1]))
    for all_rows, others, one in zip(whole, rest, own, strict=True):
        assert torch.equal(all_rows - others, one)
