"""Noise inside the masks in a run of real processes: in every sum, recomputed from the bundle."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.reports import export_bundle
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import read_entries
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.codec import clip_update
from fedmedlora_site.training import training_seed
from fedmedlora_testkit.rehearsal import Federation, finish

pytestmark = pytest.mark.slow

SIGMA, BITS, ROUNDS = 300_000, 20, 2


def clean(federation: Federation) -> np.ndarray[Any, Any]:
    """Where the adapter would be without noise: the rehearsing hospitals draw their updates."""
    study, found = federation.study, federation.adapter.vector().astype(np.float64)
    for number in range(1, ROUNDS + 1):
        for site in federation.ids:
            drawn = np.random.Generator(np.random.PCG64(training_seed(study.study.seed, site, number)))
            delta = drawn.normal(0.0, 0.004, found.size).astype(np.float32)
            clipped, _ = clip_update(delta, clip_value=study.clip_value, clip_norm=study.clip_norm)
            found = found + clipped / len(federation.ids)
    return np.asarray(found)


def test_every_round_carries_the_noise_of_all_sites_also_after_a_kill(tmp_path: Path) -> None:
    # R4.14.5, R4.14.7, R4.14.8
    noise = {"delta": "1e-5", "epsilon_milli": 8000, "noise_milli": 1000 * SIGMA, "value_bits": BITS}
    federation = Federation.build(
        tmp_path,
        rounds=ROUNDS,
        changes={"site_noise": noise, "aggregation": {"size_exponent_milli": 0}},
    )
    centre = federation.coordinator()
    steady = [federation.site(site) for site in federation.ids[:3]]
    killed = federation.site(federation.ids[3], "die_at='aggregate:2'")
    assert finish(killed) == -9
    back = federation.site(federation.ids[3])
    assert [finish(process) for process in (*steady, back, centre)] == [0] * 5
    released = Adapter.load(federation.coordinator_root / "released")
    sites, terms = len(federation.ids), federation.study.aggregation
    quanta = federation.study.codec().scale * terms.weight_scale / terms.weight_max
    planned = SIGMA * math.sqrt(ROUNDS / sites) / quanta
    off = released.vector() - clean(federation)
    assert abs(float(off.std()) / planned - 1) < 5 / math.sqrt(2 * off.size)

    export_bundle(federation.coordinator_root, tmp_path / "bundle")
    charter = CharterTerms.from_json(federation.study.canonical_json())
    genesis = leaf_hash(read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))[0].note)
    verdict = verify_bundle(tmp_path / "bundle", Trust.from_terms(charter, genesis=genesis))
    assert verdict.verdict == "pass"
    assert (verdict.checks["D6"].result, verdict.checks["D6"].count) == ("pass", ROUNDS)
