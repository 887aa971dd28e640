"""One product instead of three: the same function, only where it fits, and gone afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import Linear

from fedmedlora_core.labels import label_set
from fedmedlora_core.learning import fusing, train
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.fusing import fused
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.lora import LoraTerms, attach, load_vector, read_vector
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import train_local
from fedmedlora_testkit.models import make_notes, write_causal

LABELS = label_set(["problem", "drug"], ["negation", "strength"])
TARGETS = ("all-linear",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal"))


def learner(folder: Path, rank: int, mode: Any = "ffa") -> GenerativeLearner:
    base = load_base(folder, kind="causal")
    model = attach(base, LoraTerms(rank, 2 * rank, TARGETS, mode), seed=1)
    return GenerativeLearner(model, base.tokenizer, LABELS, max_tokens=400)


def replaced(model: torch.nn.Module) -> int:
    return sum("forward" in vars(module) for module in model.modules() if isinstance(module, Linear))


@pytest.mark.parametrize("mode", ["ffa", "ab"])
@pytest.mark.parametrize("rank", [1, 4, 32])
def test_loss_and_gradients_are_the_same_to_rounding(folder: Path, rank: int, mode: str) -> None:
    made = learner(folder, rank, mode)
    generator = np.random.default_rng(1)
    size = read_vector(made.model).size
    load_vector(made.model, generator.normal(0, 0.05, size).astype(np.float32))
    batch = made.samples(make_notes(4), ["ner", "re"])
    trainable = [p for p in made.model.parameters() if p.requires_grad]
    plain, _ = made.loss(batch)
    wanted = torch.autograd.grad(plain, trainable)
    with fused(made.model):
        assert replaced(made.model) > 0
        found, _ = made.loss(batch)
        gradients = torch.autograd.grad(found, trainable)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_modules_are_as_before_afterwards_also_after_an_error(folder: Path) -> None:
    made = learner(folder, 32)
    with pytest.raises(RuntimeError, match="stop"), fused(made.model):
        assert replaced(made.model) > 0
        raise RuntimeError("stop")
    assert replaced(made.model) == 0


def test_the_gradient_of_a_folded_module_is_the_numerical_one(folder: Path) -> None:
    """In float64, against finite differences: nothing that autograd derives is taken for granted."""
    made = learner(folder, 4, "ab")
    module: Any = next(m for m in made.model.modules() if isinstance(m, Linear)).double()
    weight = module.base_layer.weight.detach()
    down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
    inputs = torch.randn(2, 3, weight.shape[1], dtype=torch.float64)
    values = [t.detach().clone().requires_grad_() for t in (inputs, down, torch.randn_like(up) / 10)]

    def folded(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> Any:
        return fusing._Folded.apply(x, weight, None, a, b, 2.0)  # type: ignore[no-untyped-call]

    assert torch.autograd.gradcheck(folded, values)


def test_a_weight_that_trains_itself_keeps_its_own_products(folder: Path) -> None:
    made = learner(folder, 4)
    for module in made.model.modules():
        if isinstance(module, Linear):
            module.base_layer.weight.requires_grad_(True)
    with fused(made.model):
        assert replaced(made.model) == 0


def test_a_large_weight_keeps_its_own_products(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = learner(folder, 4)
    monkeypatch.setattr(fusing, "_LARGEST", 1)
    with fused(made.model):
        assert replaced(made.model) == 0


def test_a_half_precision_base_keeps_its_three_products(folder: Path) -> None:
    base = load_base(folder, kind="causal", dtype=torch.bfloat16)
    model = attach(base, LoraTerms(32, 64, TARGETS, "ffa"), seed=1)
    with fused(model):
        assert replaced(model) == 0


def test_training_uses_it_and_gives_the_same_adapter_to_rounding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = learner(folder, 32)
    samples = made.samples(make_notes(6), ["ner", "re"])
    start = read_vector(made.model)
    terms = TrainTerms(local_epochs=1, batch_size=8, learning_rate=1e-3, max_steps=3)
    seen: list[int] = []
    train_local(made, samples, terms, seed=1, on_step=lambda *_: seen.append(replaced(made.model)))
    first = read_vector(made.model)
    assert min(seen) > 0
    load_vector(made.model, start)
    monkeypatch.setattr(train, "fused", _as_it_is)
    train_local(made, samples, terms, seed=1)
    np.testing.assert_allclose(first, read_vector(made.model), atol=2e-3)
    assert not np.array_equal(first, start)


class _as_it_is:  # noqa: N801 - stands in for a function
    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None
