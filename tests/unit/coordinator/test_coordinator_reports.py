"""`status` and `export`: read beside a running coordinator, refuse what does not hold together."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_audit.bundle import read_files
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator import invites, setup
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.ledger import Keys
from fedmedlora_coordinator.reports import export_bundle, status
from fedmedlora_coordinator.study import adopt_study
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward

ALL = ["site-a", "site-b", "site-c", "site-d"]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_status_before_a_study(tmp_path: Path) -> None:
    root = tmp_path / "c"
    setup.init(root, name="n", address="h:1", enrolment_address="h:2")
    invites.invite(root, "site-a")
    assert status(root) == {"serving": False, "enrolled": [], "study": None}
    with pytest.raises(ConfigError, match="no study yet"):
        export_bundle(root, tmp_path / "bundle")


def test_status_says_who_is_awaited_while_the_store_is_open(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=2)
    ward.hospital("site-c").refuses.add("share")
    ward.run(lambda s: s.session is not None and len(s.session.shares) == 3)
    found = status(ward.folder.root)
    assert (found["round"], found["rounds"], found["step"]) == (1, 2, "share")
    assert found["waiting_for"] == ["site-c"]
    assert found["arrived"] == ["site-a", "site-b", "site-d"]
    with ward.folder.locked():
        assert status(ward.folder.root)["serving"] is True


@pytest.mark.parametrize(("bits", "limit", "warned"), [(24, 1, [1, 2]), (32, 50, []), (16, 2, [1, 2])])
def test_status_tells_the_mean_clipped_share_and_where_it_was_too_large(
    tmp_path: Path, bits: int, limit: int, warned: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    # R4.5.7: hospital k declares k thousandths.
    ward = Ward(
        tmp_path,
        rounds=2,
        secure_aggregation__wire_bits=bits,
        secure_aggregation__clipped_warn_permille=limit,
        aggregation__weight_max=1024,
    )
    ward.run()
    found = status(ward.folder.root)
    assert found["clipped_permille"] == {"1": 2.5, "2": 2.5}
    assert found["clipped_too_often"] == warned
    assert [
        int(record.msg.split(":")[0].removeprefix("round "))
        for record in caplog.records
        if "the clip changed" in record.msg
    ] == warned
    released, plain = Adapter.load(ward.folder.released).vector(), ward.expected_vector([ALL] * 2)
    bound = 2 * ward.study.codec().error_bound(weight_sum=64 * 10, m=4) + 1e-6
    assert float(np.abs(released - plain).max()) <= bound


def test_a_bundle_of_a_finished_study_passes_the_verifier(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=2)
    ward.run()
    count = export_bundle(ward.folder.root, tmp_path / "bundle")
    assert count == ward.ledger.size
    trust = Trust.from_terms(ward.terms, genesis=ward.ledger.entries[0].leaf)
    verdict = verify_bundle(tmp_path / "bundle", trust)
    failed = {name: check for name, check in verdict.checks.items() if check.result == "fail"}
    assert not failed
    assert verdict.verdict == "pass"
    export_bundle(ward.folder.root, tmp_path / "bundle.tar.gz")
    assert read_files(tmp_path / "bundle.tar.gz") == read_files(tmp_path / "bundle")
    assert verify_bundle(tmp_path / "bundle.tar.gz", trust).verdict == "pass"
    for name in ("bundle", "bundle.tar.gz"):
        with pytest.raises(ConfigError, match="exists"):
            export_bundle(ward.folder.root, tmp_path / name)


def test_a_changed_store_is_not_exported(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.store.close()
    with sqlite3.connect(ward.folder.store) as connection:
        connection.execute("DROP TRIGGER entries_no_update")
        connection.execute("UPDATE entries SET note = CAST(note || x'20' AS BLOB) WHERE entry_index = 1")
    connection.close()
    with pytest.raises(StoreError, match="entry 1 of the store"):
        export_bundle(ward.folder.root, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_coordinator_runs_one_study_and_only_with_its_own_keys(tmp_path: Path) -> None:
    ward, other = Ward(tmp_path / "one"), Ward(tmp_path / "two")
    keys = Keys(setup.load_event_signer(ward.folder), setup.load_log_signer(ward.folder))
    with pytest.raises(ConfigError, match="keys of another coordinator"):
        adopt_study(ward.folder, other.folder.study, keys)
    longer = ward.study.model_copy(update={"training": ward.study.training.model_copy(update={"rounds": 5})})
    package = tmp_path / "package"
    longer.write(package / "study.toml")
    with pytest.raises(ConfigError, match=r"not an adapter folder|no such file"):
        adopt_study(ward.folder, package, keys)
    (package / "initial").symlink_to(ward.folder.study / "initial")
    with pytest.raises(ConfigError, match="runs another study already"):
        adopt_study(ward.folder, package, keys)
    running = adopt_study(ward.folder, None, keys)
    assert running is not None
    assert running.study.digest == ward.study.digest
