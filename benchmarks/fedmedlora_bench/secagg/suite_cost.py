"""What the post-quantum half of the key agreement costs a site: both suites on the same small session."""

from __future__ import annotations

import secrets
from dataclasses import replace
from statistics import median
from typing import Any

from fedmedlora_bench.secagg.case import Case
from fedmedlora_bench.secagg.ours import CoordinatorWork, SiteWork, exchange_of, terms_of
from fedmedlora_crypto.secagg import HYBRID_SUITE, MASKED_SUITE

SUITES = {"x25519": MASKED_SUITE, "hybrid": HYBRID_SUITE}
_PASSES = 5


def suite_cost(case: Case) -> dict[str, Any]:
    """Measure keys and shares of a site under both suites, `_PASSES` times in turn.

    Returns:
        For each suite seconds and bytes of one site, the mean over the sites and the median over the
        passes.
    """
    passes: dict[str, list[dict[str, float]]] = {name: [] for name in SUITES}
    for _ in range(_PASSES):
        for name, suite in SUITES.items():
            passes[name].append(_one_pass(replace(case, suite=suite)))
    return {
        name: {key: median(one[key] for one in found) for key in found[0]} for name, found in passes.items()
    }


def _one_pass(case: Case) -> dict[str, float]:
    terms = terms_of(case, secrets.token_bytes(32))
    sites = {i: SiteWork(case, terms, i) for i in range(1, case.sites + 1)}
    exchange = exchange_of(sites, CoordinatorWork(case, terms))
    for site in sites.values():
        site.fix(exchange.shares)
    parts = [site.watch.parts["wall"] for site in sites.values()]
    return {
        "keys_seconds": sum(part["keys"] for part in parts) / case.sites,
        "shares_seconds": sum(part["shares"] for part in parts) / case.sites,
        "keys_bytes": len(exchange.keys[1]),
        "shares_bytes": sum(map(len, exchange.shares.values())) / case.sites,
    }
