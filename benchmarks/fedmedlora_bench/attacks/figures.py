"""From what the jobs of one seed left to the rows of the result: pure arithmetic, nothing is trained here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmedlora_bench.attacks.epsilon_bound import best_bound
from fedmedlora_bench.attacks.ranking import Interval, auc, bootstrap, chance_exposure, true_positives_at

__all__ = ["audit_row", "exposure_rows", "membership_rows"]

Floats = NDArray[np.float64]
Losses = Mapping[str, Any]
"""Result of a `Losses` job."""
_FALSE_POSITIVES = 0.01
_GUESSED_SHARES = (0.25, 0.5, 1.0)


def exposure_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mean exposure and extraction by kind of secret and number of repetitions."""
    groups: defaultdict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for secret in found["secrets"]:
        groups[secret["kind"], secret["repetitions"]].append(secret)
    return [
        {
            "kind": kind,
            "repetitions": count,
            "secrets": len(own),
            "exposure_bits": fmean(secret["exposure_bits"] for secret in own),
            "most_bits": float(np.log2(own[0]["alternatives"] + 1)),
            "chance_bits": chance_exposure(own[0]["alternatives"]),
            "extracted": fmean(secret["extracted"] for secret in own),
        }
        for (kind, count), own in groups.items()
    ]


def membership_rows(
    targets: Sequence[Losses], base: Losses, references: Sequence[Losses], *, sites: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Membership inference on patients: by loss, and by loss against the base model and other trainings.

    Args:
        targets: Losses under each attacked adapter, one for each draw of coins.
        base: Losses under the untrained adapter.
        references: Losses under adapters of other coins; those that a patient was in are not used for it.
        sites: Whose patients are asked about.
        seed: Of the intervals' draws.
    """
    members: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    others: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    untrained = _by_patient(base, sites)
    for target in targets:
        means = [_by_patient(reference, sites) for reference in references if reference is not target]
        for patient, (own, is_member) in _by_patient(target, sites).items():
            out = [mean[patient][0] for mean in means if not mean[patient][1]]
            scores = {"loss": -own, "against the base model": untrained[patient][0] - own}
            if out:
                scores["against other trainings"] = fmean(out) - own
            for attack, score in scores.items():
                (members if is_member else others)[attack][patient].append(score)
    return [
        _membership_row(attack, _units(members[attack]), _units(others[attack]), seed)
        for attack in members
        if attack in others
    ]


def _membership_row(
    attack: str, members: Sequence[Floats], others: Sequence[Floats], seed: int
) -> dict[str, Any]:
    def low_rate(positives: Floats, negatives: Floats) -> float:
        return true_positives_at(positives, negatives, _FALSE_POSITIVES)

    area: Interval = bootstrap(auc, members, others, seed=seed)
    rate: Interval = bootstrap(low_rate, members, others, seed=seed)
    return {
        "attack": attack,
        "members": sum(map(len, members)),
        "others": sum(map(len, others)),
        "auc": area.as_table(),
        "tpr_at_1_percent_fpr": rate.as_table(),
        "at_chance": area.covers(0.5),
    }


def audit_row(losses: Losses, base: Losses, *, delta: float) -> dict[str, Any]:
    """Lower bound on epsilon from the canaries' coins.

    A canary's score is what of its advantage the untrained adapter's does not predict, by a straight line
    through all canaries: little of that is left after a long training, and nearly all after a noisy one. The
    line knows no coin, so the bound holds as it does for any score.

    Args:
        losses: Under the attacked adapter.
        base: Under the untrained one.
        delta: Of the claim.
    """
    before = {canary["canary"]: float(canary["advantage"]) for canary in base["canaries"]}
    canaries = losses["canaries"]
    advantages = np.asarray([float(canary["advantage"]) for canary in canaries])
    line = np.stack([np.ones(len(canaries)), [before[canary["canary"]] for canary in canaries]], axis=1)
    scores = np.round(advantages - line @ np.linalg.lstsq(line, advantages, rcond=None)[0], 9)  # nats
    coins = np.asarray([bool(canary["in"]) for canary in canaries])
    counts = sorted({max(2, round(share * len(canaries))) for share in _GUESSED_SHARES})
    bound = best_bound(scores, coins, delta=delta, guess_counts=counts)
    return {
        "canaries": len(canaries),
        "guesses": bound.guesses,
        "right": bound.right,
        "epsilon_at_least": bound.epsilon,
        "confidence": 0.95,
        "delta": delta,
        "auc": auc(scores[coins], scores[~coins]) if coins.any() and not coins.all() else 0.5,
    }


def _by_patient(losses: Losses, sites: Sequence[str]) -> dict[str, tuple[float, bool]]:
    """Mean loss of a patient's sentences, and whether it was in."""
    return {
        patient["patient"]: (fmean(patient["losses"]), bool(patient["in"]))
        for patient in losses["patients"]
        if patient["site"] in sites and patient["losses"]
    }


def _units(scores: Mapping[str, Sequence[float]]) -> list[Floats]:
    return [np.asarray(own, dtype=np.float64) for own in scores.values()]
