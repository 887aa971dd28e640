"""Differential privacy of a new study: noise for all planned rounds together, and constants for the rest."""

from __future__ import annotations

from typing import Annotated

import typer

from fedmedlora_audit.accountant import Mechanism, calibrated_noise_milli, epsilon_of, milli_of
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.privacy_terms import ORDERS, PrivacyTerms
from fedmedlora_core.profile import PrivacySettings, Profile

EpsilonOption = Annotated[
    float | None,
    typer.Option(help="Differential privacy: what all rounds together may cost; sizes the noise."),
]
DeltaOption = Annotated[str | None, typer.Option(help='Its delta, such as "1e-5".')]
UnitOption = Annotated[str | None, typer.Option(help="Who is protected: patient or document.")]
RateOption = Annotated[
    float | None, typer.Option(help="Probability with which a unit is drawn into a step, equal at all sites.")
]
StepsOption = Annotated[int | None, typer.Option(help="Steps of a round, equal at all sites.", min=1)]
ClipOption = Annotated[
    float | None, typer.Option(help="Largest norm of what one unit contributes to a step.")
]
BatchOption = Annotated[
    int | None, typer.Option(help="What a step's noisy sum is divided by, equal at all sites.", min=1)
]
DEFAULTS = {
    "unit": "patient",
    "delta": "1e-5",
    "clip_micro": 1_000_000,
    "sampling_micro": 50_000,
    "steps": 50,
    "batch_units": 16,
}
"""What `study new --dp-epsilon` takes where neither the profile nor an option says."""


NO_OPTIONS = dict.fromkeys(("epsilon", "delta", "unit", "rate", "steps", "clip", "batch_units"))
"""Arguments of `with_privacy` that leave everything to the profile."""


def with_privacy(
    profile: Profile,
    *,
    epsilon: float | None,
    delta: str | None,
    unit: str | None,
    rate: float | None,
    steps: int | None,
    clip: float | None,
    batch_units: int | None,
) -> Profile:
    """Give a profile differential privacy as the options say, with noise for its rounds (PROTOCOL §4.13).

    The noise is the least whose cost over all planned rounds is within epsilon; a profile that states its
    own noise keeps it, unless an option changes what it was made for. Weights become constants.

    Raises:
        ConfigError: An option without `--dp-epsilon` or a profile's table, or no noise is enough.
    """
    options = {
        "epsilon_milli": _scaled("--dp-epsilon", epsilon, 1000),
        "delta": delta,
        "unit": unit,
        "sampling_micro": _scaled("--dp-rate", rate, 1_000_000),
        "steps": steps,
        "clip_micro": _scaled("--dp-clip", clip, 1_000_000),
        "batch_units": batch_units,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if profile.privacy is None and epsilon is None:
        if given:
            raise ConfigError("the --dp options need --dp-epsilon, or a profile with a table privacy")
        return profile
    if profile.aggregation.tau_milli:
        raise ConfigError("weights by loss would be released beside the noise: leave 'fedmedlora+' out")
    stated = {} if profile.privacy is None else profile.privacy.model_dump(mode="json", exclude_none=True)
    if given.keys() & {"epsilon_milli", "delta", "sampling_micro", "steps"}:
        stated.pop("noise_milli", None)
    table = {**DEFAULTS, **stated, **given}
    wanted = profile.override(**{f"privacy__{name}": value for name, value in table.items()})
    settings = wanted.privacy
    if settings is None:  # pragma: no cover - it was just given
        raise ConfigError("the profile has no table privacy")
    noise = settings.noise_milli
    if noise is None or "noise_milli" not in stated:
        noise = _noise(settings, wanted.training.rounds)
    return wanted.override(
        privacy__noise_milli=noise,
        aggregation__rule="fedmedlora",
        aggregation__size_exponent_milli=0,
        aggregation__tau_milli=0,
        # Every honest weight is this one: nobody can declare a larger.
        aggregation__weight_max=profile.aggregation.weight_scale,
    )


def plan_lines(terms: PrivacyTerms, rounds: int) -> list[str]:
    """Say what a study's rounds cost and what was chosen for them."""
    cost = milli_of(plan_epsilon(terms, rounds))
    spending = (
        f"differential privacy by {terms.unit}: {rounds} round(s) cost epsilon {cost / 1000:.3f} of "
        f"{terms.epsilon_milli / 1000:g} at delta {terms.delta}"
    )
    mechanism = (
        f"noise multiplier {terms.noise_multiplier:g}, sampling rate {terms.sampling_rate:g}, {terms.steps} "
        f"steps a round, clip {terms.clip:g}, divisor {terms.batch_units}"
    )
    return [spending, mechanism]


def privacy_facts(terms: PrivacyTerms | None, rounds: int) -> dict[str, object] | None:
    """What a study's privacy is, for scripts; None without it."""
    if terms is None:
        return None
    cost = milli_of(plan_epsilon(terms, rounds))
    return {**terms.model_dump(mode="json", exclude={"orders"}), "planned_epsilon_milli": cost}


def plan_epsilon(terms: PrivacyTerms, rounds: int) -> float:
    """Epsilon of all planned rounds, each trained once."""
    step = Mechanism(terms.noise_milli, terms.sampling_micro, rounds * terms.steps)
    return epsilon_of([step], delta=float(terms.delta), orders=terms.orders)


def _noise(settings: PrivacySettings, rounds: int) -> int:
    try:
        return calibrated_noise_milli(
            epsilon=settings.epsilon_milli / 1000,
            delta=float(settings.delta),
            sampling_micro=settings.sampling_micro,
            steps=rounds * settings.steps,
            orders=settings.orders or ORDERS,
        )
    except ValueError as error:
        raise ConfigError(f"--dp-epsilon: {error}") from None


def _scaled(option: str, value: float | None, scale: int) -> int | None:
    """Write a number of an option in the charter's whole units."""
    if value is None:
        return None
    if not 0 < value < 2**53 / scale or round(value * scale) < 1:
        raise ConfigError(f"{option}: expected a number of at least {1 / scale:g}")
    return round(value * scale)
