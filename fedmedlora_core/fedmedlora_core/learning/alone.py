"""Training without a federation: a site on its own notes, from the first adapter or from one of others."""

from __future__ import annotations

import math
from collections.abc import Callable

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import moved, with_personal
from fedmedlora_core.best_round import BestRound
from fedmedlora_core.codec import WordStream
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.global_step import GlobalStep
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.site_round import train_round
from fedmedlora_core.learning.validation import count_on_notes
from fedmedlora_core.splits import Splits
from fedmedlora_core.study import Study

__all__ = ["EVEN_STEPS_NOTES", "NoiseOf", "OnRound", "train_rounds", "with_steps_for_few"]

EVEN_STEPS_NOTES = 50
"""With fewer labelled notes than this a site trains as many more epochs: it takes the steps of so many."""

OnRound = Callable[[int, int], None]
"""(round, rounds): called after each round."""
NoiseOf = Callable[[int], WordStream]
"""Keystream of a round's draws and noise, in a study with privacy."""


def train_rounds(
    learner: Learner,
    study: Study,
    initial: Adapter,
    notes: Splits,
    *,
    seed_of: Callable[[int], int],
    best: BestRound | None = None,
    on_round: OnRound | None = None,
    noise_of: NoiseOf | None = None,
) -> Adapter:
    """Train a study's rounds on one site's notes, each round's update taken over whole.

    Args:
        learner: From `learner_for`.
        study: Rounds, epochs and rates.
        initial: The adapter that the first round starts from.
        notes: Training and validation notes; the test notes are not looked at.
        seed_of: Training seed of a round.
        best: Chooses among the rounds by the counts on `notes.validation`; None takes the last round.
        on_round: Progress.
        noise_of: In a study with privacy: the keystream of a round.

    Returns:
        The adapter after the last round, or the chosen one.

    Raises:
        ConfigError: A round is to be chosen in a study with privacy (the caller's).
    """
    if best is not None and study.privacy is not None:
        raise ConfigError("a study with privacy takes its last round: counts would be released uncharged")
    adapter = shared = initial
    rule, personal = GlobalStep(study, initial), None
    rounds = study.training.rounds
    for number in range(1, rounds + 1):
        update = train_round(
            learner,
            study,
            shared,
            train=notes.train,
            validation=notes.validation,
            round_number=number,
            seed=seed_of(number),
            personal=personal,
            noise=None if noise_of is None else noise_of(number),
        )
        shared, personal = moved(shared, update.delta, rule.runs(number)), update.personal
        adapter = shared if personal is None else with_personal(shared, personal)
        if best is not None:
            best.offer(number, adapter, count_on_notes(learner, study, adapter, notes.validation))
        if on_round is not None:
            on_round(number, rounds)
    return adapter if best is None else best.adapter


def with_steps_for_few(
    study: Study, notes: int, *, even_steps_notes: int = EVEN_STEPS_NOTES, rate_percent: int = 100
) -> Study:
    """Give a study's terms more local epochs where there are few notes to train on, and another rate.

    What is trained so stays at its site: it needs no privacy, and gets none.

    Args:
        study: The study.
        notes: Labelled notes; >= 1.
        even_steps_notes: With fewer notes than this, as many more epochs.
        rate_percent: Learning rate, of the study's; >= 1.
    """
    rate = max(1, study.training.learning_rate_micro * rate_percent // 100)
    epochs = study.training.local_epochs * max(1, math.ceil(even_steps_notes / notes))
    training = study.training.model_copy(update={"local_epochs": epochs, "learning_rate_micro": rate})
    return study.model_copy(update={"training": training, "privacy": None})
