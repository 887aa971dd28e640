"""What saves memory in training changes its result by rounding at most: accumulation, recomputing, bf16."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import load_base, reproducible
from fedmedlora_core.learning.devices import device_for
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import LoraTerms, read_vector
from fedmedlora_core.learning.recomputing import recomputed
from fedmedlora_core.learning.site_round import make_learner
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import train_local
from fedmedlora_core.tasks.tagging import tag_names
from fedmedlora_core.training_terms import TrainingTerms
from fedmedlora_testkit.models import make_notes, write_causal, write_encoder

LABELS = label_set(["problem", "drug"], ["negation", "strength"])
ADAPTER = LoraTerms(rank=4, alpha=8, targets=("all-linear",), mode="ab")
KINDS = ["causal", "token_classification"]
TERMS = TrainTerms(local_epochs=2, batch_size=8, learning_rate=5e-3, warmup_steps=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "causal": write_causal(root / "causal"),
        "token_classification": write_encoder(root / "encoder"),
    }


def make(folders: dict[str, Path], kind: Any, dtype: torch.dtype = torch.float32) -> Learner:
    tags = tag_names(LABELS) if kind == "token_classification" else ()
    base = load_base(folders[kind], kind=kind, tags=tags, dtype=dtype)
    return make_learner(base, ADAPTER, LABELS, seed=1, max_tokens=256)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_counts_what_its_loss_is_summed_over(folders: dict[str, Path], kind: str) -> None:
    learner = make(folders, kind)
    samples = learner.samples(make_notes(5), ["ner", "re"])
    with torch.no_grad():
        assert learner.loss(samples)[1] == sum(sample.counted for sample in samples)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", [2, 8])
def test_accumulation_equals_the_large_batch(folders: dict[str, Path], kind: str, parts: int) -> None:
    vectors = []
    for count in (1, parts):
        learner = make(folders, kind)
        terms = TrainTerms(**{**vars(TERMS), "batch_size": 8 // count, "accumulation": count})
        result = train_local(learner, learner.samples(make_notes(13), ["ner", "re"]), terms, seed=3)
        vectors.append((read_vector(learner.model), result))
    (whole, one), (added, two) = vectors
    assert one.steps == two.steps > 2
    assert one.tokens == two.tokens
    assert two.loss == pytest.approx(one.loss, rel=1e-4)
    moved = np.abs(whole - read_vector(make(folders, kind).model)).max()
    assert np.abs(whole - added).max() < 1e-3 * moved


@pytest.mark.parametrize("kind", KINDS)
def test_recomputing_gives_the_same_gradients(folders: dict[str, Path], kind: str) -> None:
    found = []
    for wanted in (False, True):
        learner = make(folders, kind)
        samples = learner.samples(make_notes(6), ["ner", "re"])[:8]
        with torch.no_grad():
            for parameter in learner.model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.01)  # B is zero at first, and A would have no gradient
        with reproducible(1), recomputed(learner.model, wanted=wanted):
            saved = _saved_bytes(learner, samples)
        found.append((saved, [p.grad for p in learner.model.parameters() if p.requires_grad]))
    (kept_bytes, kept), (fewer_bytes, again) = found
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True) if a is not None and b is not None)
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in again)
    assert fewer_bytes < kept_bytes / 2  # or nothing was computed again


def _saved_bytes(learner: Learner, samples: list[Any]) -> int:
    """Bytes that the forward pass keeps for the backward pass, which is then run."""
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in learner.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = learner.loss(samples)[0]
    total = sum(size for place, size in sizes.items() if place not in own)
    loss.backward()  # type: ignore[no-untyped-call]
    return total


def test_recomputing_leaves_no_mark_and_trains_alike(folders: dict[str, Path]) -> None:
    vectors = []
    for recompute in (False, True):
        learner = make(folders, "token_classification")
        terms = TrainTerms(**{**vars(TERMS), "recompute": recompute})
        train_local(learner, learner.samples(make_notes(8), ["ner"]), terms, seed=1)
        vectors.append(read_vector(learner.model))
        assert not any(module.training for module in learner.model.modules())
    assert vectors[0].tobytes() == vectors[1].tobytes()


def test_a_bfloat16_base_trains_a_float32_adapter(folders: dict[str, Path]) -> None:
    learner = make(folders, "causal", torch.bfloat16)
    trainable = [p for p in learner.model.parameters() if p.requires_grad]
    assert {p.dtype for p in trainable} == {torch.float32}
    assert {p.dtype for p in learner.model.parameters() if not p.requires_grad} == {torch.bfloat16}
    samples = learner.samples(make_notes(24), ["ner", "re"])
    long = TrainTerms(local_epochs=6, batch_size=8, learning_rate=1e-2, warmup_steps=2, recompute=True)
    first = train_local(learner, samples, TrainTerms(**{**vars(long), "max_steps": 1}), seed=1).loss
    assert train_local(learner, samples, long, seed=1).loss < 0.7 * first


LARGE = TrainingTerms(
    rounds=1,
    local_epochs=1,
    batch_size=4,
    learning_rate_micro=200,
    max_tokens=800,
    quantisation="nf4",
    compute_dtype="bf16",
)
SMALL = LARGE.model_copy(update={"quantisation": None, "compute_dtype": None})


def test_four_bits_without_a_gpu_are_refused_in_one_line(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="needs a CUDA GPU, and this machine") as found:
        load_base(folders["causal"], kind="causal", nf4=True)
    assert "\n" not in str(found.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match=r'set trainer\.device to "cuda"'):
        load_base(folders["causal"], kind="causal", nf4=True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"bitsandbytes: pip install"):
        load_base(folders["causal"], kind="causal", nf4=True, device="cuda")


def test_the_device_follows_operator_and_charter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_for("auto", LARGE) == "cuda:0"
    assert device_for("auto", SMALL) == "cpu"
    assert device_for("cpu", LARGE, place=1) == "cpu"
    assert device_for("cuda", SMALL, place=1) == "cuda:1"
    with pytest.raises(ConfigError, match="needs 3 CUDA GPUs; this machine has 2"):
        device_for("auto", LARGE, place=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_for("auto", LARGE) == "cpu"
    with pytest.raises(ConfigError, match="this machine has 0"):
        device_for("cuda", LARGE)
