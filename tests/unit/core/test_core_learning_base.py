"""Base models: digest, safetensors only, and adapters on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.digest import base_digest
from fedmedlora_core.learning.lora import (
    LoraTerms,
    attach,
    load_adapter,
    load_vector,
    read_adapter,
    read_vector,
)
from fedmedlora_core.learning.merging import merged
from fedmedlora_core.learning.site_round import first_adapter, make_learner
from fedmedlora_core.tasks.tagging import tag_names
from fedmedlora_testkit.models import make_notes, write_causal, write_encoder

LABELS = label_set(["problem", "drug"], ["negation", "strength"])
FFA = LoraTerms(rank=4, alpha=8, targets=("q_proj", "v_proj"), mode="ffa")
AB = LoraTerms(rank=4, alpha=8, targets=("q_proj", "v_proj"), mode="ab")
TAGS = tag_names(LABELS)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


class _Bomb:
    """Unpickling this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def test_digest_changes_with_weights_config_and_tokenizer(causal: Path, tmp_path: Path) -> None:
    digest = base_digest(causal)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        copy = tmp_path / name.replace(".", "-")
        shutil.copytree(causal, copy)
        assert base_digest(copy) == digest
        with (copy / name).open("ab") as file:
            file.write(b" ")
        assert base_digest(copy) != digest


def test_other_model_than_the_study_names_is_refused(causal: Path) -> None:
    assert load_base(causal, kind="causal", expected_digest=base_digest(causal)).digest == base_digest(causal)
    with pytest.raises(ConfigError, match="another base model than the study names"):
        load_base(causal, kind="causal", expected_digest="0" * 64)


def test_pickled_weights_are_refused_and_never_opened(causal: Path, tmp_path: Path) -> None:
    folder, bomb = tmp_path / "model", tmp_path / "bomb"
    shutil.copytree(causal, folder)
    torch.save({"weight": _Bomb(bomb)}, folder / "pytorch_model.bin")
    assert load_base(folder, kind="causal").digest == base_digest(causal)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"only pytorch_model\.bin, and pickled weights are never loaded"):
        load_base(folder, kind="causal")
    assert not bomb.exists()


def test_pickle_bomb_would_go_off(tmp_path: Path) -> None:
    """The bomb of the test above is live: an unguarded load sets it off."""
    bomb = tmp_path / "bomb"
    torch.save({"weight": _Bomb(bomb)}, tmp_path / "weights.bin")
    torch.load(tmp_path / "weights.bin", weights_only=False)
    assert bomb.exists()


@pytest.mark.parametrize("breakage", ["missing", "no_config", "truncated", "remote_code"])
def test_folder_without_a_usable_model_is_one_clear_line(causal: Path, tmp_path: Path, breakage: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(causal, folder)
    if breakage == "missing":
        folder = tmp_path / "nowhere"
    elif breakage == "no_config":
        (folder / "config.json").unlink()
    elif breakage == "truncated":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    else:
        (folder / "config.json").write_text('{"model_type": "x", "auto_map": {"AutoConfig": "code.C"}}')
        (folder / "code.py").write_text("raise SystemExit('remote code ran')")
    with pytest.raises(ConfigError) as caught:
        load_base(folder, kind="causal")
    assert "\n" not in str(caught.value)


def test_new_adapter_changes_nothing_and_has_the_seeds_values(causal: Path) -> None:
    base = load_base(causal, kind="causal")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = base.model(ids).logits
        model = attach(base, FFA, seed=3)
        assert torch.equal(model.get_base_model()(ids).logits, before)
    again = attach(load_base(causal, kind="causal"), FFA, seed=3)
    other = attach(load_base(causal, kind="causal"), FFA, seed=4)
    assert read_adapter(model).digest == read_adapter(again).digest
    assert read_adapter(model).digest != read_adapter(other).digest


def test_ffa_trains_and_sends_only_b(causal: Path) -> None:
    ffa = read_adapter(attach(load_base(causal, kind="causal"), FFA, seed=3))
    both = read_adapter(attach(load_base(causal, kind="causal"), AB, seed=3))
    assert set(ffa.tensors) == set(both.tensors)
    assert all(".lora_B." in name for name in ffa.trainable)
    assert set(both.trainable) == set(both.tensors)
    assert not ffa.vector().any()
    assert any(tensor.any() for name, tensor in ffa.tensors.items() if ".lora_A." in name)


def test_encoder_adapter_carries_its_output_layer(encoder: Path) -> None:
    terms = LoraTerms(4, 8, ("query", "value"), "ffa")
    adapter, digest = first_adapter(
        encoder, kind="token_classification", terms=terms, labels=LABELS, seed=3, base_name="enc"
    )
    again, _ = first_adapter(
        encoder, kind="token_classification", terms=terms, labels=LABELS, seed=3, base_name="enc"
    )
    assert digest == base_digest(encoder)
    assert adapter.digest == again.digest
    assert "base_model.model.classifier.weight" in adapter.trainable
    assert adapter.tensors["base_model.model.classifier.weight"].shape == (len(TAGS), 32)


@pytest.mark.parametrize("targets", [("q_proj", "query"), ("nothing",), ("model",), ("proj",)])
def test_target_that_matches_no_module_is_refused(causal: Path, targets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="names no linear module"):
        attach(load_base(causal, kind="causal"), LoraTerms(4, 8, targets, "ffa"), seed=0)


def test_vector_and_adapter_round_trip(causal: Path) -> None:
    model = attach(load_base(causal, kind="causal"), AB, seed=3)
    vector = np.random.default_rng(0).normal(size=read_vector(model).shape).astype(np.float32)
    load_vector(model, vector)
    assert np.array_equal(read_vector(model), vector)
    adapter = read_adapter(model)
    assert np.array_equal(adapter.vector(), vector)
    other = attach(load_base(causal, kind="causal"), AB, seed=4)
    load_adapter(other, adapter)
    assert read_adapter(other).digest == adapter.digest
    with pytest.raises(ValueError, match="values, got shape"):
        load_vector(model, vector[1:])


def test_adapter_of_another_shape_or_mode_is_refused(causal: Path) -> None:
    adapter = read_adapter(attach(load_base(causal, kind="causal"), FFA, seed=3))
    for terms in (AB, LoraTerms(8, 8, FFA.targets, "ffa"), LoraTerms(4, 8, ("q_proj",), "ffa")):
        with pytest.raises(ConfigError, match="does not fit the base model"):
            load_adapter(attach(load_base(causal, kind="causal"), terms, seed=3), adapter)


@pytest.mark.parametrize("kind", ["causal", "token_classification"])
def test_folding_the_adapter_in_agrees_and_restores_the_bytes(causal: Path, encoder: Path, kind: str) -> None:
    if kind == "causal":
        model = attach(load_base(causal, kind="causal"), AB, seed=3)
    else:
        base = load_base(encoder, kind="token_classification", tags=TAGS)
        model = attach(base, LoraTerms(4, 8, ("query", "dense"), "ab"), seed=3)
    vector = read_vector(model)
    load_vector(
        model, vector + np.random.default_rng(0).normal(scale=0.1, size=vector.shape).astype(np.float32)
    )
    before = {name: p.clone() for name, p in model.named_parameters()}
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        plain = model.get_base_model()(ids).logits
        with merged(model):
            folded = model.get_base_model()(ids).logits
        after = model.get_base_model()(ids).logits
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(after, plain)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


PLAIN_SCRIPT = """
import sys, warnings, torch
warnings.simplefilter("ignore")
from transformers import AutoModelForCausalLM
from peft import PeftModel
base = AutoModelForCausalLM.from_pretrained(sys.argv[1])
model = PeftModel.from_pretrained(base, sys.argv[2])
with torch.no_grad():
    print(float(model(torch.tensor([[5, 6, 7, 8]])).logits.double().abs().sum()))
"""


def test_released_folder_loads_with_plain_peft(causal: Path, tmp_path: Path) -> None:
    model = attach(load_base(causal, kind="causal"), FFA, seed=3)
    vector = np.random.default_rng(0).normal(size=read_vector(model).shape).astype(np.float32)
    load_vector(model, vector)
    adapter = read_adapter(model, base_name="tiny")
    adapter.save(tmp_path / "released")
    assert Adapter.load(tmp_path / "released").digest == adapter.digest
    with torch.no_grad():
        expected = float(model(torch.tensor([[5, 6, 7, 8]])).logits.double().abs().sum())
    result = subprocess.run(
        [sys.executable, "-c", PLAIN_SCRIPT, str(causal), str(tmp_path / "released")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == pytest.approx(expected, rel=1e-6)


def test_digest_module_loads_no_torch() -> None:
    code = (
        "import sys, fedmedlora_core.learning.digest, fedmedlora_core.tasks\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_encoder_learner_has_one_output_row_for_each_tag(encoder: Path) -> None:
    base = load_base(encoder, kind="token_classification", tags=TAGS)
    learner = make_learner(base, LoraTerms(4, 8, ("query",), "ffa"), LABELS, seed=0, max_tokens=64)
    samples = learner.samples(make_notes(4), ["ner", "re"])
    assert samples
    assert all(len(sample.allowed) == len(TAGS) for sample in samples)
