"""Aggregation strategies by name: what each of them sets in a profile, and what a study's settings amount to.

    overrides_of(["fedmedlora+", "fedadam"])     # for `Profile.override`
    strategy_of(study)                           # "fedmedlora+, fedadam, ffa"

A strategy is one choice on one axis - weights, local training, server, what travels - so names can be joined
as long as no two of them set the same thing. The numbers are defaults; a profile may state others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import Study

STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "fedmedlora": {"aggregation__rule": "fedmedlora", "aggregation__tau_milli": 0},
    "fedmedlora+": {"aggregation__rule": "fedmedlora+", "aggregation__tau_milli": 1000},
    "fedprox": {"training__proximal_micro": 10_000},
    "fedavgm": {
        "aggregation__server": {"optimiser": "momentum", "beta1_milli": 900},
        "aggregation__server_learning_rate_milli": 300,
    },
    "fedadam": {
        "aggregation__server": {
            "optimiser": "adam",
            "beta1_milli": 900,
            "beta2_milli": 990,
            "adaptivity_micro": 1000,
        },
        "aggregation__server_learning_rate_milli": 10,
    },
    "types": {"aggregation__type_weights": "mentions"},
    "ffa": {"adapter__mode": "ffa"},
    "ab": {"adapter__mode": "ab"},
    "alternating": {"adapter__mode": "alternating"},
    "sa": {"adapter__mode": "sa"},
}
"""Name to what it overrides in a profile (`Profile.override`)."""


def overrides_of(names: Sequence[str]) -> dict[str, Any]:
    """Join the overrides of some strategies.

    Raises:
        ConfigError: There is no such strategy, or two of them set the same thing.
    """
    found: dict[str, Any] = {}
    setter: dict[str, str] = {}
    for name in names:
        if name not in STRATEGIES:
            raise ConfigError(f"there is no strategy '{name}': name some of {', '.join(STRATEGIES)}")
        for key, value in STRATEGIES[name].items():
            if key in found:
                raise ConfigError(f"the strategies '{setter[key]}' and '{name}' exclude each other")
            found[key], setter[key] = value, name
    return found


def strategy_of(study: Study) -> str:
    """Say in one line what a study does, whichever way its numbers were chosen."""
    terms, server = study.aggregation, study.aggregation.server
    found: list[str] = [terms.rule]
    if study.training.proximal_micro:
        found.append(f"fedprox (mu {study.training.proximal_micro / 1e6:g})")
    if server is not None:
        name = {"momentum": "fedavgm", "adam": "fedadam"}[server.optimiser]
        found.append(f"{name} (server rate {study.server_learning_rate:g})")
    elif terms.server_learning_rate_milli != 1000:
        found.append(f"server rate {study.server_learning_rate:g}")
    if study.weighed_types:
        found.append("types")
    found.append(study.adapter.mode)
    return ", ".join(found)
