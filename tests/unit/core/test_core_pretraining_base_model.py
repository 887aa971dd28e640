"""The base model as shipped: small, loadable, copies well-formed, knows nothing clinical."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_core.clinic import generate
from fedmedlora_core.labels import CLINICAL
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.evaluate import predict_entities, predict_relations
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.lora import LoraTerms, attach
from fedmedlora_core.pretraining import words
from fedmedlora_core.scores import score_entities

FOLDER = Path(words.__file__).parent.parent / "base_model"
NOTES = [note for site in generate(4, seed=2026, sentences=30).values() for note in site]


@pytest.fixture(scope="module")
def untuned() -> GenerativeLearner:
    base = load_base(FOLDER, kind="causal")
    model = attach(base, LoraTerms(4, 8, ("q_proj", "v_proj"), "ffa"), seed=1)
    return GenerativeLearner(model, base.tokenizer, CLINICAL, max_tokens=400)


def test_it_fits_in_four_megabytes_and_holds_only_the_files_of_a_model() -> None:
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sum(files.values()) <= 4_000_000
    assert files.keys() == {
        "MODEL_CARD.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_untuned_it_copies_nine_sentences_in_ten_and_finds_no_entity(untuned: GenerativeLearner) -> None:
    found = predict_entities(untuned, NOTES)
    assert found.asked >= 100
    assert found.malformed <= 0.1 * found.asked
    assert score_entities(NOTES, found.notes).strict.f1 < 0.10


def test_untuned_it_answers_relations_in_the_form_of_a_list(untuned: GenerativeLearner) -> None:
    found = predict_relations(untuned, NOTES[:20])
    assert found.malformed <= 0.1 * found.asked


def test_a_broken_copy_would_be_counted(untuned: GenerativeLearner) -> None:
    embedding = untuned.model.get_base_model().get_input_embeddings().weight  # type: ignore[operator]
    kept = embedding.data.clone()
    try:
        embedding.data = embedding.data.roll(1, dims=0)
        found = predict_entities(untuned, NOTES[:3])
    finally:
        embedding.data = kept
    assert found.malformed > 0.5 * found.asked
