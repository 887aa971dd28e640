"""Strategies in runs of real processes over loopback TLS: masks, kills, a bundle that passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.reports import export_bundle, status
from fedmedlora_coordinator.settings import Timing
from fedmedlora_coordinator.store import read_entries
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.codec import clip_update
from fedmedlora_site.training import training_seed
from fedmedlora_testkit.rehearsal import Federation, finish

pytestmark = pytest.mark.slow

Floats = np.ndarray[Any, Any]
ADAM = {"optimiser": "adam", "beta1_milli": 900, "beta2_milli": 990, "adaptivity_micro": 1000}
PATIENT = Timing(
    grace_seconds=20, ready_grace_seconds=20, abort_seconds=40, step_seconds=60, training_seconds=60
)


def average(federation: Federation, number: int) -> Floats:
    """The float64 weighted mean of what the rehearsing hospitals draw in a round."""
    study, total, weights = federation.study, 0.0, 0
    for site in federation.ids:
        generator = np.random.Generator(np.random.PCG64(training_seed(study.study.seed, site, number)))
        delta = generator.normal(0.0, 0.004, study.update_dimension(number)).astype(np.float32)
        loss = float(generator.uniform(0.2, 0.6))
        clipped, _ = clip_update(delta, clip_value=study.clip_value, clip_norm=study.clip_norm)
        weight = study.weight_rule().weight_of(n_notes=6, loss=loss)
        total, weights = total + clipped.astype(np.float64) * weight, weights + weight
    return np.asarray(total / weights)


def check_verdict(federation: Federation, bundle: Path) -> None:
    export_bundle(federation.coordinator_root, bundle)
    terms = CharterTerms.from_json(federation.study.canonical_json())
    genesis = leaf_hash(read_entries(federation.coordinator_root / "store.sqlite")[0].note)
    verdict = verify_bundle(bundle, Trust.from_terms(terms, genesis=genesis))
    assert verdict.verdict == "pass", {k: c for k, c in verdict.checks.items() if c.result == "fail"}


def check_end(federation: Federation, rounds: int, bundle: Path) -> Adapter:
    """Every site and the coordinator hold one adapter; the bundle passes. Returns the adapter."""
    found = status(federation.coordinator_root)
    assert (found["closed"], found["run_closed"]) == (rounds, True)
    released = Adapter.load(federation.coordinator_root / "released")
    for site in federation.ids:
        newest = max((federation.site_root(site) / "run" / "adapters").glob("base-*"))
        assert Adapter.load(newest).digest == released.digest == found["released"]
    check_verdict(federation, bundle)
    return released


def test_fedadam_survives_the_kill_of_the_coordinator_and_of_a_site(tmp_path: Path) -> None:
    """R4.9.5: both come back in the middle of the second round and go on from the state of the first."""
    federation = Federation.build(
        tmp_path,
        rounds=3,
        timing=PATIENT,
        changes={"aggregation": {"server": ADAM, "server_learning_rate_milli": 10}},
    )
    centre = federation.coordinator("die_at='aggregate:2:after'")
    steady = [federation.site(site) for site in federation.ids[:3]]
    killed = federation.site(federation.ids[3], "die_at='aggregate:2'")
    assert finish(centre) == -9
    centre = federation.coordinator()
    assert finish(killed) == -9
    back = federation.site(federation.ids[3])
    assert [finish(process) for process in (*steady, back, centre)] == [0] * 5
    released = check_end(federation, 3, tmp_path / "bundle")
    x = federation.adapter.vector().astype(np.float64)
    m, v = np.zeros_like(x), np.full_like(x, 1e-6)
    for number in (1, 2, 3):
        delta = average(federation, number)
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        x = x + 0.01 * m / (np.sqrt(v) + 0.001)
    assert float(np.abs(released.vector() - x).max()) < 1e-5
    plain = federation.adapter.vector() + sum(average(federation, number) for number in (1, 2, 3))
    assert float(np.abs(released.vector() - plain).max()) > 1e-3
