"""Strategies in runs of real processes over loopback TLS: masks, kills, a bundle that passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.events import parse_event
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.reports import export_bundle, status
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import read_entries
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import half_of, halves_of, runs_of
from fedmedlora_core.codec import clip_update
from fedmedlora_core.errors import ConfigError
from fedmedlora_site.personal_export import export_personal
from fedmedlora_site.training import training_seed
from fedmedlora_testkit.rehearsal import Federation, finish
from fedmedlora_testkit.stored import stored_blobs

pytestmark = pytest.mark.slow

Floats = np.ndarray[Any, Any]
ADAM = {"optimiser": "adam", "beta1_milli": 900, "beta2_milli": 990, "adaptivity_micro": 1000}


def average(federation: Federation, number: int) -> Floats:
    """The float64 weighted mean of what the rehearsing hospitals draw in a round."""
    study, weights = federation.study, 0
    total: Floats = np.zeros(study.update_dimension(number))
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
    genesis = leaf_hash(read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))[0].note)
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
    plain: Floats = federation.adapter.vector() + sum(average(federation, number) for number in (1, 2, 3))
    assert float(np.abs(released.vector() - plain).max()) > 1e-3


def two_module_adapter(*, shared: tuple[str, ...]) -> Adapter:
    """An adapter with A and B of two modules, of which the named kinds belong to the study."""
    drawn = np.random.default_rng(1)
    shapes = {"a.lora_A": (4, 30), "a.lora_B": (50, 4), "b.lora_A": (4, 40), "b.lora_B": (60, 4)}
    tensors = {f"{name}.weight": drawn.normal(0, 0.1, s).astype(np.float32) for name, s in shapes.items()}
    trainable = tuple(sorted(name for name in tensors if any(kind in name for kind in shared)))
    return Adapter(tensors, trainable, {"peft_type": "LORA"})


def uploads(federation: Federation) -> dict[int, set[int]]:
    """Round to the bytes of the masked updates in it, from the log."""
    found: dict[int, set[int]] = {}
    for entry in read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite")):
        event = parse_event(entry.note).event
        if event.type == "update.submitted":
            found.setdefault(event.round or 0, set()).add(event.objects[0].bytes)
    return found


def test_alternating_sends_one_half_a_round_and_survives_kills(tmp_path: Path) -> None:
    """R4.10.2: B in the rounds 1 and 3, A in round 2, each at its own size."""
    initial = two_module_adapter(shared=("lora_A", "lora_B"))
    halves = halves_of(initial, "alternating")
    federation = Federation.build(
        tmp_path,
        rounds=3,
        adapter=initial,
        changes={"adapter": {"mode": "alternating", "halves": halves}},
    )
    centre = federation.coordinator("die_at='upload:2:before'")
    steady = [federation.site(site) for site in federation.ids[:3]]
    killed = federation.site(federation.ids[3], "die_at='aggregate:2'")
    assert finish(centre) == -9
    centre = federation.coordinator()
    assert finish(killed) == -9
    back = federation.site(federation.ids[3])
    assert [finish(process) for process in (*steady, back, centre)] == [0] * 5
    released = check_end(federation, 3, tmp_path / "bundle")
    study = federation.study
    assert halves == (280, 440)
    assert uploads(federation) == {n: {study.packing(n).total_bytes} for n in (1, 2, 3)}
    assert study.packing(2).total_bytes < 0.45 * 4 * initial.dimension
    expected = initial.vector().astype(np.float64)
    for number in (1, 2, 3):
        delta = average(federation, number)
        for first, last, at in runs_of(initial, half_of("alternating", number)):
            expected[first:last] += delta[at : at + last - first]
    assert float(np.abs(released.vector() - expected).max()) < 1e-6


def test_a_killed_site_goes_on_with_its_own_part_and_nobody_else_holds_it(tmp_path: Path) -> None:
    """R4.11.2, R4.11.3: one site dies in round 2 after its training; its B ends where it would have."""
    initial = two_module_adapter(shared=("lora_A",))
    federation = Federation.build(tmp_path, rounds=3, adapter=initial, changes={"adapter": {"mode": "sa"}})
    keep = federation.coordinator_root / "coordinator.toml"
    keep.write_text(keep.read_text().replace('"shred"', '"keep"'))
    centre = federation.coordinator()
    steady = [federation.site(site) for site in federation.ids[:3]]
    assert finish(federation.site(federation.ids[3], "die_at='train:2'")) == -9
    back = federation.site(federation.ids[3])
    assert [finish(process) for process in (*steady, back, centre)] == [0] * 5
    released = check_end(federation, 3, tmp_path / "bundle")
    assert set(uploads(federation)) == {1, 2, 3}
    assert all(sizes == {federation.study.packing(1).total_bytes} for sizes in uploads(federation).values())
    stored = [*stored_blobs(federation.coordinator_root).values()]
    for site in federation.ids:
        own = own_part(federation, site, initial, rounds=3)
        assert export_personal(federation.site_root(site), tmp_path / f"adapter-{site}") == 3
        found = Adapter.load(tmp_path / f"adapter-{site}")
        names = ("a.lora_B.weight", "b.lora_B.weight")
        assert np.array_equal(np.concatenate([found.tensors[name].ravel() for name in names]), own)
        assert np.array_equal(found.vector(), released.vector())
        left = [path for path in federation.site_root(site).rglob("*") if path.is_file()]
        assert [path.name for path in left if path.parent.name == "personal"] == ["personal-00003.sealed"]
        for data in (*stored, *(path.read_bytes() for path in left)):
            assert own[:8].tobytes() not in data
    with pytest.raises(ConfigError, match="exists already"):
        export_personal(federation.site_root(federation.ids[0]), tmp_path / f"adapter-{federation.ids[0]}")


def own_part(federation: Federation, site: str, initial: Adapter, *, rounds: int) -> Floats:
    """What a rehearsing hospital makes of its own part, by draws of its seed."""
    study = federation.study
    names = ("a.lora_B.weight", "b.lora_B.weight")
    own: Floats = np.concatenate([initial.tensors[name].ravel() for name in names])
    for number in range(1, rounds + 1):
        generator = np.random.Generator(np.random.PCG64(training_seed(study.study.seed, site, number)))
        generator.normal(0.0, 0.004, study.update_dimension(number))
        generator.uniform(0.2, 0.6)
        own = own + np.asarray(generator.normal(0.0, 0.004, own.shape), dtype=np.float32)
    return own
