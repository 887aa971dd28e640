"""`site adapt`: a new site fits a released adapter to its own few labelled notes.

The site need not be a member of the study: nothing is sent, nothing is logged. It starts from the adapter
that the federation released, trains on four in five of its notes and keeps the round that does best on the
fifth; if none does better than the released adapter, that one is kept. What is written is a folder like a
released one, for `extract` and `evaluate`.

The fitted adapter has seen this site's notes alone, without the protection of a sum over sites: it is the
site's own, like the notes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.best_round import BestRound
from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.near_duplicates import mark_near_duplicates
from fedmedlora_core.profile import Profile
from fedmedlora_core.records import Note
from fedmedlora_core.shipped import shipped_base
from fedmedlora_core.splits import Splits, split_by_patient
from fedmedlora_core.study import CHARTER_FILE, Study
from fedmedlora_core.validation_counts import ValidationCounts
from fedmedlora_site.training import training_seed

if TYPE_CHECKING:
    from fedmedlora_core.learning.learner import Learner

__all__ = ["ADAPTED_FILE", "RELEASED_RATE_PERCENT", "Adapted", "adapt", "fit_few", "split_few"]

ADAPTED_FILE = "adapted.json"
RELEASED_RATE_PERCENT = 25
"""Learning rate of a fit, of the charter's: a trained adapter is undone by the rate that a new one needs."""
_NAME = "adapt"
_HELD_OUT = 0.2

OnRound = Callable[[int, int], None]
"""(round, rounds)."""


@dataclass(frozen=True)
class Adapted:
    """What fitting gave.

    Args:
        train: Notes trained on.
        validation: Notes held out.
        round: The last round; 0 if it did no better than the released adapter, which is then kept.
        before: Counts of the released adapter on the notes held out.
        after: Counts of the fitted one.
        digest: Digest of the fitted adapter.
    """

    train: int
    validation: int
    round: int
    before: ValidationCounts
    after: ValidationCounts
    digest: str

    def as_dict(self) -> dict[str, Any]:
        """Figures for `--json` and for the file beside the adapter."""
        return {
            "train_notes": self.train,
            "validation_notes": self.validation,
            "round": self.round,
            "before": _figures(self.before),
            "after": _figures(self.after),
            "digest": self.digest,
        }

    def lines(self) -> list[str]:
        """What the operator reads."""
        before, after = _figures(self.before), _figures(self.after)
        found = [f"trained on {self.train} notes, held out {self.validation}"]
        for task, name in (("ner", "entities"), ("re", "relations, gold heads")):
            if task in before:
                pair = f"{before[task]['strict_f1']:.3f} -> {after[task]['strict_f1']:.3f}"
                found.append(f"{name}, strict F1 on the notes held out: {pair}")
        if self.round == 0:
            found.append("training did no better than the released adapter: it is kept as it was")
        return found


def _figures(counts: ValidationCounts) -> dict[str, Any]:
    tasks = {"ner": counts.entities, "re": counts.relations}
    return {
        task: {"strict_f1": score.f1, "per_type": score.as_dict()["per_type"]}
        for task, score in tasks.items()
        if not score.micro.is_empty
    }


def adapt(
    released: Path,
    notes: Sequence[Note],
    out: Path,
    *,
    base: Path | None = None,
    profile: str | None = None,
    seed: int = 1,
    on_round: OnRound | None = None,
) -> Adapted:
    """Fit a released adapter to a site's labelled notes and write the result as a PEFT folder.

    Args:
        released: Folder of a released adapter, with its charter.
        notes: The site's labelled notes.
        out: Folder to write; it must not exist.
        base: Folder of the base model; the shipped one when None.
        profile: Name or path of a profile whose training terms are used; those of the charter when None.
        seed: Seed of the split and the training.
        on_round: Progress.

    Raises:
        ConfigError: A folder is missing, exists already or does not fit (the operator's).
        DataError: The notes cannot be split, or hold no type of the study.
    """
    if out.exists():
        raise ConfigError(f"{out}: exists already; name a new folder")
    charter = released / CHARTER_FILE
    if not charter.is_file():
        raise ConfigError(f"{charter}: no such file; name a folder that a study released")
    study = _with_training(Study.from_canonical_json(charter.read_bytes()), profile)
    start = Adapter.load(released)
    types = {*study.labels.entities, *study.labels.modifiers}
    if not any(note.annotated & types for note in notes):
        raise DataError("no note has annotated types of the study")
    from fedmedlora_core.learning.site_round import learner_for  # loads torch
    from fedmedlora_core.learning.validation import count_on_notes

    learner = learner_for(study, base or shipped_base())
    marked, _ = mark_near_duplicates(notes)  # a copy of a training note must not choose the round
    splits = split_few(marked, seed=seed)
    before = count_on_notes(learner, study, start, splits.validation)
    adapter, best = fit_few(
        learner,
        study,
        start,
        splits,
        name=_NAME,
        seed=seed,
        rate_percent=RELEASED_RATE_PERCENT,
        on_round=on_round,
    )
    after = count_on_notes(learner, study, adapter, splits.validation)
    found = Adapted(len(splits.train), len(splits.validation), best.round, before, after, adapter.digest)
    _write(out, adapter, charter.read_bytes(), found, start.digest, seed)
    return found


def split_few(notes: Sequence[Note], *, seed: int) -> Splits:
    """Hold out one in five of few labelled notes, whole patients, at least one; there is no test part."""
    return split_by_patient(notes, seed=seed, validation_fraction=_HELD_OUT, test_fraction=0.0)


def fit_few(
    learner: Learner,
    study: Study,
    start: Adapter,
    splits: Splits,
    *,
    name: str,
    seed: int,
    rate_percent: int = 100,
    even_steps_notes: int | None = None,
    on_round: OnRound | None = None,
) -> tuple[Adapter, BestRound]:
    """Train from an adapter on few notes; keep what the last round left, or the adapter if that is no better.

    The rounds between are not offered: a handful of held-out notes picks the luckiest of many, and that one
    is worse on other notes than the last (ADR 0032).

    Args:
        learner: From `learner_for`.
        study: Rounds and rates; local epochs grow where notes are few.
        start: The adapter to start from.
        splits: From `split_few`.
        name: Name that the training seeds derive from.
        seed: Seed of the training.
        rate_percent: Learning rate, of the study's; `RELEASED_RATE_PERCENT` for an adapter that is trained.
        even_steps_notes: See `with_steps_for_few`; its default when None.
        on_round: Progress.

    Returns:
        (the adapter, how it was chosen).
    """
    from fedmedlora_core.learning.alone import EVEN_STEPS_NOTES, train_rounds, with_steps_for_few
    from fedmedlora_core.learning.validation import count_on_notes

    steps = EVEN_STEPS_NOTES if even_steps_notes is None else even_steps_notes
    labelled = len(splits.train) + len(splits.validation)
    terms = with_steps_for_few(study, labelled, even_steps_notes=steps, rate_percent=rate_percent)
    best = BestRound()
    best.offer(0, start, count_on_notes(learner, study, start, splits.validation))
    adapter = train_rounds(
        learner,
        terms,
        start,
        splits,
        seed_of=lambda number: training_seed(seed, name, number),
        on_round=on_round,
    )
    best.offer(terms.training.rounds, adapter, count_on_notes(learner, study, adapter, splits.validation))
    return best.adapter, best


def _with_training(study: Study, profile: str | None) -> Study:
    """The study with another profile's local training."""
    if profile is None:
        return study
    return study.model_copy(update={"training": Profile.load(profile).training})


def _write(out: Path, adapter: Adapter, charter: bytes, found: Adapted, start: str, seed: int) -> None:
    """Write the folder whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        adapter.save(staging)
        (staging / CHARTER_FILE).write_bytes(charter)
        facts = {"adapted_from": start, "seed": seed, **found.as_dict()}
        (staging / ADAPTED_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        staging.replace(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
