"""Private trainings in small: learners of both kinds, a mechanism's terms, notes of patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import LoraTerms
from fedmedlora_core.learning.site_round import make_learner
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.privacy_terms import PrivacyTerms
from fedmedlora_core.records import Note
from fedmedlora_core.strategy_terms import AdapterMode
from fedmedlora_core.tasks.tagging import tag_names
from fedmedlora_testkit.models import make_notes

LABELS = label_set(["problem", "drug"], ["negation", "strength"])
TRAINING = TrainTerms(local_epochs=1, batch_size=4, learning_rate=5e-3, warmup_steps=2, relation_cap=0.7)
KEY = bytes(range(32))


def private_terms(**values: Any) -> PrivacyTerms:
    """A mechanism that draws half of all units into each of a few steps."""
    table: dict[str, Any] = {
        "unit": "patient",
        "delta": "1e-5",
        "epsilon_milli": 8000,
        "noise_milli": 1000,
        "clip_micro": 1_000_000,
        "sampling_micro": 500_000,
        "steps": 6,
        "batch_units": 4,
    }
    return PrivacyTerms(**(table | values))


def notes_of_patients(patients: int, each: int = 3) -> list[Note]:
    """Notes of some patients, so many of each."""
    notes = make_notes(patients * each)
    return [replace(note, patient_id=f"p{number // each}") for number, note in enumerate(notes)]


def small_learner(
    folder: Path, *, mode: AdapterMode = "ffa", targets: tuple[str, ...] | None = None, **options: Any
) -> Learner:
    """A learner with a small adapter; the folder's name says of which kind."""
    causal = folder.name.startswith("causal")
    shape = LoraTerms(4, 8, targets or (("all-linear",) if causal else ("query", "value")), mode)
    if causal:
        base = load_base(folder, kind="causal", **options)
    else:
        base = load_base(folder, kind="token_classification", tags=tag_names(LABELS), **options)
    return make_learner(base, shape, LABELS, seed=1, max_tokens=256)
