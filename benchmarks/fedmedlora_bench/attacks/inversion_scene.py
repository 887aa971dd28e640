"""What the hospitals of an inversion send, and how well the attacker reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmedlora_bench.attacks import inversion
from fedmedlora_bench.attacks.inversion import shared_tokens, tokens_of
from fedmedlora_bench.attacks.options import AttackOptions
from fedmedlora_bench.attacks.ranking import auc, bootstrap, mean_interval, recall_at_precision
from fedmedlora_bench.cohorts import cut_notes
from fedmedlora_bench.ie.setting import Setting, prepare
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.clinic import HOSPITAL_IDS, generate_hospital
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.site_round import train_round
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.records import Note
from fedmedlora_core.study import Study

__all__ = ["Scene"]

Floats = NDArray[np.float64]
Update = NDArray[np.float32]
_SENTENCES = 64
"""Of each hospital beside the attacked one."""
_WARM = 12
"""Notes of the last hospital that the adapter has learned from before, so that B is not zero."""
_PRECISION = 0.9
_UNIFORM = 2


@dataclass(frozen=True)
class Scene:
    """Hospitals, their examples, and the adapter that the attacked round starts from.

    Args:
        study: Encoding and training.
        learner: The model.
        adapter: Base adapter of the round.
        notes: Hospital to its notes, the attacked one first.
        examples: Hospital to its training examples, one sentence each.
        seed: Of draws.
    """

    study: Study
    learner: Learner
    adapter: Adapter
    notes: dict[str, Sequence[Note]]
    examples: dict[str, list[Any]]
    seed: int
    _sent: dict[tuple[str, int], NDArray[np.uint32]] = field(default_factory=dict)
    _clipped: dict[tuple[str, int], Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, setting: Setting, options: AttackOptions) -> Scene:
        """Generate the hospitals of the largest federation, and warm the adapter up where that is needed."""
        prepared = prepare(setting)
        learner, study, start = prepared.learner, prepared.made.study, prepared.made.initial
        count = max(*options.federations, 3)
        victim = next(iter(prepared.sites))
        notes: dict[str, Sequence[Note]] = {victim: cut_notes(prepared.sites[victim].train, _SENTENCES, None)}
        for name in HOSPITAL_IDS:
            if name != victim and len(notes) < count:
                made = generate_hospital(name, seed=setting.seed, sentences=_SENTENCES)
                notes[name] = cut_notes(made, _SENTENCES, options.per_note)
        examples = {name: learner.samples(found, ("ner",)) for name, found in notes.items()}
        scene = cls(study, learner, start, notes, examples, setting.seed)
        if study.adapter.mode != "ab":
            return scene
        # With B = 0, as at the very start, there is no gradient of A that could be inverted.
        update, _ = scene.trained(_WARM, list(notes)[-1])
        warm = start.with_vector((start.vector() + update).astype(np.float32))
        return cls(study, learner, warm, notes, examples, setting.seed)

    @property
    def sites(self) -> list[str]:
        """Hospitals, the attacked one first."""
        return list(self.examples)

    @property
    def others(self) -> list[str]:
        """Two hospitals whose notes the attacker has, to see what an update of other notes looks like."""
        return self.sites[1:3]

    def batch(self, site: str, size: int | None) -> list[Any]:
        """The examples of a step, or all of them."""
        return self.examples[site][:size]

    @property
    def rounding(self) -> float:
        """Standard deviation, at most, of the encoding's rounding of one value at the largest weight."""
        return 0.5 / self.study.codec().scale

    @cached_property
    def shared(self) -> set[int]:
        """Tokens that every example of every hospital holds: the prompt's own."""
        return shared_tokens([sample for found in self.examples.values() for sample in found])

    @cached_property
    def elsewhere(self) -> Counter[int]:
        """What other hospitals write."""
        return tokens_of([s for site in self.sites[1:] for s in self.examples[site]], self.shared)

    def plain_step(self, size: int, site: str) -> Update:
        """A step's gradient as a study without masks uploads it."""
        return inversion.decoded(self.study, self.adapter, self._uploads(size, [site])[1])

    def session(self, size: int, sites: Sequence[str], number: int) -> tuple[Update, Update]:
        """The first site's masked upload and the opened sum, as the coordinator can read them."""
        upload, total = inversion.masked(
            self.study, self._uploads(size, sites), label=f"{self.seed}|{size}|{number}|{len(sites)}"
        )
        return inversion.decoded(self.study, self.adapter, upload), self._mean(total)

    def opened_sum(self, size: int, sites: Sequence[str]) -> Update:
        """The mean over some sites; that of two, which no study opens, is added up in the clear."""
        if len(sites) >= 3:
            return self.session(size, sites, 0)[1]
        uploads = list(self._uploads(size, sites).values())
        return self._mean(np.add.reduce(uploads, dtype=np.uint32))

    def private_step(self, size: int, multiplier: float, site: str, number: int) -> Update:
        """A private step: every example's gradient clipped to norm 1, their sum with noise, divided."""
        draws = np.random.default_rng([self.seed, size, round(1000 * multiplier), number, *site.encode()])
        if (site, size) not in self._clipped:
            rows = [
                inversion.clipped_gradient(self.learner, self.adapter, [sample])
                for sample in self.batch(site, size)
            ]
            self._clipped[site, size] = np.sum(rows, axis=0, dtype=np.float64)
        total = self._clipped[site, size]
        return np.asarray((total + draws.normal(0.0, multiplier, total.shape)) / size, dtype=np.float32)

    def trained(self, sentences: int | None, site: str) -> tuple[Update, float]:
        """Update of one round by AdamW on some sentences, and the rate of its first step."""
        update = train_round(
            self.learner,
            self.study,
            self.adapter,
            train=cut_notes(self.notes[site], sentences, None),
            validation=self.notes[site][-1:],
            round_number=1,
            seed=self.seed,
        )
        return update.delta, TrainTerms.of(self.study, 1).rate(0, update.steps)

    def row(
        self,
        case: str,
        size: int | None,
        sent: Update,
        others: Sequence[Update],
        *,
        sites: int = 1,
        adam_rate: float | None = None,
        rounded: bool = False,
    ) -> dict[str, Any]:
        """Attack what was sent, and say how it went.

        Args:
            case: Its name.
            size: Sentences of each site; None for all.
            sent: What the attacker has.
            others: The same of other hospitals' notes, for comparison where there is no span.
            sites: Sites in it.
            adam_rate: See `inversion.attack`.
            rounded: Whether it went through the encoding.
        """
        scores, span = self._scores(sent, others, adam_rate, self.rounding if rounded else 0.0)
        there, counted = self._there(self.sites[:1], size)
        interval = bootstrap(
            auc, _units(scores[there]), _units(scores[counted & ~there]), seed=1, resamples=400
        )
        any_site, _ = self._there(self.sites[:sites], size)
        return {
            "case": case,
            "sentences": len(self.batch(self.sites[0], size)),
            "sites": sites,
            "span": span,
            **self._recovered(scores, size),
            "recovered_of_any_site": recall_at_precision(scores[counted], any_site[counted], _PRECISION),
            "auc": interval.as_table(),
        }

    def draws_row(
        self, case: str, size: int, draws: Sequence[tuple[Update, Sequence[Update]]], *, rounded: bool
    ) -> dict[str, Any]:
        """The same of vectors that masks or noise decide: each set of them is one draw of chance.

        Args:
            case: Its name.
            size: Sentences of each site.
            draws: What was sent in each, with what it is compared with: each has its own, so that the draws
                are independent of each other.
            rounded: Whether it went through the encoding.
        """
        there, counted = self._there(self.sites[:1], size)
        found = [
            self._scores(sent, others, None, self.rounding if rounded else 0.0)[0] for sent, others in draws
        ]
        areas = [auc(scores[there], scores[counted & ~there]) for scores in found]
        rows = [self._recovered(scores, size) for scores in found]
        return {
            "case": case,
            "sentences": len(self.batch(self.sites[0], size)),
            "sites": 1,
            "span": False,
            **rows[0],
            "recovered": float(np.mean([row["recovered"] for row in rows])),
            "recovered_rare": float(np.mean([row["recovered_rare"] for row in rows])),
            "auc": mean_interval(areas).as_table(),
            "draws": len(areas),
        }

    def _recovered(self, scores: Floats, size: int | None) -> dict[str, Any]:
        """Recall at 90 % precision beside that of a guesser that goes by what other hospitals write."""
        there, counted = self._there(self.sites[:1], size)
        guessed = np.asarray([float(self.elsewhere[token]) for token in range(scores.size)])
        rare = counted & (guessed == 0)
        return {
            "tokens": int(there.sum()),
            "recovered": recall_at_precision(scores[counted], there[counted], _PRECISION),
            "rare_tokens": int((there & rare).sum()),
            "recovered_rare": recall_at_precision(scores[rare], there[rare], _PRECISION),
            "guesser_recovered": recall_at_precision(guessed[counted], there[counted], _PRECISION),
            "guesser_auc": auc(guessed[there], guessed[counted & ~there]),
        }

    def _scores(
        self, sent: Update, others: Sequence[Update], adam_rate: float | None, rounding: float
    ) -> tuple[Floats, bool]:
        scores, span = inversion.attack(
            self.learner, self.adapter, sent, adam_rate=adam_rate, rounding=rounding
        )
        if not span and len(others):
            usual = [inversion.attack(self.learner, self.adapter, other)[0] for other in others]
            scores = scores - np.mean(usual, axis=0)
        return scores, span

    def uniform(self, size: int, number: int) -> list[Update]:
        """What masked uploads look like to who knows nothing else."""
        draws = np.random.default_rng([self.seed, size, number])
        length = self.study.packing(1).count
        words = draws.integers(self.study.codec().modulus, size=(_UNIFORM, length), dtype=np.uint64)
        return [inversion.decoded(self.study, self.adapter, row.astype(np.uint32)) for row in words]

    def _there(self, sites: Sequence[str], size: int | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which tokens some sites' examples hold, and which count at all."""
        held = tokens_of([s for site in sites for s in self.batch(site, size)], self.shared)
        vocabulary = range(len(self.learner.tokenizer))
        counted = np.asarray([token not in self.shared for token in vocabulary])
        return np.asarray([token in held for token in vocabulary]), counted

    def _uploads(self, size: int, sites: Sequence[str]) -> dict[int, NDArray[np.uint32]]:
        """Encoded gradients of one step, by party; each site's is computed once."""
        for site in sites:
            if (site, size) not in self._sent:
                gradient = inversion.clipped_gradient(self.learner, self.adapter, self.batch(site, size))
                label = f"{self.seed}|{site}|{size}"
                self._sent[site, size] = inversion.encoded(self.study, self.adapter, gradient, label=label)
        return {party: self._sent[site, size] for party, site in enumerate(sites, start=1)}

    def _mean(self, total: NDArray[np.uint32]) -> Update:
        return inversion.decoded(self.study, self.adapter, total)


def _units(scores: Floats) -> list[Floats]:
    """Every token a unit of its own."""
    return list(scores[:, None])
