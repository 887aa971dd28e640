"""A federation in one process: the rounds of a study with the real encoding and the real masks, no network.

Every site trains, clips, weighs and encodes as it does behind its firewall; the sum is taken under secure
aggregation (`fedmedlora_crypto.secagg.reference`) or, with mode "none", in the clear. Both give the same
bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.best_round import BestRound
from fedmedlora_core.codec import (
    CLIPPED_PERMILLE_MAX,
    FloatVector,
    RingVector,
    clip_update,
    clipped_permille,
)
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.global_step import GlobalStep, weights_of
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.site_round import train_round
from fedmedlora_core.learning.validation import count_on_notes
from fedmedlora_core.site_noise import add_site_noise
from fedmedlora_core.splits import Splits
from fedmedlora_core.study import Study
from fedmedlora_core.validation_counts import CountLayout, ValidationCounts
from fedmedlora_crypto.secagg.reference import run_round
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Keystream
from fedmedlora_site.training import training_seed

__all__ = ["RoundFigures", "federate", "noise_of", "summed_validation"]

OnSite = Callable[[int, str], None]
"""(round, site): called when a site has trained."""


@dataclass(frozen=True)
class RoundFigures:
    """What one round cost and did; figures that a real federation would never publish in the clear.

    Args:
        round: From 1.
        weight_sum: Sum of the sites' integer weights.
        clipped: Mean share of values, over sites, that the clip changed.
        update_norm: L2 norm of the averaged update.
        validation: Counts of the new adapter over all sites' validation notes, as their masked sum gave them;
            None where no round was to be chosen.
    """

    round: int
    weight_sum: int
    clipped: float
    update_norm: float
    validation: ValidationCounts | None = None


def federate(
    study: Study,
    learner: Learner,
    initial: Adapter,
    sites: Mapping[str, Splits],
    *,
    personal: dict[str, FloatVector] | None = None,
    on_site: OnSite | None = None,
    best: BestRound | None = None,
) -> tuple[Adapter, list[RoundFigures]]:
    """Run all rounds of a study over these sites.

    Args:
        study: Its members are `sites`, in this order.
        learner: The model, reused for every site.
        initial: The study's initial adapter.
        sites: Splits of every member.
        personal: In mode "sa" the place for each site's own part, by site (`adapter_parts.with_personal`).
        on_site: Progress.
        best: Chooses among the rounds by the sum of the sites' validation counts, taken under the study's
            masks; None takes the last round.

    Returns:
        (the adapter after the last round, or the chosen one; one record for each round).

    Raises:
        ConfigError: A round is to be chosen in a study with privacy (the caller's).
    """
    if best is not None and study.privacy is not None:
        raise ConfigError("a study with privacy takes its last round: counts would be released uncharged")
    adapter, rounds = initial, []
    rule, own = GlobalStep(study, initial), {} if personal is None else personal
    state = rule.initial_state()
    for number in range(1, study.training.rounds + 1):
        encoded: dict[int, RingVector] = {}
        for party, (site, splits) in enumerate(sites.items(), start=1):
            encoded[party] = _site_vector(study, learner, adapter, site, splits, number=number, own=own)
            if on_site is not None:
                on_site(number, site)
        total = _sum(study, encoded, str(number))
        found = rule.advance(adapter.segments(), state, total, round_number=number, m=len(encoded))
        adapter, state = adapter.with_vector(found.vector), found.state
        counts = None
        if best is not None:
            counts = summed_validation(study, learner, adapter, sites, number)
            best.offer(number, adapter, counts)
        clipped = found.clipped_permille / CLIPPED_PERMILLE_MAX
        rounds.append(RoundFigures(number, found.weight_sum, clipped, found.norm, counts))
    return (adapter if best is None else best.adapter), rounds


def summed_validation(
    study: Study, learner: Learner, adapter: Adapter, sites: Mapping[str, Splits], number: int
) -> ValidationCounts:
    """Measure an adapter on every site's validation notes; only the sum of the counts is opened."""
    layout = CountLayout.of(study)
    encoded = {
        party: layout.encode(count_on_notes(learner, study, adapter, splits.validation))
        for party, splits in enumerate(sites.values(), start=1)
    }
    return layout.decode(_sum(study, encoded, f"{number}|score"), voters=len(encoded))


def _site_vector(
    study: Study,
    learner: Learner,
    adapter: Adapter,
    site: str,
    splits: Splits,
    *,
    number: int,
    own: dict[str, FloatVector],
) -> RingVector:
    """Train, clip and encode at one site; what is the site's own goes to its place in `own`."""
    noise = noise_of(study, site)
    update = train_round(
        learner,
        study,
        adapter,
        train=splits.train,
        validation=splits.validation,
        round_number=number,
        seed=training_seed(study.study.seed, site, number),
        personal=own.get(site),
        noise=None if noise is None else noise(number),
    )
    if update.personal is not None:
        own[site] = update.personal
    delta, share = clip_update(
        update.delta, clip_value=study.clip_value, clip_norm=study.clip_norm, out=update.delta
    )
    weights = weights_of(
        study, site, n_notes=update.n_notes, loss=update.validation_loss, mentions=update.mentions
    )
    words = Keystream(_key("rounding", study, f"{site}|{number}"))
    rule = GlobalStep(study, adapter)
    told = 0 if study.releases_constants else clipped_permille(share)
    encoded = rule.encode(delta, weights, told, words, round_number=number)
    if study.site_noise is not None:
        add_site_noise(study, encoded, Keystream(_key("noise", study, f"{site}|{number}")).words)
    return encoded


def _sum(study: Study, encoded: Mapping[int, RingVector], session: str) -> RingVector:
    """Sum encoded vectors, under masks unless the study switches them off."""
    if study.secure_aggregation.mode == "none":
        total = np.zeros_like(next(iter(encoded.values())))
        for vector in encoded.values():
            total += vector
        return total
    terms = SessionTerms(
        sid=_key("sid", study, session),
        n=len(study.members),
        threshold=study.threshold,
        colluding=study.secure_aggregation.colluding_sites,
    )
    return run_round(terms, encoded).total


def noise_of(study: Study, site: str) -> Callable[[int], Keystream] | None:
    """A site's keystream of each round in a benchmark of private training: no adapter leaves this machine.

    Returns:
        Round to keystream; None for a study without privacy.
    """
    if study.privacy is None:
        return None
    return lambda number: Keystream(_key("noise", study, f"{site}|{number}"))


def _key(purpose: str, study: Study, name: str) -> bytes:
    """32 reproducible bytes for a benchmark; a real site's are secret."""
    return hashlib.sha256(f"bench|{purpose}|{study.digest}|{name}".encode()).digest()
