"""How large a run is: rounds, sentences, hospitals, and the points of its curves."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedmedlora_bench.cohorts import SizeLimits

__all__ = ["IeOptions"]


@dataclass(frozen=True)
class IeOptions:
    """Size of a run; the defaults of `quick` finish in minutes on one core.

    Args:
        rounds: Rounds of every system; None as in the profile.
        limits: How much of each site is used.
        site_count: Hospitals of the synthetic clinic that train.
        sentences: Sentences of each synthetic hospital.
        secure: "masks" or "none"; the averages are the same bytes.
        relation_cap_percent: RE examples of an epoch for each hundred NER examples; None as in the profile.
        choose_round: Keep the round with the best validation F1 (of a federation: from the masked sum of
            its counts) instead of the last one.
        few_notes: Labelled notes of the new site, one point of the curve each.
        even_steps_notes: A point of the curve with fewer notes gets as many more epochs, so that every system
            of scenario new_site takes the steps of at least so many notes.
        site_counts: Sizes of the federation in scenario sites.
        spread_sentences: Training sentences of all hospitals together there, shared out evenly.
    """

    rounds: int | None = None
    limits: SizeLimits = field(default_factory=SizeLimits)
    site_count: int = 4
    sentences: int = 540
    secure: str = "masks"
    relation_cap_percent: int | None = None
    choose_round: bool = True
    few_notes: tuple[int, ...] = (10, 25, 50, 100)
    even_steps_notes: int = 50
    site_counts: tuple[int, ...] = (3, 5, 10)
    spread_sentences: int = 2400

    @classmethod
    def quick(cls, *, corpora: bool) -> IeOptions:
        """Smaller sites: minutes on one core."""
        if corpora:
            limits = SizeLimits(train=160, validation=16, test=48, per_note=8)
            return cls(rounds=8, limits=limits, few_notes=(10, 25))
        limits = SizeLimits(train=240, validation=24, test=80)
        return cls(limits=limits, relation_cap_percent=100, few_notes=(10, 25), spread_sentences=1000)

    @classmethod
    def full(cls, *, corpora: bool) -> IeOptions:
        """All notes of the clinic; of each corpus 1,200 training sentences."""
        return cls(limits=SizeLimits(train=1200, validation=30, test=300, per_note=16)) if corpora else cls()
