"""What a node of a Ray cluster checks before it runs a job; whole clusters are in the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_bench.grid import is_finished
from fedmedlora_bench.grid.job import running_versions
from fedmedlora_bench.grid.ray_cluster import run_on_node
from fedmedlora_core.errors import ConfigError
from fedmedlora_testkit.ray_grid import Errand


def test_node_with_the_same_code_and_disk_runs_the_job(tmp_path: Path) -> None:
    job = Errand("look")
    run_on_node(job, tmp_path, running_versions())
    run_on_node(job, tmp_path, running_versions())  # as after a node that died when all was written
    assert is_finished(job, tmp_path)
    assert (tmp_path / "attempts").read_text().split() == ["look"]


def test_node_that_would_give_figures_of_its_own_is_named(tmp_path: Path) -> None:
    job, versions = Errand("look"), running_versions()
    with pytest.raises(
        ConfigError, match=r"^node \S+: there is no .*away: every node must see the work folder"
    ):
        run_on_node(job, tmp_path / "away", versions)
    with pytest.raises(
        ConfigError, match=r"code is \w{12}, the driver's is 0000: install the same on every node"
    ):
        run_on_node(job, tmp_path, {**versions, "code": "0000"})
    with pytest.raises(ConfigError, match=r"torch is \S+, the driver's is missing"):
        run_on_node(job, tmp_path, {name: value for name, value in versions.items() if name != "torch"})
    assert not (tmp_path / "attempts").exists()
