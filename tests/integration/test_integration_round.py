"""Whole runs of real processes over loopback TLS: what comes out, and what the coordinator never holds.

The hospitals rehearse (an update drawn from the training seed), so the test can compute in float64 what the
masked sums must give.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit.bundle import read_files
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import SessionOpened, UpdateReady
from fedmedlora_audit.events import parse_event
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.reports import export_bundle, status
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import read_entries
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.codec import clip_update
from fedmedlora_site.training import training_seed
from fedmedlora_testkit.rehearsal import Federation, finish
from fedmedlora_testkit.stored import stored_blobs

pytestmark = pytest.mark.slow


Floats = np.ndarray[Any, Any]


def rehearsed(federation: Federation, site: str, round_number: int) -> tuple[Floats, int]:
    """(clipped update, weight) that a rehearsing hospital makes in a round."""
    study = federation.study
    generator = np.random.Generator(np.random.PCG64(training_seed(study.study.seed, site, round_number)))
    delta = generator.normal(0.0, 0.004, study.adapter.dimension).astype(np.float32)
    loss = float(generator.uniform(0.2, 0.6))
    clipped, _ = clip_update(delta, clip_value=study.clip_value, clip_norm=study.clip_norm)
    return clipped, study.weight_rule().weight_of(n_notes=6, loss=loss)


def expected(federation: Federation, counted: list[tuple[str, ...]]) -> tuple[Floats, float]:
    """The float64 weighted means added up, and how far the fixed point may be off."""
    vector = federation.adapter.vector().astype(np.float64)
    bound = 1e-7  # float32 rounding of the steps
    for number, sites in enumerate(counted, start=1):
        made = [rehearsed(federation, site, number) for site in sites]
        total = sum(weight for _, weight in made)
        vector = vector + sum(u.astype(np.float64) * w for u, w in made) / total
        bound += federation.study.codec().error_bound(weight_sum=total, m=len(sites)) + 1e-8
    return vector, bound


def run(federation: Federation, *, coordinator: str = "") -> None:
    """Run to the end; a coordinator that was told to die is started again."""
    centre = federation.coordinator(coordinator)
    sites = [federation.site(site) for site in federation.ids]
    if coordinator:
        assert finish(centre) == -9
        centre = federation.coordinator()
    assert [finish(process) for process in sites] == [0] * len(sites)
    assert finish(centre) == 0


def keep_evidence(federation: Federation) -> None:
    """Let the coordinator keep what it was sent, so that a test can look at it."""
    settings = federation.coordinator_root / "coordinator.toml"
    settings.write_text(settings.read_text().replace('"shred"', '"keep"'))


def check_verdict(federation: Federation, bundle: Path) -> None:
    export_bundle(federation.coordinator_root, bundle)
    terms = CharterTerms.from_json(federation.study.canonical_json())
    genesis = leaf_hash(read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))[0].note)
    verdict = verify_bundle(bundle, Trust.from_terms(terms, genesis=genesis))
    assert verdict.verdict == "pass", {k: c for k, c in verdict.checks.items() if c.result == "fail"}


@pytest.mark.parametrize("kill", ["", "upload:1:after", "aggregate:2:before"])
def test_a_run_gives_the_weighted_mean_and_a_bundle_that_passes(tmp_path: Path, kill: str) -> None:
    federation = Federation.build(tmp_path, dimension=300_000)  # two chunks an upload
    run(federation, coordinator=f"die_at={kill!r}" if kill else "")
    found = status(federation.coordinator_root)
    assert (found["closed"], found["run_closed"]) == (2, True)
    released = Adapter.load(federation.coordinator_root / "released")
    vector, bound = expected(federation, [federation.ids] * 2)
    assert float(np.abs(released.vector() - vector).max()) <= bound
    for site in federation.ids:
        newest = max((federation.site_root(site) / "run" / "adapters").glob("base-*"))
        own = Adapter.load(newest)
        assert own.digest == released.digest == found["released"]
    check_verdict(federation, tmp_path / "bundle")


def test_a_study_on_a_sparse_graph_closes_with_the_weighted_mean(tmp_path: Path) -> None:
    # R6.15.1, R6.15.6: real sites commit, reveal, fetch their neighbours' shares only, and open the sum
    ids = tuple(f"site-{name}" for name in "abcdefghi")
    graph = {"neighbours": 6, "share_threshold": 5, "window_survivors": 2}
    federation = Federation.build(tmp_path, ids=ids, rounds=2, graph=graph)
    run(federation)
    found = status(federation.coordinator_root)
    assert (found["closed"], found["run_closed"]) == (2, True)
    vector, bound = expected(federation, [ids] * 2)
    released = Adapter.load(federation.coordinator_root / "released")
    assert float(np.abs(released.vector() - vector).max()) <= bound
    check_verdict(federation, tmp_path / "bundle")
    ready = [
        event.data
        for entry in read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))
        if (event := parse_event(entry.note).event).type == "update.ready"
    ]
    assert len({data.graph for data in ready if isinstance(data, UpdateReady)} - {None}) == 18


def signed(words: Floats, bits: int) -> Floats:
    """Ring elements as the numbers around zero that they stand for."""
    return ((words << np.uint32(32 - bits)).view(np.int32) >> np.int32(32 - bits)).astype(np.float64)


def uploads_seen(federation: Federation) -> list[Floats]:
    """What the coordinator could decode of every blob of an upload's size, taken as if it were not masked."""
    seen = []
    codec, packing = federation.study.codec(), federation.study.packing()
    for data in stored_blobs(federation.coordinator_root).values():
        if len(data) == packing.total_bytes:
            values = signed(packing.read_bytes(data)[:-2], codec.ring_bits)
            seen.append(values / codec.scale * codec.weight_max)
    return seen


def leaks(federation: Federation) -> int:
    """Count the updates of single sites that lie on the coordinator's disk, up to a factor."""
    found = 0
    for values in uploads_seen(federation):
        for site in federation.ids:
            for number in (1, 2):
                update, _ = rehearsed(federation, site, number)
                found += abs(float(np.corrcoef(values, update)[0, 1])) > 0.9
    return found


@pytest.mark.parametrize(("mode", "expected_leaks"), [("masks", 0), ("none", 8)])
def test_the_coordinators_disk_holds_no_sites_update(tmp_path: Path, mode: str, expected_leaks: int) -> None:
    """With the masks off the same search finds all eight updates, so it can find one."""
    federation = Federation.build(tmp_path, mode=mode)
    keep_evidence(federation)
    run(federation)
    assert len(uploads_seen(federation)) == 10  # eight uploads and two sums
    assert leaks(federation) == expected_leaks


@pytest.mark.parametrize("planted", [False, True])
def test_no_text_of_a_note_reaches_the_coordinator(tmp_path: Path, planted: bool) -> None:
    federation = Federation.build(tmp_path, rounds=1)
    keep_evidence(federation)
    run(federation)
    export_bundle(federation.coordinator_root, tmp_path / "bundle")
    if planted:
        (federation.coordinator_root / "blobs" / "planted").write_bytes(b"xx chest pain xx")
    contents = [path.read_bytes() for path in federation.coordinator_root.rglob("*") if path.is_file()]
    contents += list(read_files(tmp_path / "bundle")[0].values())
    contents += list(stored_blobs(federation.coordinator_root).values())
    contents.append((tmp_path / "coordinator.log").read_bytes())
    marks = (b"chest pain", b"Canary", b"-patient-")
    assert any(mark in content for content in contents for mark in marks) is planted


def test_two_hospitals_that_die_and_come_back_get_another_attempt(tmp_path: Path) -> None:
    """Both updates are kept and encrypted on disk, so the round closes in a second attempt.

    It is opened as soon as enough hospitals are there (R5.2.3): the slower of the two may have to stay out.
    """
    federation = Federation.build(tmp_path, rounds=1)
    centre = federation.coordinator()
    steady = [federation.site(site) for site in federation.ids[:2]]
    for process in [federation.site(site, "die_at='upload:1'") for site in federation.ids[2:]]:
        assert finish(process) == -9
    back = [federation.site(site) for site in federation.ids[2:]]
    assert [finish(process) for process in (*steady, *back, centre)] == [0] * 5
    entries = read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))
    said = [parse_event(entry.note).event for entry in entries]
    opened = [event.data for event in said if isinstance(event.data, SessionOpened)]
    assert len(opened) == 2
    assert set(opened[0].ready) == set(federation.ids)
    assert set(federation.ids[:2]) < set(opened[1].ready), "and one or both of those that died"
    vector, bound = expected(federation, [tuple(opened[1].ready)])
    released = Adapter.load(federation.coordinator_root / "released")
    assert float(np.abs(released.vector() - vector).max()) <= bound
    check_verdict(federation, tmp_path / "bundle")
