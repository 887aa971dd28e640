"""How large a run of the attacks is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AttackOptions"]


@dataclass(frozen=True)
class AttackOptions:
    """Sizes of a run; all of them stand in the result file.

    Args:
        site_count: Hospitals of the federation; the first one is the victim.
        pool: Sentences of each hospital that a fair coin by patient puts into the training or leaves out.
        per_note: Sentences of a note that are used, so that there are many patients.
        rounds: Rounds of every training.
        draws: Trainings with other coins; each is attacked with the others as references.
        repetitions: Notes that hold a planted secret.
        secrets_each: Secrets of each kind and number of repetitions.
        labels: Words of a secret of labels; all combinations of their types are ranked.
        alternatives: Other values that a secret of words is ranked among.
        canaries: Canary patients with a coin each, for the bound on epsilon.
        canary_notes: Notes of each canary patient.
        epsilons: Budgets by patient over all rounds; each is trained once.
        delta: Of the budgets, as a charter writes it.
        steps: Steps of a private round.
        sampling_micro: Rate at which a patient is drawn into a private step, in millionths.
        batch_units: What a private step's sum is divided by.
        batches: Sentences of a step whose gradient is inverted.
        federations: Sites of an aggregate that is inverted.
        poisoned_rounds: Rounds in which one site lies.
        test: Test sentences of each hospital for the F1 after poisoning.
    """

    site_count: int = 4
    pool: int = 240
    per_note: int = 3
    rounds: int = 8
    draws: int = 4
    repetitions: tuple[int, ...] = (1, 4, 16)
    secrets_each: int = 3
    labels: int = 4
    alternatives: int = 255
    canaries: int = 96
    canary_notes: int = 4
    epsilons: tuple[float, ...] = (8.0, 2.0)
    delta: str = "1e-5"
    steps: int = 10
    sampling_micro: int = 250_000
    batch_units: int = 20
    batches: tuple[int, ...] = (1, 2, 4, 16)
    federations: tuple[int, ...] = (2, 3, 5, 10)
    poisoned_rounds: int = 2
    test: int = 60

    @classmethod
    def quick(cls) -> AttackOptions:
        """Minutes on one core."""
        return cls(
            site_count=3,
            pool=48,
            rounds=4,
            draws=2,
            repetitions=(1, 16),
            secrets_each=1,
            labels=3,
            alternatives=31,
            canaries=24,
            canary_notes=2,
            epsilons=(8.0,),
            steps=5,
            batch_units=12,
            batches=(1, 4),
            poisoned_rounds=1,
            test=12,
        )
