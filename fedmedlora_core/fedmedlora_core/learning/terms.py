"""How one round of local training goes: batches, rates, and a round's place in the study's schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

from fedmedlora_core.study import Study

__all__ = ["AS_CHARTERED", "Saving", "TrainTerms"]

_FINAL_FRACTION = 0.1


@dataclass(frozen=True)
class Saving:
    """How one site computes with less memory than the charter's batch needs, for more time.

    A training is the same one with it: a state that was kept without it is taken up with it.

    Args:
        examples: At most so many examples are computed together, which moves the last bits; 0 for the
            charter's batch.
        recompute: As in `TrainTerms`; changes no bit.
    """

    examples: int = 0
    recompute: bool = False


AS_CHARTERED: Final = Saving()
"""Nothing is saved."""


@dataclass(frozen=True)
class TrainTerms:
    """Local training of one round; a round's place in the schedule decides its learning rates.

    Args:
        local_epochs: Passes over the examples; >= 1.
        batch_size: Examples that are computed together; >= 1.
        learning_rate: Highest rate; > 0.
        warmup_steps: Steps of linear warm-up at the start of the round.
        weight_decay: Of AdamW.
        gradient_clip: Largest L2 norm of a step's gradient; > 0.
        round: This round, from 1.
        rounds: All rounds of the study.
        relation_cap: RE examples of an epoch for each NER example, drawn anew for each epoch; None for all.
            A sentence has one NER example and one RE example for each of its entities, which all show the
            same words: without a cap they take most of the time.
        relation_filled: Least share of the RE examples of an epoch that have a tail; None for as they come.
        max_steps: Stop the round after so many steps; None for whole epochs.
        schedule: "linear" falls in a straight line over all rounds of the study to a tenth; "cosine" falls
            within each round to nothing.
        warmup_fraction: Warm-up as a share of the round's steps, in place of `warmup_steps`.
        accumulation: Batches whose gradients are added up before a step; >= 1.
        recompute: Compute the activations of each layer again in the backward pass instead of keeping them.
        proximal: mu of FedProx: mu / 2 times the squared distance to where the round began is added to the
            loss of every step; 0 for none.
        saving: What this site does about its memory. It is not shown, and so in no digest of a job.
    """

    local_epochs: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 0
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    round: int = 1
    rounds: int = 1
    relation_cap: float | None = None
    relation_filled: float | None = None
    max_steps: int | None = None
    schedule: Literal["linear", "cosine"] = "linear"
    warmup_fraction: float = 0.0
    accumulation: int = 1
    recompute: bool = False
    proximal: float = 0.0
    saving: Saving = field(default=AS_CHARTERED, repr=False)

    @classmethod
    def of(cls, study: Study, round_number: int, saving: Saving = AS_CHARTERED) -> TrainTerms:
        """Terms of one round of a study, at a site that saves memory so."""
        terms = study.training
        return cls(
            local_epochs=terms.local_epochs,
            batch_size=terms.batch_size,
            learning_rate=terms.learning_rate_micro / 1e6,
            warmup_steps=terms.warmup_steps,
            weight_decay=terms.weight_decay_micro / 1e6,
            gradient_clip=terms.gradient_clip_micro / 1e6,
            round=round_number,
            rounds=terms.rounds,
            relation_cap=terms.relation_cap_percent / 100 if terms.relation_cap_percent else None,
            relation_filled=terms.relation_filled_percent / 100 if terms.relation_filled_percent else None,
            schedule=terms.schedule or "linear",
            warmup_fraction=(terms.warmup_percent or 0) / 100,
            accumulation=terms.gradient_accumulation_steps or 1,
            recompute=bool(terms.gradient_checkpointing),
            proximal=(terms.proximal_micro or 0) / 1e6,
            saving=saving,
        )

    @property
    def together(self) -> int:
        """Examples that are computed together here."""
        return min(self.batch_size, self.saving.examples or self.batch_size)

    @property
    def recomputes(self) -> bool:
        """Whether activations are computed again here: the charter or the site asks for it."""
        return self.recompute or self.saving.recompute

    @property
    def step_size(self) -> int:
        """Examples of one step of the optimiser."""
        return self.batch_size * self.accumulation

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step `step` (from 0) of the `steps` of this round."""
        warm = self.warmup_steps or math.ceil(self.warmup_fraction * steps)
        warmup = min(1.0, (step + 1) / warm) if warm else 1.0
        if self.schedule == "cosine":
            past = max(0, step - warm) / max(1, steps - warm)
            return self.learning_rate * warmup * 0.5 * (1.0 + math.cos(math.pi * past))
        progress = (self.round - 1 + step / steps) / self.rounds
        return self.learning_rate * warmup * (1.0 - (1.0 - _FINAL_FRACTION) * progress)
