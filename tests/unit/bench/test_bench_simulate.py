"""`bench simulate`: the real state machines in worker processes, exact sums, costs, and the growth plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedmedlora_bench import simulate
from fedmedlora_bench.growth_plot import plot_growth
from fedmedlora_bench.progress import Progress
from fedmedlora_bench.simulate import DROP_STEPS, Plan, run_growth, run_simulation, simulation_line
from fedmedlora_bench.simulated_sites import Cohort, Setting, StoredShares
from fedmedlora_bench.simulated_workers import Workers
from fedmedlora_cli.bench_commands import app
from fedmedlora_core.errors import ConfigError
from fedmedlora_crypto.secagg import Aggregator, Unmasking
from fedmedlora_crypto.xof import Vector

QUIET = Progress(enabled=False)


@pytest.mark.parametrize("key_agreement", ["hybrid", "x25519"])
@pytest.mark.slow
def test_simulation_on_the_complete_graph_is_exact_and_within_its_bound(key_agreement: str) -> None:
    run = run_simulation(Plan(12, 0.25, 300, key_agreement=key_agreement, workers=2), progress=QUIET)
    assert run["correct"] is True
    assert 0 < run["max_error"] <= run["error_bound"]
    assert (run["graph"], run["neighbours"]) == ("complete", 11)
    assert sum(run["dropped"].values()) == 3
    assert run["survivors"] == 12 - run["dropped"]["share"] - run["dropped"]["upload"]


@pytest.mark.slow
def test_simulation_on_the_sparse_graph_is_exact_and_counts_what_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulate, "COMPLETE_UP_TO", 10)
    run = run_simulation(Plan(24, 0.1, 200, colluding=2, workers=2), progress=QUIET)
    assert run["correct"] is True
    assert run["graph"] == "k-regular"
    assert run["neighbours"] < 23
    assert run["site"]["steps"]["upload"]["sent_bytes"]["max"] == 4 * 201
    keys = run["site"]["steps"]["advertise"]["sent_bytes"]["mean"]
    assert run["site"]["steps"]["share"]["received_bytes"]["mean"] == 24 * keys
    assert set(run["coordinator"]["steps"]) == {"advertise", "share", "upload", "unmask"}
    assert run["coordinator"]["received_bytes"] > 22 * 4 * 201
    assert "exact" in simulation_line(run)


@pytest.mark.slow
def test_a_wrong_sum_is_reported_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    unmask = Aggregator.unmask

    def bending(self: Aggregator, total: Vector, *args: Any, **options: Any) -> Unmasking:
        found = unmask(self, total, *args, **options)
        total[0] += 1
        return found

    monkeypatch.setattr(Aggregator, "unmask", bending)
    run = run_simulation(Plan(6, 0.0, 50, workers=1), progress=QUIET)
    assert run["correct"] is False
    assert "WRONG" in simulation_line(run)


def test_drop_outs_repeat_for_a_seed_and_come_at_every_step() -> None:
    plan = Plan(1000, 0.1)
    gone = plan.drop_outs()
    assert gone == Plan(1000, 0.1).drop_outs() != Plan(1000, 0.1, seed=2).drop_outs()
    assert set(gone) == set(DROP_STEPS)
    assert all(gone.values())
    assert len({party for parties in gone.values() for party in parties}) == 100


def test_more_drop_outs_than_the_threshold_survives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="5 sites would be left, the threshold is 7"):
        Plan(9, 0.45).setting(tmp_path)


def test_stored_shares_are_read_when_asked_for_and_only_those_named(tmp_path: Path) -> None:
    StoredShares(tmp_path, ()).store(3, b"shares")
    StoredShares(tmp_path, ()).store(4, b"other")
    stored = StoredShares(tmp_path, (3,))
    assert dict(stored) == {3: b"shares"}
    assert len(stored) == 1
    with pytest.raises(KeyError):
        stored[4]


def test_a_setting_shows_no_contribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "COMPLETE_UP_TO", 10)
    setting = Plan(24, 0.1, 10, colluding=2).setting(tmp_path)
    assert len(set(setting.contributions.values())) == 24
    assert repr(setting.contributions[1]) not in repr(setting)


@pytest.mark.slow
def test_an_error_in_a_worker_ends_the_simulation_with_its_name(tmp_path: Path) -> None:
    setting = Plan(4, 0.0, 10).setting(tmp_path)
    workers = Workers(setting, 1)
    try:
        assert len(list(workers.advertise((1, 2, 3, 4)))) == 4
        with pytest.raises(RuntimeError, match="NotIncludedError"):
            list(workers.each("share", {}, bytes(32), (1, 2, 3, 4)))
    finally:
        workers.close()


def test_a_cohort_answers_for_its_own_parties_only(tmp_path: Path) -> None:
    setting: Setting = Plan(4, 0.0, 10).setting(tmp_path)
    cohort = Cohort(setting)
    assert [answer.party for answer in cohort.advertise((2, 4))] == [2, 4]
    with pytest.raises(Exception, match="MASKED"):
        list(cohort.agree((1, 2, 3, 4), (1, 2)))


@pytest.mark.slow
def test_growth_runs_every_size_and_draws_a_picture(tmp_path: Path) -> None:
    runs = run_growth(Plan(0, 0.0, 40, workers=1), sizes=(3, 5), progress=QUIET)
    assert [run["sites"] for run in runs] == [3, 5]
    for ending, begins in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        plot_growth(runs, tmp_path / f"growth{ending}")
        assert (tmp_path / f"growth{ending}").read_bytes().startswith(begins)


@pytest.mark.slow
def test_command_writes_json_and_one_line(tmp_path: Path) -> None:
    target = tmp_path / "simulate.json"
    done = CliRunner().invoke(
        app, ["simulate", "--sites", "5", "--dimension", "30", "--drop", "0.2", "--json", str(target)]
    )
    assert done.exit_code == 0, done.output
    run = json.loads(target.read_text())
    assert run["correct"] is True
    assert "5 sites, 1 dropped" in done.stdout


@pytest.mark.parametrize("options", [["--growth"], ["--growth", "--json", "-"], ["--key-agreement", "rsa"]])
def test_command_that_cannot_run_says_so(options: list[str]) -> None:
    done = CliRunner().invoke(app, ["simulate", *options])
    assert isinstance(done.exception, ConfigError)
