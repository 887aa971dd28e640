"""One lying site among honest ones: what it does to the F1, and what the checks of a study leave of that.

The liar sends what it likes as long as it is a vector of the ring. Checks are those of a real study:

* nothing: a plain weighted mean that believes any weight;
* clip: the liar's software clips its update and its weight, as `clip_update` and the ring do;
* bounds: everybody checks the sum (`check_aggregate`): a sum that honest sites cannot give is refused;
* vote: beside the bounds, the sites vote on held-out notes, in a masked sum; a majority takes the round back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedmedlora_bench.attacks.options import AttackOptions
from fedmedlora_bench.attacks.releases import Release, adapter_of
from fedmedlora_bench.attacks.victim import Victim, victim_of
from fedmedlora_bench.grid import job_key
from fedmedlora_bench.ie.setting import Setting
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.codec import RingVector, clip_update
from fedmedlora_core.errors import AggregateBoundError, CodecError
from fedmedlora_core.global_step import GlobalStep, SiteWeights, weights_of
from fedmedlora_core.learning.evaluate import predict_entities
from fedmedlora_core.learning.lora import load_adapter
from fedmedlora_core.learning.site_round import held_out_losses, train_round
from fedmedlora_core.records import Note
from fedmedlora_core.scores import score_entities
from fedmedlora_core.splits import Splits
from fedmedlora_core.study import Study
from fedmedlora_core.vote import count_votes, encode_vote, is_worse
from fedmedlora_crypto.secagg.reference import run_round
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Keystream
from fedmedlora_site.training import training_seed

__all__ = ["CHECKS", "LIES", "Poisoning"]

Update = NDArray[np.float32]
Check = Literal["nothing", "clip", "bounds", "vote"]
CHECKS: tuple[Check, ...] = ("nothing", "clip", "bounds", "vote")
LIES = ("none", "wrong labels", "wrong labels x30", "sign flipped x30", "noise at the bound", "scaled x10000")
_UNCLAMPED = 1000
"""Times the honest weight that a liar declares where nobody clamps it."""
_MARGIN_MILLI = 20


@dataclass(frozen=True)
class Poisoning:
    """Let the last site lie in one way, under every check.

    Args:
        setting: Hospitals and study.
        options: Sizes.
        release: The federation whose adapter the lie begins from.
        lie: One of `LIES`.
    """

    setting: Setting
    options: AttackOptions
    release: Release
    lie: str

    @property
    def needs(self) -> tuple[Release, ...]:
        """The federation before."""
        return (self.release,)

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the figures, hex."""
        content = {"job": "attacks/Poisoning", "lie": self.lie, "release": self.release.key}
        return job_key(content | {"setting": self.setting.identity(), "options": asdict(self.options)})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        return f"poisoning, {self.lie} (seed {self.seed})"

    @property
    def size(self) -> int:
        """How long it takes, roughly."""
        return 12

    @property
    def seed(self) -> int:
        """The setting's."""
        return self.setting.seed

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Run the rounds under each check, and score what is left."""
        folder = adapter_of(self.release, work)
        assert folder is not None  # noqa: S101 # a release always leaves one # nosec B101
        start = Adapter.load(folder)
        victim = victim_of(self.setting, self.options)
        study = victim.prepared.made.study
        # Weights by size, as the profile has them: beside equal ones of 64 the largest weight is no clamp.
        aggregation = study.aggregation.model_copy(update={"size_exponent_milli": 1000})
        lied = _Lied(victim, study.model_copy(update={"aggregation": aggregation}), self.lie)
        rows = []
        for check in CHECKS:
            adapter, refused = lied.rounds(start, check, self.options.poisoned_rounds)
            rows.append({"check": check, "refused_rounds": refused, "strict_f1": lied.f1(adapter)})
        return {"lie": self.lie, "liar": lied.liar, "f1_before": lied.f1(start), "rows": rows}


@dataclass(frozen=True)
class _Lied:
    """The rounds of a federation with one liar; what honest sites do from one adapter is done once."""

    victim: Victim
    study: Study
    lie: str
    _trained: dict[tuple[str, str], tuple[Update, SiteWeights]] = field(default_factory=dict)
    _scored: dict[str, float] = field(default_factory=dict)

    @cached_property
    def sites(self) -> Mapping[str, Splits]:
        """Everybody's notes."""
        return self.victim.drawn(0)

    @property
    def liar(self) -> str:
        """The last site."""
        return list(self.sites)[-1]

    def rounds(self, start: Adapter, check: Check, count: int) -> tuple[Adapter, int]:
        """The adapter after some rounds, and how many of them were refused or taken back."""
        adapter, refused = start, 0
        for number in range(1, count + 1):
            taken = self._plain(adapter) if check == "nothing" else self._summed(adapter, check, number)
            if taken is None or (check == "vote" and self._voted_down(adapter, taken, number)):
                refused += 1
            else:
                adapter = taken
        return adapter, refused

    def f1(self, adapter: Adapter) -> float:
        """Strict F1 of entities, macro over the sites' test notes."""
        if adapter.digest not in self._scored:
            learner = self.victim.prepared.learner
            load_adapter(learner.model, adapter)
            found = []
            for splits in self.sites.values():
                predicted = predict_entities(learner, splits.test)
                found.append(
                    score_entities(splits.test, predicted.notes, labels=learner.labels).strict.micro.f1
                )
            self._scored[adapter.digest] = float(np.mean(found))
        return self._scored[adapter.digest]

    def _plain(self, adapter: Adapter) -> Adapter:
        """The weighted mean of whatever comes."""
        total, weights = np.zeros(adapter.dimension, dtype=np.float64), 0.0
        for site in self.sites:
            update, own = self._honest(adapter, site)
            weight = float(own.weight)
            if site == self.liar and self.lie != "none":
                update, weight = self._lying(adapter), weight * _UNCLAMPED
            total, weights = total + weight * update.astype(np.float64), weights + weight
        return adapter.with_vector((adapter.vector() + total / weights).astype(np.float32))

    def _summed(self, adapter: Adapter, check: Check, number: int) -> Adapter | None:
        """The step that a masked sum gives; None where the bounds refuse it."""
        rule = GlobalStep(self.study, adapter)
        vectors = {
            party: self._vector(rule, adapter, site, check) for party, site in enumerate(self.sites, 1)
        }
        total = run_round(self._terms(f"sum|{number}"), vectors).total
        try:
            found = rule.advance(adapter.segments(), None, total, round_number=1, m=len(vectors))
        except (AggregateBoundError, CodecError):
            return None
        return adapter.with_vector(found.vector)

    def _vector(self, rule: GlobalStep, adapter: Adapter, site: str, check: Check) -> RingVector:
        update, weights = self._honest(adapter, site)
        lies = site == self.liar and self.lie != "none"
        if lies:
            update, weights = self._lying(adapter), SiteWeights(self.study.aggregation.weight_max)
        words = Keystream(hashlib.sha256(f"rounding|{site}|{adapter.digest}".encode()).digest())
        clipped, _ = clip_update(update, clip_value=self.study.clip_value, clip_norm=self.study.clip_norm)
        vector = rule.encode(clipped, weights, 0, words, round_number=1)
        if lies and check != "clip":  # a liar's software clips nothing: whatever it means, modulo the ring
            quanta = np.rint(update.astype(np.float64) * self.study.codec().scale).astype(np.int64)
            vector[: update.size] = (quanta & (self.study.codec().modulus - 1)).astype(np.uint32)
        return vector

    def _honest(self, adapter: Adapter, site: str) -> tuple[Update, SiteWeights]:
        key = (adapter.digest, site)
        if key not in self._trained:
            update = self._train(adapter, site, self.sites[site].train)
            weights = weights_of(
                self.study,
                site,
                n_notes=update.n_notes,
                loss=update.validation_loss,
                mentions=update.mentions,
            )
            self._trained[key] = (update.delta, weights)
        return self._trained[key]

    def _lying(self, adapter: Adapter) -> Update:
        """What the liar sends."""
        if self.lie == "noise at the bound":
            draws = np.random.default_rng(self.victim.seed)
            signs = draws.choice([-1.0, 1.0], adapter.dimension)
            size = min(self.study.clip_value, self.study.clip_norm / np.sqrt(adapter.dimension))
            return np.asarray(0.99 * size * signs, dtype=np.float32)
        factor = float(self.lie.rpartition(" x")[2]) if " x" in self.lie else 1.0
        if self.lie.startswith("sign flipped"):
            factor = -factor
        return np.asarray(factor * self._basis(adapter), dtype=np.float32)

    def _basis(self, adapter: Adapter) -> Update:
        """What is scaled: the liar's honest update, or one that was trained on wrong labels."""
        if not self.lie.startswith("wrong labels"):
            return self._honest(adapter, self.liar)[0]
        key = (adapter.digest, "wrong labels")
        if key not in self._trained:
            notes = [_relabelled(note) for note in self.sites[self.liar].train]
            self._trained[key] = (self._train(adapter, self.liar, notes).delta, SiteWeights(1))
        return self._trained[key][0]

    def _train(self, adapter: Adapter, site: str, notes: Any) -> Any:
        middle = self.study.training.rounds // 2 + 1
        return train_round(
            self.victim.prepared.learner,
            self.study,
            adapter,
            train=notes,
            validation=self.sites[site].validation,
            round_number=middle,
            seed=training_seed(self.study.study.seed, site, middle),
        )

    def _voted_down(self, before: Adapter, after: Adapter, number: int) -> bool:
        """Whether more than half of the sites find the new adapter worse (R4.7.6); the liar never does."""
        n = len(self.sites)
        votes = {}
        for party, (site, splits) in enumerate(self.sites.items(), start=1):
            old, new = held_out_losses(
                self.victim.prepared.learner, self.study, [before, after], validation=splits.validation
            )
            lies = site == self.liar and self.lie != "none"
            worse = not lies and is_worse(before=old, after=new, margin_milli=_MARGIN_MILLI)
            votes[party] = encode_vote(worse, slot=97 * party, n=n)
        total = run_round(self._terms(f"vote|{number}"), votes).total
        return 2 * count_votes(total, voters=n, n=n) > n

    def _terms(self, purpose: str) -> SessionTerms:
        secure = self.study.secure_aggregation
        sid = hashlib.sha256(f"poisoning|{self.lie}|{purpose}|{self.study.digest}".encode()).digest()
        return SessionTerms(
            sid=sid, n=len(self.sites), threshold=secure.threshold, colluding=secure.colluding_sites
        )


def _relabelled(note: Note) -> Note:
    """The note with every type exchanged for the next one that its hospital annotates."""
    kinds = sorted({entity.type for entity in note.entities} & note.annotated) or ["problem"]
    every = [kind for kind in ("problem", "treatment", "test", "drug") if kind in note.annotated] or kinds
    following = dict(zip(every, [*every[1:], every[0]], strict=True))
    return replace(
        note,
        entities=tuple(replace(e, type=following.get(e.type, e.type)) for e in note.entities),
        relations=(),
    )
