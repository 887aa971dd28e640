"""`bench ckks`: both ways from the same updates to the same ring, with what each costs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_bench import ckks
from fedmedlora_cli.__main__ import main


@pytest.mark.slow
def test_both_ways_end_in_one_sum_and_the_costs_stand_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ckks.json"
    with pytest.raises(SystemExit) as ended:
        main(["bench", "ckks", "--values", "70000", "--sites", "3", "--cores", "1", "--json", str(file)])
    assert ended.value.code == 0
    result = json.loads(file.read_text())
    masks, encrypted = result["rows"]
    assert [row["way"] for row in result["rows"]] == ["masks", "ckks"]
    assert masks["ring_equal"] and encrypted["ring_equal"]
    assert masks["mean_error"] == encrypted["mean_error"] <= encrypted["mean_bound"]
    assert 0 < encrypted["deviation_quanta"] < 0.25
    assert 8.0 <= encrypted["expansion"] < 8.5 and masks["expansion"] < 1.01
    assert encrypted["site_seconds"] > masks["site_seconds"] > 0
    assert len(result["plans"]) == 1
    spoken = capsys.readouterr()
    assert "times plain fp32" in spoken.err, "the plan is said before anything is encrypted"
    assert "trusts" in spoken.out.replace("\n", " ")


def test_a_way_that_gives_another_sum_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ckks.Updates, "ring_sum", lambda self: np.zeros(self.values + 1, dtype=np.uint32))
    with pytest.raises(RuntimeError, match="not the plain one"):
        ckks.run_ckks((1000,), sites=3)
