"""The global adapter is computed at the site, or the aggregate is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_core.aggregation import server_step
from fedmedlora_core.study import Study
from fedmedlora_site.bases import KEPT_FOLDERS, Bases
from fedmedlora_site.errors import FolderError, StepRefusal
from fedmedlora_testkit.rehearsal import small_adapter
from fedmedlora_testkit.studies import make_study

DIMENSION = 40
ADAPTER = small_adapter(DIMENSION)
STUDY = make_study(initial_digest=ADAPTER.digest, dimension=DIMENSION)
WEIGHTS = [STUDY.aggregation.weight_max // part for part in (8, 4, 2)]


@pytest.fixture
def bases(tmp_path: Path) -> Bases:
    ADAPTER.save(tmp_path / "initial")
    return Bases(STUDY, tmp_path / "initial", tmp_path / "adapters")


def encodings(study: Study, weights: list[int], value: float, clipped: int = 0) -> bytes:
    codec = study.codec()
    total = np.zeros(study.adapter.dimension + 2, dtype=np.uint32)
    for weight in weights:
        delta = np.full(study.adapter.dimension, value, dtype=np.float32)
        total += codec.encode(
            delta, weight=weight, words=lambda _, n: np.zeros(n, dtype=np.uint32), extras=(clipped,)
        )
    return packed(total)


def packed(total: np.ndarray[Any, Any]) -> bytes:
    return b"".join(STUDY.packing().frames_of(total))


def test_an_honest_sum_leads_to_the_next_base(bases: Bases) -> None:
    found = bases.derive(ADAPTER.digest, encodings(STUDY, WEIGHTS, 0.01), round_number=1, sites=3)
    assert found.weight_sum == sum(WEIGHTS)
    average = np.full(DIMENSION, 0.01, dtype=np.float32)
    expected = server_step(ADAPTER.vector(), average, learning_rate=STUDY.server_learning_rate)
    bound = STUDY.codec().error_bound(weight_sum=sum(WEIGHTS), m=3)
    assert np.allclose(found.vector, expected, rtol=0, atol=bound + 1e-7)
    assert found.digest == found.adapter.digest
    folder = bases.keep(found, round_number=1)
    assert bases.holds(found.digest)
    assert bases.folder(found.digest) == folder


def test_adapters_survive_a_restart_and_a_torn_folder(tmp_path: Path, bases: Bases) -> None:
    found = bases.derive(ADAPTER.digest, encodings(STUDY, WEIGHTS, 0.01), round_number=1, sites=3)
    folder = bases.keep(found, round_number=1)
    (tmp_path / "adapters" / ".base-2.tmp").mkdir()
    again = Bases(STUDY, tmp_path / "initial", tmp_path / "adapters")
    assert again.holds(found.digest)
    assert again.adapter(found.digest).digest == found.digest
    blob = bytearray((folder / "adapter_model.safetensors").read_bytes())
    blob[-1] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(blob)
    assert not Bases(STUDY, tmp_path / "initial", tmp_path / "adapters").holds(found.digest)


def refused(bases: Bases, ring: bytes, sites: int) -> str:
    with pytest.raises(StepRefusal) as found:
        bases.derive(ADAPTER.digest, ring, round_number=1, sites=sites)
    assert found.value.reason == "bad_aggregate"
    return str(found.value)


def test_a_weight_beyond_the_sites_is_refused(bases: Bases) -> None:
    # R4.4.2
    most = STUDY.aggregation.weight_max
    assert "weight sum" in refused(bases, encodings(STUDY, [most, most], 0.01), sites=1)


def test_a_weight_of_nothing_is_refused(bases: Bases) -> None:
    assert "weight sum" in refused(bases, bytes(STUDY.packing().total_bytes), sites=3)


def test_an_average_beyond_the_clip_is_refused(bases: Bases) -> None:
    # R4.4.2
    """A wrapped or invented sum: far outside what clipped updates can average to."""
    ring = STUDY.packing().read_bytes(encodings(STUDY, WEIGHTS, 0.01))
    ring[7] = STUDY.codec().half - 1
    assert "exceeds the clip" in refused(bases, packed(ring), sites=3)


def test_a_sum_of_another_length_is_refused(bases: Bases) -> None:
    assert "bytes, expected" in refused(bases, encodings(STUDY, WEIGHTS, 0.01)[:-3], sites=3)


def test_clipped_shares_beyond_the_sites_are_refused(bases: Bases) -> None:
    # R4.5.6
    found = bases.derive(ADAPTER.digest, encodings(STUDY, WEIGHTS, 0.01, clipped=20), round_number=1, sites=3)
    assert found.clipped_permille == 20.0
    ring = STUDY.packing().read_bytes(encodings(STUDY, WEIGHTS, 0.01, clipped=1000))
    ring[-1] += 1
    assert "clipped shares" in refused(bases, packed(ring), sites=3)


def test_without_the_bounds_an_invented_sum_would_be_taken(
    bases: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = STUDY.packing().read_bytes(encodings(STUDY, WEIGHTS, 0.01))
    ring[7] = STUDY.codec().half - 1
    monkeypatch.setattr("fedmedlora_core.codec.Codec.error_bound", lambda *_, **__: float("inf"))
    found = bases.derive(ADAPTER.digest, packed(ring), round_number=1, sites=3)
    assert np.abs(found.vector).max() > STUDY.clip_value


def test_another_initial_adapter_is_refused(tmp_path: Path) -> None:
    small_adapter(DIMENSION, seed=2).save(tmp_path / "initial")
    with pytest.raises(FolderError, match="not the initial adapter"):
        Bases(STUDY, tmp_path / "initial", tmp_path / "adapters")
    shutil.rmtree(tmp_path / "initial")
    with pytest.raises(FolderError):
        Bases(STUDY, tmp_path / "initial", tmp_path / "adapters")


def test_old_folders_are_pruned_and_the_newest_lead_on(tmp_path: Path, bases: Bases) -> None:
    digests = [ADAPTER.digest]
    for number in range(1, 6):
        found = bases.derive(digests[-1], encodings(STUDY, WEIGHTS, 0.01), round_number=1, sites=3)
        bases.keep(found, round_number=number)
        digests.append(found.digest)
    assert [bases.holds(digest) for digest in digests] == [True, False, False, True, True, True]
    assert len(list((tmp_path / "adapters").iterdir())) == KEPT_FOLDERS
    again = Bases(STUDY, tmp_path / "initial", tmp_path / "adapters")
    assert again.adapter(digests[-1]).digest == digests[-1]


def test_an_adapter_damaged_since_is_not_trained_from(bases: Bases) -> None:
    one = bases.derive(ADAPTER.digest, encodings(STUDY, WEIGHTS, 0.01), round_number=1, sites=3)
    bases.keep(one, round_number=1)
    two = bases.derive(one.digest, encodings(STUDY, WEIGHTS, 0.01), round_number=1, sites=3)
    bases.keep(two, round_number=2)
    assert bases.holds(one.digest)
    assert bases.adapter(two.digest).digest == two.digest
    blob = bytearray((bases.folder(one.digest) / "adapter_model.safetensors").read_bytes())
    blob[-1] ^= 1
    (bases.folder(one.digest) / "adapter_model.safetensors").write_bytes(blob)
    with pytest.raises(FolderError, match="changed on disk"):
        bases.adapter(one.digest)


@pytest.mark.parametrize("forgotten", [True, False])
def test_adapters_of_rounds_that_were_rolled_back_push_no_base_out(bases: Bases, forgotten: bool) -> None:
    """R4.7.7; without forgetting them, three refused rounds would cost the site its base."""
    base = bases.derive(ADAPTER.digest, encodings(STUDY, WEIGHTS, 0.01), round_number=1, sites=3)
    bases.keep(base, round_number=1)
    for number in range(2, 2 + KEPT_FOLDERS):
        refused = bases.derive(base.digest, encodings(STUDY, WEIGHTS, 0.01 * number), round_number=1, sites=3)
        bases.keep(refused, round_number=number)
        if forgotten:
            bases.forget(refused.digest)
            assert not bases.holds(refused.digest)
    assert bases.holds(base.digest) is forgotten
    bases.forget(ADAPTER.digest)
    assert bases.holds(ADAPTER.digest), "the study package's own adapter stays"


def test_damaged_folders_push_out_no_adapter_that_is_derived_again(tmp_path: Path, bases: Bases) -> None:
    """R4.9.5: also when everything that was kept is damaged, as by a backup that lacks some files."""
    digests = [ADAPTER.digest]
    for number in range(1, KEPT_FOLDERS + 3):
        found = bases.derive(digests[-1], encodings(STUDY, WEIGHTS, 0.01), round_number=1, sites=3)
        bases.keep(found, round_number=number)
        digests.append(found.digest)
    for kept in (tmp_path / "adapters").iterdir():
        (kept / "digest").unlink()
    again = Bases(STUDY, tmp_path / "initial", tmp_path / "adapters")
    assert [again.holds(digest) for digest in digests] == [True, *[False] * (KEPT_FOLDERS + 2)]
    for number, digest in enumerate(digests[:-1], start=1):
        found = again.derive(digest, encodings(STUDY, WEIGHTS, 0.01), round_number=1, sites=3)
        again.keep(found, round_number=number)
        assert again.holds(found.digest)
    assert again.adapter(digests[-1]).digest == digests[-1]
    assert len(list((tmp_path / "adapters").iterdir())) == KEPT_FOLDERS
