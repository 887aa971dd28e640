"""The federation that is attacked: whose notes are trained on is decided by coins, and secrets stand in them.

Every patient of every hospital, and every canary patient of the first one, is in or out by a fair coin of the
draw; planted secrets are always in. So one training serves all attacks on what is released.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from fedmedlora_bench.attacks.options import AttackOptions
from fedmedlora_bench.attacks.planted import Secret, coin_canaries, planted_secrets
from fedmedlora_bench.cohorts import SizeLimits
from fedmedlora_bench.ie.setting import Prepared, Setting, prepare, profile_text
from fedmedlora_bench.private_budget import within_budget
from fedmedlora_core.learning.digest import base_digest
from fedmedlora_core.privacy_terms import PrivacyTerms
from fedmedlora_core.profile import Profile
from fedmedlora_core.records import Note
from fedmedlora_core.splits import Splits
from fedmedlora_core.study import Study

__all__ = ["Victim", "attack_setting", "is_in", "private_terms", "victim_of"]

_WHOLE = 0.7
"""Share of a hospital's sentences that are training notes; the pool is cut out of them."""
_SPARE = 2.4
"""Cut notes leave sentences over."""


def attack_setting(base: Path, options: AttackOptions, *, seed: int, kind: str) -> Setting:
    """The setting of one seed: entities only, since relations show the same words again.

    Weights are equal: a private study's must be (R4.13.2), and both have to be compared.
    """
    profile = Profile.load("tiny" if kind == "causal" else "encoder").override(
        labels__tasks=["ner"],
        training__rounds=options.rounds,
        aggregation__size_exponent_milli=0,
        aggregation__tau_milli=0,
    )
    return Setting(
        cohort="clinic",
        data="",
        data_digest="",
        base=str(base.resolve()),
        base_digest=base_digest(base),
        profile=profile_text(profile),
        seed=seed,
        limits=SizeLimits(train=options.pool, validation=16, test=options.test, per_note=options.per_note),
        site_count=options.site_count,
        sentences=round(options.pool / _WHOLE * _SPARE) + 4 * options.test,
    )


def is_in(seed: int, draw: int, unit: str) -> bool:
    """The coin of a unit in a draw."""
    return bool(hashlib.sha256(f"coin|{seed}|{draw}|{unit}".encode()).digest()[0] & 1)


def private_terms(options: AttackOptions, epsilon: float) -> PrivacyTerms:
    """The mechanism whose cost over all rounds is within epsilon; its claim is what the accountant gives."""
    terms = PrivacyTerms(
        unit="patient",
        delta=options.delta,
        epsilon_milli=round(1000 * epsilon),
        noise_milli=1,
        clip_micro=1_000_000,
        sampling_micro=options.sampling_micro,
        steps=options.steps,
        batch_units=options.batch_units,
    )
    return within_budget(terms, epsilon, rounds=options.rounds)


@dataclass(frozen=True)
class Victim:
    """One seed's hospitals, with what is planted in the first one.

    Args:
        prepared: Study, model and notes.
        options: Sizes.
        seed: Of coins and secrets.
    """

    prepared: Prepared
    options: AttackOptions
    seed: int

    @property
    def site(self) -> str:
        """The attacked hospital."""
        return next(iter(self.prepared.sites))

    @property
    def annotated(self) -> frozenset[str]:
        """Types that it annotates."""
        return self.prepared.sites[self.site].train[0].annotated

    @cached_property
    def secrets(self) -> tuple[Secret, ...]:
        """Planted secrets; always trained on."""
        chosen = self.options
        return planted_secrets(
            seed=self.seed,
            repetitions=chosen.repetitions,
            each=chosen.secrets_each,
            labels=chosen.labels,
            annotated=self.annotated,
        )

    @cached_property
    def canaries(self) -> tuple[Secret, ...]:
        """Canary patients, each with a coin."""
        chosen = self.options
        return coin_canaries(
            seed=self.seed,
            count=chosen.canaries,
            notes=chosen.canary_notes,
            labels=chosen.labels,
            annotated=self.annotated,
        )

    def patients(self, site: str) -> Mapping[str, Sequence[Note]]:
        """Natural patients of a hospital's pool, and their notes."""
        found: defaultdict[str, list[Note]] = defaultdict(list)
        for note in self.prepared.sites[site].train:
            found[f"{site}|{note.patient_key}"].append(note)
        return found

    def drawn(self, draw: int) -> dict[str, Splits]:
        """What each hospital trains on in a draw."""
        found = {}
        for site, splits in self.prepared.sites.items():
            notes = [
                note
                for patient, own in self.patients(site).items()
                if is_in(self.seed, draw, patient)
                for note in own
            ]
            if site == self.site:
                notes += [note for secret in self.secrets for note in secret.notes()]
                notes += [
                    note
                    for canary in self.canaries
                    if is_in(self.seed, draw, canary.id)
                    for note in canary.notes()
                ]
            found[site] = replace(splits, train=tuple(notes))
        return found

    def study(self, epsilon: float | None) -> Study:
        """The study, private or not."""
        study = self.prepared.made.study
        if epsilon is None:
            return study
        return study.model_copy(update={"privacy": private_terms(self.options, epsilon)})


@lru_cache(maxsize=2)
def victim_of(setting: Setting, options: AttackOptions) -> Victim:
    """Generate one seed's hospitals; kept for the next job in this process."""
    return Victim(prepare(setting), options, setting.seed)
