"""Profiles by name: the settings of the paper, on base models of the right sizes only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_core.architectures import architecture, architecture_names, check_architecture
from fedmedlora_core.config import parse_table
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.profile import Profile
from fedmedlora_core.study import Study
from fedmedlora_testkit.studies import changed, make_study

GENERATIVE = ("deepseek-r1-distill-llama-8b", "llama-3.1-8b", "llama-3.2-1b", "qwen3-4b")
NAMED = ("bio-clinicalbert", *GENERATIVE)


@pytest.mark.parametrize("name", GENERATIVE)
def test_generative_profiles_have_the_settings_of_the_paper(name: str) -> None:
    profile = Profile.load(name)
    training, adapter = profile.training, profile.adapter
    assert profile.kind == "causal"
    assert (adapter.rank, adapter.alpha, adapter.mode, len(adapter.targets)) == (16, 64, "ab", 7)
    assert (training.rounds, training.local_epochs, training.batch_size) == (3, 2, 4)
    assert (training.learning_rate_micro, training.schedule, training.warmup_percent) == (200, "cosine", 5)
    assert (training.max_tokens, training.quantisation, training.compute_dtype) == (800, "nf4", "bf16")
    assert training.gradient_checkpointing


def test_the_encoder_profile_has_the_settings_of_the_paper() -> None:
    profile = Profile.load("bio-clinicalbert")
    training = profile.training
    assert profile.kind == "token_classification"
    assert profile.adapter.targets == ("query", "value")
    assert training.gradient_accumulation_steps is not None
    step = training.batch_size * training.gradient_accumulation_steps
    assert (training.rounds, training.local_epochs, step) == (3, 3, 64)
    assert (training.learning_rate_micro, training.max_tokens, training.compute_dtype) == (200, 512, None)


def test_each_named_profile_has_its_architecture() -> None:
    assert set(NAMED) == set(architecture_names())
    for name in NAMED:
        base = Profile.load(name).base
        assert base is not None
        assert base.architecture == name
    assert {*NAMED, "tiny", "encoder"} == set(Profile.names())


def test_a_folder_of_other_sizes_is_refused_by_the_first_that_differs(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    sizes = architecture("llama-3.1-8b")
    file.write_text(json.dumps({**sizes, "rms_norm_eps": 1e-6}))
    check_architecture("llama-3.1-8b", tmp_path)
    file.write_text(json.dumps({**sizes, "hidden_size": 2048}))
    with pytest.raises(ConfigError, match=r"hidden_size is 2048, and that of llama-3.1-8b is 4096"):
        check_architecture("llama-3.1-8b", tmp_path)
    for damaged in ("{", "[]", "null", "7"):
        file.write_text(damaged)
        with pytest.raises(ConfigError, match="is not the configuration of a base model"):
            check_architecture("llama-3.1-8b", tmp_path)
    with pytest.raises(ConfigError, match="there is no architecture 'gpt'"):
        architecture("gpt")


def test_a_profile_can_ask_for_json_and_the_charter_says_so() -> None:
    study = make_study(overrides={"prompt__format": "json", "training__schedule": "cosine"})
    assert study.prompt is not None
    assert study.prompt.format == "json"
    assert Study.from_canonical_json(study.canonical_json()) == study
    assert study.digest != make_study().digest


@pytest.mark.parametrize("key", ["prompt", "training"])
def test_a_token_classifier_is_not_asked_in_words_nor_computed_in_less_than_float32(key: str) -> None:
    values = {"prompt": {"format": "json"}, "training": {"compute_dtype": "bf16"}}[key]
    study = make_study()
    encoder = changed(study, "model", kind="token_classification")
    with pytest.raises(ConfigError, match=f"{key}.*: a token classifier"):
        parse_table(_with(encoder, key, values), Study, name="study")


def _with(study: Study, key: str, values: dict[str, str]) -> dict[str, Any]:
    table = study.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {**table, key: {**table.get(key, {}), **values}}
