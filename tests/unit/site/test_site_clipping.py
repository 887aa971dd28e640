"""What the clip took: the own share stays at home, the study's mean comes out of the published sum."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_site.clipping import ClippingRecord
from fedmedlora_site.reports import status
from fedmedlora_testkit.stage import Scene, Stage, play, reasons


def test_shares_survive_a_restart_and_a_torn_line(tmp_path: Path) -> None:
    record = ClippingRecord(tmp_path / "clipping.jsonl")
    record.record_own(1, 30)
    record.record_study(1, 61.25, warned=True)
    record.record_own(2, 0)
    with (tmp_path / "clipping.jsonl").open("ab") as file:
        file.write(b'{"round": 3, "own_per')
    again = ClippingRecord(tmp_path / "clipping.jsonl")
    assert again.own == {"1": 30, "2": 0}
    assert again.study == {"1": 61.2}
    assert again.warned == {1}


def scene(clipped: int) -> Scene:
    async def act(stage: Stage) -> None:
        stage.clipped = clipped
        await stage.opened()
        await stage.round()

    return act


def test_the_own_share_stays_at_the_site_and_the_mean_comes_out_of_the_sum(tmp_path: Path) -> None:
    # R4.5.5: the other sites of the stage declare 0, 1 and 2 thousandths.
    stage = play(tmp_path, scene(clipped=0))
    found = status(stage.root)
    own = found["clipped_permille"]["1"]
    assert found["clipped_permille_study"] == {"1": round((own + 3) / 4, 1)}
    said = b"".join(entry.note for entry in stage.log.entries)
    assert b"clipped" not in said
    assert b"permille" not in said


@pytest.mark.parametrize(("clipped", "warned"), [(0, set()), (400, {1})])
def test_a_mean_above_the_limit_warns_and_refuses_nothing(
    tmp_path: Path, clipped: int, warned: set[int]
) -> None:
    # R4.5.7
    stage = play(tmp_path, scene(clipped))
    assert ClippingRecord(stage.root / "run" / "clipping.jsonl").warned == warned
    assert reasons(stage) == []
    assert len(stage.log.state.closed_rounds) == 1
