"""Federations of real processes under CKKS: the same sums as masks, and a key holder that may die.

The hospitals rehearse, as in `test_integration_faults`; keys, ciphertexts, sums, log and verdict are real.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_cli.demo.federation import Federation
from fedmedlora_cli.demo.options import DemoOptions, parse_coordinator_kill, parse_drop
from fedmedlora_cli.demo.records import RoundRow, read_rounds
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.study import Study
from fedmedlora_testkit.demo_stages import agreed, enrolled, federation_of

pytestmark = pytest.mark.slow


def options_of(out: Path, **options: Any) -> DemoOptions:
    return DemoOptions(out=out, rounds=2, rehearsal=True, **options)


def run(prepared: Path, out: Path, **options: Any) -> tuple[Federation, list[RoundRow]]:
    """Run a copy of a prepared federation to its end; the verdict on its log must be a pass."""
    shutil.copytree(prepared, out)
    federation = federation_of(options_of(out, **options))
    if options.get("drops"):
        settings = federation.coordinator / "coordinator.toml"
        text = settings.read_text()
        for key, seconds in (("grace_seconds", 3), ("ready_grace_seconds", 120), ("abort_seconds", 9)):
            text = re.sub(rf"^{key} = .*$", f"{key} = {seconds}.0", text, flags=re.MULTILINE)
        settings.write_text(text)
    federation.train()
    verdict = federation.review()
    assert verdict["verdict"] == "pass", verdict
    return federation, read_rounds(federation.bundle, Study.load(federation.study))


def released(federation: Federation) -> str:
    return Adapter.load(federation.coordinator / "released").digest


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hospitals that have imported their notes and agreed on nothing yet."""
    return enrolled(options_of(tmp_path_factory.mktemp("four") / "enrolled"))


@pytest.fixture(scope="module")
def encrypted(four: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The hospitals with an accepted study under CKKS, by who has the key."""
    root = tmp_path_factory.mktemp("encrypted")
    return {
        custody: agreed(four, options_of(root / custody, secure="ckks", ckks_custody=custody))
        for custody in ("holder", "shared")
    }


@pytest.fixture(scope="module")
def masked(four: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Federation, list[RoundRow]]:
    """The same study with masks."""
    root = tmp_path_factory.mktemp("masked")
    return run(agreed(four, options_of(root / "prepared", vote_every=0)), root / "run", vote_every=0)


@pytest.mark.long
@pytest.mark.parametrize("custody", ["holder", "shared"])
def test_encrypted_and_masked_federations_end_with_the_identical_adapter(
    masked: tuple[Federation, list[RoundRow]], encrypted: dict[str, Path], tmp_path: Path, custody: str
) -> None:
    federation, rows = run(encrypted[custody], tmp_path / "run", secure="ckks", ckks_custody=custody)
    assert [row.ring for row in rows] == [row.ring for row in masked[1]]
    assert [row.weight_sum for row in rows] == [row.weight_sum for row in masked[1]]
    assert released(federation) == released(masked[0])
    keys = sorted(str(path.parent.parent.name) for path in federation.out.rglob("ckks.key"))
    assert keys == (["site-a"] if custody == "holder" else list(federation.options.site_ids))


def test_a_coordinator_killed_around_the_sum_ends_with_the_identical_adapter(
    masked: tuple[Federation, list[RoundRow]], encrypted: dict[str, Path], tmp_path: Path
) -> None:
    kill = parse_coordinator_kill("unmask:2")
    federation, rows = run(encrypted["holder"], tmp_path / "run", secure="ckks", coordinator_kill=kill)
    assert len(federation.killed) == 2
    assert [row.ring for row in rows] == [row.ring for row in masked[1]]
    assert released(federation) == released(masked[0])


@pytest.mark.parametrize("step", ["upload", "unmask"])
@pytest.mark.long
def test_a_key_holder_that_is_killed_costs_one_round(
    encrypted: dict[str, Path], tmp_path: Path, step: str
) -> None:
    """R6.16.8."""
    drops = (parse_drop(f"site-a@{step}:1"),)
    _, (first, second) = run(encrypted["holder"], tmp_path / "run", secure="ckks", drops=drops)
    assert (first.outcome, second.outcome) == ("aborted", "closed")
    assert first.ring is None, "nothing was published"
    assert "site-a" not in first.responses
    assert "site-a" in second.survivors


def test_another_site_that_is_killed_costs_nothing(encrypted: dict[str, Path], tmp_path: Path) -> None:
    drops = (parse_drop("site-b@unmask:1"),)
    _, (first, second) = run(encrypted["holder"], tmp_path / "run", secure="ckks", drops=drops)
    assert (first.outcome, second.outcome) == ("closed", "closed")
    assert set(second.survivors) == {"site-a", "site-b", "site-c", "site-d"}
