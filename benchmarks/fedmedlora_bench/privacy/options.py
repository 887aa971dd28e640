"""How large a run of `bench privacy` is."""

from __future__ import annotations

from dataclasses import dataclass

from fedmedlora_core.privacy_terms import Unit

__all__ = ["PrivacyOptions"]


@dataclass(frozen=True)
class PrivacyOptions:
    """Sizes of a run; all of them stand in the result file.

    An adapter is trained once for each budget, unit and seed: how updates are summed changes what it costs
    and what an attacker sees, not the adapter.

    Args:
        epsilons: Budgets over all rounds; None is the same training without noise and with a wide clip.
        units: Whom a budget protects.
        alone: Budgets under which every hospital also trains by itself.
        site_count: Hospitals of the synthetic clinic.
        sentences: Sentences of each hospital; a patient has about thirteen.
        per_note: Sentences of a note that are used.
        tasks: Tasks that are trained and scored.
        rounds: Rounds of every training.
        steps: Steps of a round.
        batch_units: Units of a step, on average, and what its sum is divided by.
        as_large: Noise as in hospitals so many times larger, with steps so many times larger: the same rate
            and multiplier, so the same budget, and so many times less noise in a step. What such hospitals
            would reach at least, for the processor time of these; it protects nobody here.
        rank: Rank of the adapter: noise grows with the number of values that train.
        learning_rate_micro: Highest learning rate, in millionths.
        clip_micro: Largest norm of a unit's gradient, in millionths.
        wide_clip_micro: The same where there is no noise.
        delta: Of the budgets, as a charter writes it.
        test: Test sentences of each hospital.
        members: Patients of each hospital, trained on or not, whose membership is guessed.
        site_epsilons: Budgets of whole hospitals, by noise inside the masks; scored as an upper bound.
    """

    epsilons: tuple[float | None, ...] = (None, 16.0, 8.0, 4.0, 2.0, 1.0)
    units: tuple[Unit, ...] = ("patient", "document")
    alone: tuple[float | None, ...] = (8.0,)
    site_count: int = 4
    sentences: int = 78_000
    per_note: int = 4
    tasks: tuple[str, ...] = ("ner",)
    rounds: int = 3
    steps: int = 50
    batch_units: int = 80
    as_large: int = 1
    rank: int = 4
    learning_rate_micro: int = 20_000
    clip_micro: int = 300_000
    wide_clip_micro: int = 10_000_000
    delta: str = "1e-5"
    test: int = 60
    members: int = 100
    site_epsilons: tuple[float, ...] = (8.0,)

    @classmethod
    def quick(cls) -> PrivacyOptions:
        """Minutes on one core; too little to learn much."""
        return cls(
            epsilons=(None, 8.0),
            units=("patient",),
            sentences=1500,
            rounds=2,
            steps=8,
            batch_units=16,
            test=12,
            members=20,
        )
