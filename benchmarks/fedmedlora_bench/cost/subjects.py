"""What is measured: a profile's learner on a folder's model, and synthetic notes for it."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_bench.cohorts import cut_notes
from fedmedlora_core.clinic.writer import generate
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.devices import device_for, dtype_of
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import LoraTerms
from fedmedlora_core.learning.site_round import make_learner
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.profile import Profile
from fedmedlora_core.records import Note
from fedmedlora_core.tasks.tagging import tag_names

__all__ = ["learner_of", "notes_for", "subject", "terms_of"]


def subject(profile_name: str, folder: Path) -> tuple[Learner, TrainTerms]:
    """Load a model with a profile's adapter; returns it with the profile's training."""
    profile = Profile.load(profile_name)
    learner = learner_of(profile, folder, device=device_for("auto", profile.training))
    return learner, terms_of(profile)


def learner_of(profile: Profile, folder: Path, *, device: str) -> Learner:
    """Load a model on a device with a profile's adapter."""
    labels = label_set(profile.labels.entities, profile.labels.modifiers)
    base = load_base(
        folder,
        kind=profile.kind,
        tags=tag_names(labels) if profile.kind == "token_classification" else (),
        device=device,
        dtype=dtype_of(profile.training),
        nf4=profile.training.quantisation == "nf4",
    )
    shape = profile.adapter
    terms = LoraTerms(shape.rank, shape.alpha, shape.targets, shape.mode)
    return make_learner(base, terms, labels, seed=1, max_tokens=profile.training.max_tokens)


def terms_of(profile: Profile) -> TrainTerms:
    """The first round of a profile's training."""
    training = profile.training
    return TrainTerms(
        local_epochs=training.local_epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate_micro / 1e6,
        rounds=training.rounds,
        schedule=training.schedule or "linear",
        accumulation=training.gradient_accumulation_steps or 1,
        recompute=bool(training.gradient_checkpointing),
    )


def notes_for(windows: int) -> list[Note]:
    """Synthetic notes of one sentence each, at least so many."""
    (notes,) = list(generate(1, seed=7, sentences=2 * windows + 40).values())
    return [part for note in notes for part in cut_notes([note], None, 1)][: max(windows, 4) * 2]
