"""Whole federations of real processes over loopback: who dies when, and what stays true.

The hospitals rehearse (small deterministic updates without a model), so that a run takes seconds; everything
else is what the demo runs: console scripts, mutual TLS, masks, log, offline verification.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_cli.demo.federation import Federation
from fedmedlora_cli.demo.options import STEPS, DemoOptions, parse_drop
from fedmedlora_cli.demo.records import RoundRow, read_rounds
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.study import Study
from fedmedlora_testkit.demo_stages import agreed, enrolled, federation_of
from fedmedlora_testkit.storm import assert_nothing_acknowledged_is_lost

pytestmark = pytest.mark.slow

ROUNDS = 2


def options_of(out: Path, *, sites: int = 4, drops: Sequence[str] = (), secure: str = "masks") -> DemoOptions:
    """Options of a short rehearsed run."""
    return DemoOptions(
        out=out,
        sites=sites,
        rounds=ROUNDS,
        secure="none" if secure == "none" else "masks",
        drops=tuple(parse_drop(text) for text in drops),
        rehearsal=True,
    )


def lose_patience(settings: Path, *, in_training: bool) -> None:
    """Have the coordinator give up a killed site in seconds; else it waits for every site to come back.

    A site that dies after its training is started again once its round is over, while the others train for
    the next one: that step keeps its long grace time, so that no machine is too slow to be back in time.
    """
    text = settings.read_text()
    training = 6 if in_training else 300
    for key, seconds in (("grace_seconds", 3), ("ready_grace_seconds", training), ("abort_seconds", 9)):
        text = re.sub(rf"^{key} = .*$", f"{key} = {seconds}.0", text, flags=re.MULTILINE)
    settings.write_text(text)


def run_prepared(prepared: Path, out: Path, **options: Any) -> Federation:
    """Run a copy of a prepared federation to its end."""
    shutil.copytree(prepared, out)
    return finished(federation_of(options_of(out, **options)), **options)


def finished(federation: Federation, **options: Any) -> Federation:
    """Run to the end; the verdict on the log must be a pass."""
    if options.get("drops"):
        in_training = any("@train:" in drop for drop in options["drops"])
        lose_patience(federation.coordinator / "coordinator.toml", in_training=in_training)
    federation.train()
    verdict = federation.review()
    assert verdict["verdict"] == "pass", verdict
    return federation


def released(federation: Federation) -> Adapter:
    return Adapter.load(federation.coordinator / "released")


def rows(federation: Federation) -> list[RoundRow]:
    return read_rounds(federation.bundle, Study.load(federation.study))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hospitals that have imported their notes and agreed on nothing yet."""
    return enrolled(options_of(tmp_path_factory.mktemp("imported") / "enrolled"))


@pytest.fixture(scope="module")
def four(imported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hospitals that have accepted a study."""
    return agreed(imported, options_of(tmp_path_factory.mktemp("four") / "prepared"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hospitals that have accepted a study."""
    out = tmp_path_factory.mktemp("three")
    stage = enrolled(options_of(out / "enrolled", sites=3))
    return agreed(stage, options_of(out / "prepared", sites=3))


@pytest.fixture(scope="module")
def undisturbed(four: Path, tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A run in which nobody dies."""
    return run_prepared(four, tmp_path_factory.mktemp("undisturbed") / "run")


def test_masked_and_plain_runs_give_the_same_aggregates_bit_for_bit(
    imported: Path, undisturbed: Federation, tmp_path: Path
) -> None:
    options = options_of(tmp_path / "run", secure="none")
    agreed(imported, options)
    plain = finished(federation_of(options))
    masked_rows, plain_rows = rows(undisturbed), rows(plain)
    assert [row.weight_sum for row in masked_rows] == [row.weight_sum for row in plain_rows]
    assert [row.ring for row in masked_rows] == [row.ring for row in plain_rows]
    assert [row.next_base for row in masked_rows] == [row.next_base for row in plain_rows]
    assert released(undisturbed).digest == released(plain).digest


class OftenKilled(Federation):
    """A federation whose coordinator is killed around its durable write of several steps of round 2."""

    def __init__(self, options: DemoOptions, steps: Sequence[str]) -> None:
        super().__init__(options, lambda party, progress: None)
        self.steps = steps

    def planned_kills(self) -> list[str]:
        return [f"{step}:2:{when}" for step in self.steps for when in ("before", "after")]


@pytest.mark.parametrize(
    "steps", [STEPS[::2], pytest.param(STEPS[1::2], marks=pytest.mark.long)], ids="-".join
)
def test_a_coordinator_killed_around_its_durable_write_ends_with_the_same_adapter(
    four: Path, undisturbed: Federation, tmp_path: Path, steps: Sequence[str]
) -> None:
    """Every step has its kills, and one without any before the next."""
    shutil.copytree(four, tmp_path / "run")
    federation = finished(OftenKilled(options_of(tmp_path / "run"), steps))
    killed = [fault.step for fault in federation.killed]
    assert killed == [step for step in steps for _ in range(2)], "before and after the write"
    assert released(federation).digest == released(undisturbed).digest
    assert [row.next_base for row in rows(federation)] == [row.next_base for row in rows(undisturbed)]
    assert_nothing_acknowledged_is_lost(federation)


@pytest.mark.parametrize(
    "step",
    ["upload", *(pytest.param(s, marks=pytest.mark.long) for s in STEPS if s not in ("upload", "vote"))],
)
def test_a_hospital_that_dies_does_not_cost_the_round(four: Path, tmp_path: Path, step: str) -> None:
    federation = run_prepared(four, tmp_path / "run", drops=[f"site-b@{step}:1"])
    first, second = rows(federation)
    assert [fault.party for fault in federation.killed] == ["site-b"]
    assert first.outcome == second.outcome == "closed"
    present = {"site-a", "site-c", "site-d"}
    uploaded = step in {"survivors", "unmask", "aggregate"}
    assert set(first.survivors) == (present | {"site-b"} if uploaded else present)
    if step == "train":  # away for longer than the grace time: the next round need not wait for it
        assert present <= set(second.survivors)
    else:
        assert set(second.survivors) == present | {"site-b"}, "it is back in the next round"
    assert released(federation).digest == second.next_base


@pytest.mark.long
def test_a_hospital_that_dies_in_the_vote_does_not_cost_it(four: Path, tmp_path: Path) -> None:
    federation = run_prepared(four, tmp_path / "run", drops=["site-b@vote:2"])
    first, second = rows(federation)
    assert [fault.party for fault in federation.killed] == ["site-b"]
    assert (first.voters, second.voters, second.against) == (None, 3, 0)
    assert len(second.survivors) == 4
    assert released(federation).digest == second.next_base


@pytest.mark.long
@pytest.mark.parametrize("step", ["upload", "unmask"])
def test_three_hospitals_are_all_or_abort(three: Path, tmp_path: Path, step: str) -> None:
    federation = run_prepared(three, tmp_path / "run", sites=3, drops=[f"site-b@{step}:1"])
    first, second = rows(federation)
    assert first.outcome == "aborted"
    assert first.ring is None, "nothing was published"
    assert second.outcome == "closed"
    if step != "unmask":
        assert first.responses == (), "nothing was revealed"
