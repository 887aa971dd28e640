"""Noise inside the masks: fitted to a budget, and priced where a charter is read (PROTOCOL §4.14)."""

from __future__ import annotations

import math
from typing import Any

from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.site_noise import SiteNoise, noise_finder
from fedmedlora_core.config import parse_table
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.profile import Profile
from fedmedlora_core.site_noise import SiteNoiseTerms, fitted
from fedmedlora_core.study import Study

__all__ = [
    "SiteBudget",
    "check_site_noise_budget",
    "site_budget_of",
    "site_noise_facts",
    "site_noise_lines",
    "with_site_noise",
]


class SiteBudget:
    """What a study may cost each of its hospitals, as its author asks for it.

    Args:
        epsilon: Over all rounds.
        delta: As text, such as "1e-5".
        clip: Largest L2 norm of an update, instead of the profile's; None keeps that.
    """

    def __init__(self, epsilon: float, delta: str, clip: float | None = None) -> None:
        """Keep the numbers in the units of a charter."""
        self.epsilon_milli, self.delta = math.floor(epsilon * 1000), delta
        self._clip = clip

    @property
    def overrides(self) -> dict[str, object]:
        """What else of a profile has to change: weights become constants (R4.14.1)."""
        found: dict[str, object] = {"aggregation__size_exponent_milli": 0}
        if self._clip is not None:
            found["secure_aggregation__clip_norm_micro"] = round(self._clip * 1e6)
        return found


def with_constant_weights(profile: Profile, budget: SiteBudget | None) -> Profile:
    """Change what of a profile has to change for a budget; nothing without one."""
    if budget is None:
        return profile
    # Every honest weight is this one: nobody can declare a larger.
    return profile.override(**budget.overrides, aggregation__weight_max=profile.aggregation.weight_scale)


def site_budget_of(epsilon: float | None, delta: str, clip: float | None) -> SiteBudget | None:
    """Read the options of `study new`; None asks for no noise.

    Raises:
        ConfigError: A clip without a budget, or one that is no number above 0.
    """
    if epsilon is None:
        if clip is not None:
            raise ConfigError("--site-clip belongs to --site-epsilon")
        return None
    if not math.isfinite(epsilon) or not (clip is None or 1e-6 <= clip < 1e9):
        raise ConfigError("--site-epsilon and --site-clip are numbers above 0")
    return SiteBudget(epsilon, delta, clip)


def with_site_noise(study: Study, budget: SiteBudget) -> Study:
    """Give a charter the noise that keeps all its rounds within a budget.

    Raises:
        ConfigError: The budget makes no sense, or the ring is too narrow for it.
    """
    table = study.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        trial = SiteNoiseTerms(
            delta=budget.delta, epsilon_milli=budget.epsilon_milli, noise_milli=4000, value_bits=1
        )
        finder = noise_finder(table, epsilon_milli=trial.epsilon_milli, delta=trial.delta)
    except AuditError as error:
        raise ConfigError(f"site_noise: {error.sentence}") from None
    except ValueError:
        raise ConfigError(
            "a site's epsilon lies between 0.001 and 32, and its delta is written like 1e-5"
        ) from None
    terms = fitted(study, delta=trial.delta, epsilon_milli=trial.epsilon_milli, noise_for=finder)
    table["site_noise"] = terms.model_dump(mode="json")
    return parse_table(table, Study, name="study")


def check_site_noise_budget(study: Study) -> None:
    """Refuse a charter whose rounds cost more than it allows (R4.14.6).

    Raises:
        ConfigError: With both figures.
    """
    noise = _noise(study)
    if noise is None:
        return
    try:
        noise.need_budget()
    except AuditError as error:
        raise ConfigError(error.sentence) from None


def site_noise_facts(study: Study) -> dict[str, Any] | None:
    """Say what the noise of a charter costs.

    Returns:
        epsilon_milli of all rounds and of one, at the charter's delta; replaced_epsilon_milli of all rounds
        against a neighbour with another update instead of none; contributors whose noise is counted on;
        sensitivity_quanta and noise_milli_quanta; noise_to_update, how long the expected noise of an average
        of all members is beside the longest update. None without noise.
    """
    noise = _noise(study)
    if noise is None:
        return None
    average = math.sqrt(noise.values / noise.members) * noise.noise_milli / 1000
    longest = noise.sensitivity - math.isqrt(noise.values - 1) - 1
    return {
        "epsilon_milli": noise.cost_milli(noise.rounds),
        "round_epsilon_milli": noise.cost_milli(1),
        "replaced_epsilon_milli": noise.replaced_milli(noise.rounds),
        "contributors": noise.contributors,
        "sensitivity_quanta": noise.sensitivity,
        "noise_milli_quanta": noise.noise_milli,
        "noise_to_update": round(average / longest, 3),
    }


def site_noise_lines(study: Study) -> list[str]:
    """Say it in a few lines; none without noise."""
    noise, facts = _noise(study), site_noise_facts(study)
    if noise is None or facts is None:
        return []
    replaced = facts["replaced_epsilon_milli"]
    against = "no finite epsilon" if replaced is None else f"epsilon {replaced / 1000:.3f}"
    spent = f"{noise.said(noise.rounds)}, one round {facts['round_epsilon_milli'] / 1000:.3f}"
    longer = f"{facts['noise_to_update']:g} times as long as the longest update"
    return [
        f"site noise: {spent}; sized for {noise.contributors} honest sites in every sum",
        f"site noise: against a site with another update instead of none: {against}",
        f"site noise: with all {noise.members} members the noise of an average is about {longer}",
    ]


def _noise(study: Study) -> SiteNoise | None:
    return SiteNoise.from_charter(study.model_dump(mode="json", by_alias=True, exclude_none=True))
