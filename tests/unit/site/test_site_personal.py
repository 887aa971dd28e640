"""`site personal`: the adapter that a site uses under mode "sa", read from a folder that nobody works on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.study import Study
from fedmedlora_site.errors import FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.holdings import FolderLock, Holdings
from fedmedlora_site.personal import load_start
from fedmedlora_site.personal_export import export_personal
from fedmedlora_testkit.rehearsal import small_adapter
from fedmedlora_testkit.stage import Stage, play

DRAWN = small_adapter(32)
SHARED_A = Adapter(DRAWN.tensors, ("layer.0.lora_A.weight",), DRAWN.config)


async def into_the_second_round(stage: Stage) -> None:
    await stage.opened()
    await stage.round()
    await stage.trained()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A site that has trained in a closed round and in one that is still open."""
    monkeypatch.setattr("fedmedlora_testkit.stage_site.ADAPTER", SHARED_A)
    return play(tmp_path, into_the_second_round, adapter__mode="sa")


def test_the_export_can_be_used_where_a_released_adapter_can(tmp_path: Path, stage: Stage) -> None:
    """Its part is the last closed round's; the charter lies beside it, as `extract` and `evaluate` ask."""
    out = tmp_path / "mine"
    assert export_personal(stage.root, out) == 1
    held, found = Holdings.open(stage.root), Adapter.load(out)
    own = load_start(held.personal, 1)
    names = ("layer.0.lora_B.weight", "layer.1.lora_B.weight")
    assert own is not None
    assert np.array_equal(np.concatenate([found.tensors[name].ravel() for name in names]), own)
    assert np.array_equal(found.vector(), held.bases.adapter(stage.log.state.base).vector())
    assert Study.from_canonical_json((out / "charter.json").read_bytes()) == stage.study


def test_a_folder_that_an_agent_works_on_is_left_alone(tmp_path: Path, stage: Stage) -> None:
    """Opening it drops torn lines and half-written adapters: those may be what the agent writes now."""
    folder = SiteFolder(stage.root)
    being_written = folder.adapters / ".base-00002.tmp"
    being_written.mkdir()
    lock = FolderLock(folder.lock)
    try:
        with pytest.raises(FolderError, match="another agent is running"):
            export_personal(stage.root, tmp_path / "mine")
    finally:
        lock.release()
    assert being_written.is_dir()
    assert not (tmp_path / "mine").exists()
    assert export_personal(stage.root, tmp_path / "mine") == 1, "the lock is given back"
