"""What a site's trainer does: load the study's base model once, then one round of training after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import half_of, with_personal
from fedmedlora_core.codec import FloatVector, WordStream
from fedmedlora_core.errors import ConfigError, NonFiniteError
from fedmedlora_core.labels import LabelSet, label_set
from fedmedlora_core.learning.base import BaseKind, LoadedBase, load_base
from fedmedlora_core.learning.checkpoint import CheckpointStore
from fedmedlora_core.learning.devices import device_for, dtype_of
from fedmedlora_core.learning.evaluate import validation_loss
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import (
    LoraTerms,
    attach,
    load_adapter,
    load_vector,
    read_adapter,
    read_personal,
    read_vector,
    train_only,
    train_personal,
)
from fedmedlora_core.learning.private.training import train_private
from fedmedlora_core.learning.tagging import TaggingLearner
from fedmedlora_core.learning.team import ALONE, Team
from fedmedlora_core.learning.terms import AS_CHARTERED, Saving, TrainTerms
from fedmedlora_core.learning.train import OnStep, mean_loss, train_local
from fedmedlora_core.records import Note, mentions_in
from fedmedlora_core.study import Study
from fedmedlora_core.tasks.tagging import tag_names
from fedmedlora_core.tasks.windows import windows_of
from fedmedlora_core.training_terms import AnswerFormat

__all__ = ["LocalUpdate", "first_adapter", "held_out_losses", "learner_for", "make_learner", "train_round"]


@dataclass(frozen=True)
class LocalUpdate:
    """What one round of local training gives; nothing of it leaves the site in the clear.

    Args:
        delta: float32, trained minus received adapter in what travels in this round, not clipped.
        validation_loss: Nats per answer token on the site's validation notes, with the trained adapter;
            0 where the study's rule does not weigh by it.
        n_notes: Training notes, each counted by its sentences: a note is a discharge letter at one site and a
            single sentence at another, and weights need a unit that means the same at both.
        steps: Steps of the optimiser.
        training_loss: Mean of the last epoch.
        left_out: Training examples that are longer than the study's `max_tokens`.
        personal: In mode "sa" what this site trained for itself; it never leaves the site.
        mentions: Label type to its mentions in the training notes.
    """

    delta: FloatVector
    validation_loss: float
    n_notes: int
    steps: int
    training_loss: float
    left_out: int = 0
    personal: FloatVector | None = None
    mentions: Mapping[str, int] = field(default_factory=dict)


def make_learner(
    base: LoadedBase,
    terms: LoraTerms,
    labels: LabelSet,
    *,
    seed: int,
    max_tokens: int,
    answers: AnswerFormat = "inline",
) -> Learner:
    """Attach a new adapter to a base model and choose the learner of its kind."""
    model = attach(base, terms, seed)
    if base.kind == "causal":
        return GenerativeLearner(model, base.tokenizer, labels, max_tokens=max_tokens, answers=answers)
    return TaggingLearner(model, base.tokenizer, labels, max_tokens=max_tokens)


def first_adapter(
    folder: Path,
    *,
    kind: BaseKind,
    terms: LoraTerms,
    labels: LabelSet,
    seed: int,
    base_name: str,
    dtype: torch.dtype = torch.float32,
) -> tuple[Adapter, str]:
    """Draw a study's initial adapter.

    Args:
        folder: Folder of the base model.
        kind: What the model is.
        terms: Shape of the adapter.
        labels: Label set of the study.
        seed: Seed of the study.
        base_name: Name of the base model for the PEFT folder; never a local path.
        dtype: Type of the base model's weights while the adapter is drawn.

    Returns:
        (the adapter, the base model's digest).
    """
    tags = tag_names(labels) if kind == "token_classification" else ()
    base = load_base(folder, kind=kind, tags=tags, dtype=dtype)
    return read_adapter(attach(base, terms, seed), base_name=base_name), base.digest


def learner_for(
    study: Study, base_folder: Path, *, device: str | None = None, dtype: torch.dtype | None = None
) -> Learner:
    """Load the base model that a study names and attach an adapter of the study's shape.

    Args:
        study: Names the base model by digest, the adapter's shape, labels and token limit.
        base_folder: Folder of the base model at this site.
        device: Where the model computes, for example "cuda"; None for a GPU if the study's model needs one
            and it is there. The adapter's values are float32 everywhere.
        dtype: Type of the frozen weights instead of the study's.

    Raises:
        ConfigError: The folder holds another model, the study's adapter does not fit it, or this machine
            cannot do what the study asks for.
    """
    device = device or device_for("auto", study.training)
    labels = label_set(study.labels.entities, study.labels.modifiers)
    kind: BaseKind = study.model.kind
    base = load_base(
        base_folder,
        kind=kind,
        expected_digest=study.model.digest,
        tags=tag_names(labels) if kind == "token_classification" else (),
        device=device,
        dtype=dtype or dtype_of(study.training),
        nf4=study.training.quantisation == "nf4",
    )
    terms = LoraTerms(study.adapter.rank, study.adapter.alpha, study.adapter.targets, study.adapter.mode)
    return make_learner(
        base,
        terms,
        labels,
        seed=study.study.seed,
        max_tokens=study.training.max_tokens,
        answers="inline" if study.prompt is None else study.prompt.format,
    )


def train_round(
    learner: Learner,
    study: Study,
    adapter: Adapter,
    *,
    train: Sequence[Note],
    validation: Sequence[Note],
    round_number: int,
    seed: int,
    personal: FloatVector | None = None,
    on_step: OnStep | None = None,
    team: Team = ALONE,
    checkpoints: CheckpointStore | None = None,
    noise: WordStream | None = None,
    saving: Saving = AS_CHARTERED,
) -> LocalUpdate:
    """Train one round from the round's base adapter (PROTOCOL §4.1), privately if the study says so (§4.13).

    Args:
        learner: From `learner_for`; reused from round to round.
        study: The study, which fixes epochs, rates and tasks.
        adapter: The adapter that the round starts from; its digest is checked against nothing here.
        train: Training notes of this site.
        validation: Held-out notes of this site (or the study's common set).
        round_number: From 1.
        seed: Training seed of this site and round.
        personal: In mode "sa" what this site trained for itself before; None where it begins.
        on_step: Called after each step of the optimiser.
        team: The processes of this site that train together.
        checkpoints: Where the state is kept, so that a killed training can go on.
        noise: In a study with privacy: keystream under a key of this training alone (R4.13.4).
        saving: What this site does about its memory.

    Returns:
        The update. The same arguments give the same bytes. In a study with privacy all besides `delta` is
        constant.

    Raises:
        ConfigError: The adapter does not fit, there is nothing to train or validate on, or a study with
            privacy has no keystream or several processes.
        NonFiniteError: Training diverged; there is no update.
    """
    if study.privacy is not None:
        return _train_privately(
            learner,
            study,
            adapter,
            train,
            TrainTerms.of(study, round_number, saving),
            noise,
            team=team,
            on_step=on_step,
            checkpoints=checkpoints,
        )
    if not train or not validation:
        raise ConfigError("a round needs training and validation notes")
    mode, tasks = study.adapter.mode, study.labels.tasks
    load_adapter(learner.model, adapter if personal is None else with_personal(adapter, personal))
    samples = learner.samples(train, tasks)
    left_out = learner.left_out
    with train_only(learner.model, half_of(mode, round_number)):
        start = read_vector(learner.model)
        try:
            with train_personal(learner.model, mode):
                result = train_local(
                    learner,
                    samples,
                    TrainTerms.of(study, round_number, saving),
                    seed=seed,
                    on_step=on_step,
                    team=team,
                    checkpoints=checkpoints,
                    charter=study.digest,
                )
            delta = (read_vector(learner.model) - start).astype(np.float32)
            own = read_personal(learner.model, mode)
            if not np.isfinite(delta).all() or (own is not None and not np.isfinite(own).all()):
                raise NonFiniteError("the trained adapter holds a value that is not finite")
            # A rule that ignores the loss gets none: measuring it would cost a tenth of the round.
            loss = validation_loss(learner, validation, tasks) if study.aggregation.tau_milli else 0.0
        except NonFiniteError:
            load_vector(learner.model, start)
            raise
    size = max(1, sum(len(windows_of(note.text)) for note in train))
    return LocalUpdate(delta, loss, size, result.steps, result.loss, left_out, own, mentions_in(train))


def _train_privately(
    learner: Learner,
    study: Study,
    adapter: Adapter,
    train: Sequence[Note],
    terms: TrainTerms,
    noise: WordStream | None,
    *,
    team: Team,
    on_step: OnStep | None,
    checkpoints: CheckpointStore | None,
) -> LocalUpdate:
    """Train one round under differential privacy; what comes back beside the update is constant (R4.13.2)."""
    privacy = study.privacy
    if privacy is None or noise is None:
        raise ConfigError("a study with privacy is trained with noise of a key of its own, and there is none")
    if team.size != 1:
        raise ConfigError("a study with privacy is trained by one process; set trainer.processes to 1")
    load_adapter(learner.model, adapter)
    with train_only(learner.model, half_of(study.adapter.mode, terms.round)):
        start = read_vector(learner.model)
        try:
            result = train_private(
                learner,
                train,
                study.labels.tasks,
                terms,
                privacy,
                noise=noise,
                on_step=on_step,
                checkpoints=checkpoints,
                charter=study.digest,
            )
        except NonFiniteError:
            load_vector(learner.model, start)
            raise
        delta = (read_vector(learner.model) - start).astype(np.float32)
    return LocalUpdate(delta, 0.0, 1, result.steps, 0.0)


def held_out_losses(
    learner: Learner, study: Study, adapters: Sequence[Adapter], *, validation: Sequence[Note]
) -> tuple[float, ...]:
    """Measure adapters on a site's held-out notes, for its vote (PROTOCOL §4.7, R4.7.3).

    Args:
        learner: From `learner_for`.
        study: The study, which fixes the tasks.
        adapters: The adapters to compare.
        validation: Held-out notes of this site; never trained on.

    Returns:
        Nats per answer token under each adapter; infinity where the loss is not finite. The same arguments
        give the same values.

    Raises:
        ConfigError: An adapter does not fit, or there is nothing to measure on.
    """
    if not validation:
        raise ConfigError("a vote needs validation notes")
    samples = learner.samples(validation, study.labels.tasks)
    found = []
    for adapter in adapters:
        load_adapter(learner.model, adapter)
        try:
            found.append(mean_loss(learner, samples))
        except NonFiniteError:
            found.append(math.inf)
    return tuple(found)
